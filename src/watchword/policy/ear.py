"""EAT Attestation Results: what an appraisal found, in the form that relying parties of any verifier can read.

A host that reached the level asked for is "affirming", one that did not is "contraindicated" whatever its single
claims say, and a refusal that is not about the host (a token used up) is "none". The vector affirms only what a check
proved; which finding contradicts which claim is the table in ``policy.trustworthiness``.
Source: draft-ietf-rats-ear; draft-ietf-rats-ar4si.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from watchword.crypto import jwt
from watchword.crypto.ed25519 import Ed25519Signer
from watchword.errors import Finding, Rejected
from watchword.policy.appraise import Appraisal
from watchword.policy.ear_claims import Ear, Submodule, VerifierId
from watchword.policy.trustworthiness import Claim, Tier, contradicted, entry_for
from watchword.verify.ek import EkClass

__all__ = [
    "EXTENSION",
    "SUBMODULE",
    "Ear",
    "Submodule",
    "VerifierId",
    "from_appraisal",
    "sign",
    "submodule_of",
    "verify",
]

SUBMODULE = "host"
EXTENSION = "ear_watchword_appraisal"
_POLICY_PREFIX = "urn:watchword:profile:"
_AFFIRMED = 2  # recognised, approved, genuine
_APPROVED_BOOT = 3  # executables: approved as far as the boot goes
_SECURE_BOOT_PCR = 7
_MAX_AHEAD = 60  # seconds that the clocks of verifier and relying party may differ
_MAX_FINDINGS = 50
_CLIP = 400  # characters: evidence is untrusted, a result travels far


def from_appraisal(
    outcome: Appraisal | Sequence[Finding],
    verifier: VerifierId,
    now: int,
    *,
    required: int | None = None,
    profile_id: bytes | None = None,
    nonce: str | None = None,
    expires: int | None = None,
) -> bytes:
    """The claims of a result, ready for :func:`sign`.

    ``outcome`` is an appraisal, or the findings of a refusal that never got that far; ``required`` the rank that the
    host had to reach (1 is the lowest level; None: any level); ``profile_id`` (32 bytes) names the policy when there
    is no appraisal to tell; ``nonce`` is a relying party's (8 to 88 characters); ``now`` and ``expires`` Unix seconds.
    The host is not named: a relying party that needs its pseudonym takes the receipt. Raises ValueError for no
    findings at all, which would be a refusal without a reason.
    """
    submodule = submodule_of(outcome, required=required, profile_id=profile_id)
    nonces = () if nonce is None else (nonce,)
    return Ear(now, verifier, {SUBMODULE: submodule}, expires=expires, nonces=nonces).encode()


def submodule_of(
    outcome: Appraisal | Sequence[Finding], *, required: int | None = None, profile_id: bytes | None = None
) -> Submodule:
    """What :func:`from_appraisal` says about the host, alone."""
    if isinstance(outcome, Appraisal):
        return _appraised(outcome, required)
    return _refused(outcome, profile_id)


def sign(claims: bytes, key: Ed25519Signer) -> bytes:
    """The signed result: a JWT under the authority's signing key."""
    return jwt.sign(claims, key)


def verify(token: bytes, trusted: Mapping[str, Ed25519PublicKey], now: int) -> Ear:
    """Check a signed result (a JWT of at most 512 KiB) against ``trusted`` keys by id, at ``now`` (Unix seconds).

    Raises MalformedError, or Rejected with what ``crypto.jwt.verify`` raises, ``ear-future`` or ``ear-expired``.
    The caller still has to look at ``status``: a genuine result may well say that a host is not to be trusted.
    """
    ear = Ear.parse(jwt.verify(token, trusted).payload)
    if ear.issued > now + _MAX_AHEAD:
        text = "the result was issued in the future"
        raise Rejected(Finding("J4", "ear-future", text, f"by {now}", f"at {ear.issued}"))
    if ear.expires is not None and now >= ear.expires:
        raise Rejected(Finding("J4", "ear-expired", "the result has expired", f"before {ear.expires}", f"at {now}"))
    return ear


def _appraised(appraisal: Appraisal, required: int | None) -> Submodule:
    wanted = 1 if required is None else required
    reached = 1 <= wanted <= appraisal.rank  # as Appraisal.approve has it
    rank = appraisal.rank if reached else min(max(wanted, 1), len(appraisal.levels))
    # A level stands by itself: what a lower or higher one would have found is no finding of this one.
    findings = appraisal.levels[rank - 1].findings
    return Submodule(
        status=Tier.AFFIRMING if reached else Tier.CONTRAINDICATED,
        vector=_affirmed(appraisal, rank) | contradicted(findings),
        policy_ids=(_POLICY_PREFIX + appraisal.profile.id.hex(),),
        extensions={EXTENSION: _extension(findings, appraisal)},
    )


def _affirmed(appraisal: Appraisal, rank: int) -> dict[Claim, int]:
    """What the checks proved, before any finding of the level replaces it."""
    vector = {Claim.INSTANCE_IDENTITY: _AFFIRMED}
    if appraisal.host.ak.ek_class is EkClass.HARDWARE:
        vector[Claim.HARDWARE] = _AFFIRMED
    release = appraisal.release
    if release is None:
        return vector
    if _SECURE_BOOT_PCR in release.stack.pcrs:
        vector[Claim.CONFIGURATION] = _AFFIRMED
    listed = appraisal.profile.levels[rank - 1].rules.runtime == "listed"
    vector[Claim.EXECUTABLES] = _AFFIRMED if listed else _APPROVED_BOOT
    return vector


def _refused(findings: Sequence[Finding], profile_id: bytes | None) -> Submodule:
    fatal = [finding for finding in findings if finding.fatal]
    if not fatal:
        raise ValueError("a refusal needs a finding")
    about_host = any(entry_for(finding) is not None for finding in fatal)
    return Submodule(
        status=Tier.CONTRAINDICATED if about_host else Tier.NONE,
        vector=contradicted(fatal),
        policy_ids=() if profile_id is None else (_POLICY_PREFIX + profile_id.hex(),),
        extensions={EXTENSION: _extension(fatal, None)},
    )


def _extension(findings: Sequence[Finding], appraisal: Appraisal | None) -> dict[str, Any]:
    """What the draft has no claim for: level, stack, and every finding."""
    release = appraisal.release if appraisal else None
    return {
        "level": (appraisal.level or "") if appraisal else "",
        "rank": appraisal.rank if appraisal else 0,
        "stack": {"name": release.stack.name, "version": release.stack.version, "digest": release.digest.hex()}
        if release
        else None,
        "findings": [_record(finding) for finding in findings[:_MAX_FINDINGS]],
    }


def _record(finding: Finding) -> dict[str, str]:
    # Values about an identity are host ids, serial numbers and names of certificates: a result names no host.
    named = not finding.clause.startswith("A")
    return {
        "clause": finding.clause,
        "code": finding.code,
        "message": finding.message[:_CLIP],
        "expected": finding.expected[:_CLIP] if named else "",
        "actual": finding.actual[:_CLIP] if named else "",
        "subject": finding.subject[:_CLIP],
    }
