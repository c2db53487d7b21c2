"""Appraises a folder of exported evidence, offline: for finding out why, never for trusting the host.

The quote is checked with the attestation key in the folder, so logs and quote belong together. Whose key that is, and
when the quote was made, nobody has checked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchword.cli.profile import read_bounded
from watchword.crypto import dsse
from watchword.errors import Finding, MalformedError, Rejected, UsageError
from watchword.policy.appraise import Appraisal, appraise
from watchword.policy.profile import Profile
from watchword.policy.release import StackRelease
from watchword.policy.stack import MAX_STACK_SIZE, PAYLOAD_TYPE, CompiledStack
from watchword.verify.ak import restore_ak
from watchword.verify.ek import EkClass, host_id
from watchword.verify.host import VerifiedHost, verify_host
from watchword.wire import ima_log, tcg_log
from watchword.wire.tpm.algorithms import Alg, alg_by_name
from watchword.wire.tpm.pcr import PcrValues
from watchword.wire.tpm.public import Public

__all__ = ["NOT_CHECKED", "EvidenceFolder", "appraise_folder", "read_release"]

NOT_CHECKED = (
    "whether the TPM is genuine and whose it is",
    "when the evidence was collected",
    "signatures of endorsers",
    "whether host or stack were revoked",
)
_MAX_SMALL = 64 * 1024  # bytes of a quote, a key or the PCR values
_NONCE_SIZE = 32
_MAX_ENTRIES = 1 << 22  # the folder has the whole log of a host that sends it in parts
_HINT = "Collect it again on the host: watchword agent evidence FOLDER"


@dataclass(frozen=True, slots=True)
class EvidenceFolder:
    """The files that ``watchword agent evidence`` writes, read and bounded, nothing verified."""

    nonce: bytes
    attest: bytes
    signature: bytes
    pcrs: PcrValues
    event_log: bytes
    ima_log: bytes
    ek_public: bytes
    ak_public: bytes

    @classmethod
    def read(cls, folder: Path) -> EvidenceFolder:
        """Read ``folder``. Raises :class:`UsageError` (``evidence-incomplete``) for a missing file,
        :class:`MalformedError` for PCR values that are none."""
        return cls(
            nonce=_nonce(_file(folder, "nonce", _NONCE_SIZE)),
            attest=_file(folder, "quote.attest", _MAX_SMALL),
            signature=_file(folder, "quote.signature", _MAX_SMALL),
            pcrs=_pcrs(_file(folder, "pcrs.json", _MAX_SMALL)),
            event_log=_file(folder, "event.log", tcg_log.MAX_LOG),
            # The agent leaves out what is empty: a kernel without IMA has no log.
            ima_log=_file(folder, "ima.log", ima_log.MAX_LOG) if (folder / "ima.log").exists() else b"",
            ek_public=_file(folder, "ek.public", _MAX_SMALL),
            ak_public=_file(folder, "ak.public", _MAX_SMALL),
        )


def appraise_folder(
    evidence: EvidenceFolder, profile: Profile, releases: Sequence[StackRelease], now: int, ek_class: EkClass
) -> tuple[tuple[Finding, ...], Appraisal | None]:
    """The findings of a refusal at the authenticity stage, or an appraisal as if ``evidence`` were fresh at ``now``.

    ``ek_class`` is taken for granted. Never raises for bad evidence.
    """
    try:
        host = _verify(evidence, profile, ek_class)
        return (), appraise(host, profile, releases, now, challenged_at=now)
    except Rejected as rejected:
        return rejected.findings, None
    except MalformedError as error:
        return (Finding("C1", "evidence-malformed", error.message),), None


def read_release(file: Path, profile: Profile) -> StackRelease:
    """A stack document, or the endorsed one in a DSSE envelope, as if every endorser that ``profile`` names had signed.

    Raises :class:`MalformedError` when it is neither.
    """
    data = read_bounded(file, 2 * MAX_STACK_SIZE)
    if b'"payloadType"' in data[:_MAX_SMALL] or b'"payloadType"' in data[-_MAX_SMALL:]:
        kind, payload, _ = dsse.open_unverified(data, max_size=2 * MAX_STACK_SIZE)
        if kind != PAYLOAD_TYPE:
            raise MalformedError(f"{file.name}: is a signed {kind[:80]!r}, not a stack")
        data = payload
    stack = CompiledStack.parse(data)
    keys = [level.rules.endorsers.keys for level in profile.levels if level.rules.endorsers is not None]
    return StackRelease(stack, stack.digest, frozenset(key for named in keys for key in named))


def _verify(evidence: EvidenceFolder, profile: Profile, ek_class: EkClass) -> VerifiedHost:
    host = host_id(Public.parse(evidence.ek_public))
    return verify_host(
        ak=restore_ak(host, evidence.ek_public, evidence.ak_public, ek_class),
        revoked=False,
        attest=evidence.attest,
        signature=evidence.signature,
        pcrs=evidence.pcrs,
        event_log=evidence.event_log,
        ima_log=evidence.ima_log,
        binding=evidence.nonce,
        selections=profile.selections(),
        last=None,
        seen=None,
        max_ahead=profile.max_log_ahead,
        max_entries=_MAX_ENTRIES,
    )


def _file(folder: Path, name: str, limit: int) -> bytes:
    try:
        return read_bounded(folder / name, limit)
    except FileNotFoundError:
        raise UsageError("evidence-incomplete", f"there is no {name} in {folder}", hint=_HINT) from None


def _nonce(data: bytes) -> bytes:
    if len(data) != _NONCE_SIZE:
        raise MalformedError(f"nonce: {len(data)} bytes, it has {_NONCE_SIZE}")
    return data


def _pcrs(data: bytes) -> PcrValues:
    try:
        document: Any = json.loads(data)
        return {_bank(name): {int(pcr): bytes.fromhex(value) for pcr, value in values.items()}
                for name, values in document.items()}  # fmt: skip
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise MalformedError("pcrs.json: is not PCR values by bank and number") from None


def _bank(name: str) -> Alg:
    try:
        return alg_by_name(name)
    except UsageError as error:  # the name is the file's, not the caller's
        raise ValueError(error.message) from None
