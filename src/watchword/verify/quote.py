"""B1 to B10 but B6: what one TPM quote says, once it is known to be authentic and about what we asked.

The steps run in the order of their numbers and stop at the first that fails. B6, a nonce that is fresh and unused, is
the authority's to check, because only it knows which nonces are spent.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from types import MappingProxyType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from watchword.crypto.tpm_key import hash_of
from watchword.errors import Finding, MalformedError, Rejected
from watchword.verify.ak import VerifiedAk
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.attest import GENERATED_VALUE, ST_ATTEST_QUOTE, Attest, ClockInfo, QuoteInfo
from watchword.wire.tpm.pcr import PcrValues, Selections, pcr_digest
from watchword.wire.tpm.signature import Signature

__all__ = ["LastSeen", "VerifiedPcrs", "verify_quote"]

_DEBUG_PCRS = frozenset({16, 23})  # software may reset these at any time, so they prove nothing
# Two quotes of one boot may arrive in the other order when two launches are under way. Nonces, not clocks, keep old
# evidence out; a clock that goes back further than a nonce lives means that the TPM's state was put back.
_REORDER_MS = 5 * 60 * 1000
# A TPM writes its clock to NV memory at least every 2^22 ms (TPM 2.0 Part 1, 36): after a power loss it may go back by
# that much, and says so with safe = NO.
_LOST_MS = 1 << 22
_BINDING_SIZE = 32
_PROOF = object()


@dataclass(frozen=True, slots=True)
class LastSeen:
    """The newest clock information of one TPM that a verified quote carried. ``clock`` is in milliseconds."""

    reset_count: int
    restart_count: int
    clock: int
    safe: bool

    @classmethod
    def of(cls, info: ClockInfo) -> LastSeen:
        """What a quote with ``info`` shows."""
        return cls(info.reset_count, info.restart_count, info.clock, info.safe)

    @classmethod
    def after(cls, last: LastSeen | None, info: ClockInfo) -> LastSeen:
        """What to remember after a quote with ``info``: it never goes back within a boot."""
        new = cls.of(info)
        if last is None or last.reset_count < info.reset_count:
            return new
        return max(last, new, key=lambda seen: (seen.reset_count, seen.restart_count, seen.clock))


@dataclass(frozen=True, slots=True)
class VerifiedPcrs:
    """PCR values that a verified AK signed over. Made only by this module.

    ``values`` holds what ``selections`` covers and nothing else.
    """

    _proof: InitVar[object]
    host_id: bytes
    values: PcrValues
    selections: Selections
    clock_info: ClockInfo
    firmware_version: int

    def __post_init__(self, _proof: object) -> None:
        if _proof is not _PROOF:
            raise TypeError("only watchword.verify.quote makes VerifiedPcrs")


def verify_quote(
    *,
    attest: bytes,
    signature: bytes,
    pcrs: PcrValues,
    ak: VerifiedAk,
    binding: bytes,
    selections: Selections,
    last: LastSeen | None,
    firmware_allowed: frozenset[int] | None = None,
) -> VerifiedPcrs:
    """Check a quote, step by step.

    ``attest`` is the TPMS_ATTEST and ``signature`` the TPMT_SIGNATURE as they arrived, ``pcrs`` the values the host
    claims, ``binding`` the 32 bytes that extraData must equal, ``selections`` what was asked for, ``last`` what was
    last seen of this TPM, ``firmware_allowed`` the firmware versions that are acceptable (None: any). Raises Rejected
    with the clause of the step that failed.
    """
    if len(binding) != _BINDING_SIZE:
        raise ValueError(f"a binding of {len(binding)} bytes; {_BINDING_SIZE} are needed")
    quote = _parse(attest)  # B3 comes first: without a structure there is no magic to look at
    info = _check_kind(quote)  # B1, B2
    _check_signature(attest, signature, ak)  # B4
    if not hmac.compare_digest(quote.extra_data, binding):
        raise _rejected("B5", "quote-binding", "the quote was not made for this request")
    _check_selection(info.selections, selections)  # B7
    values = _check_values(info, pcrs, ak)  # B8
    if last is not None:
        _check_clock(quote.clock_info, last)  # B9
    _check_firmware(quote.firmware_version, firmware_allowed)  # B10
    return VerifiedPcrs(_PROOF, ak.host_id, values, info.selections, quote.clock_info, quote.firmware_version)


def _parse(attest: bytes) -> Attest:
    try:
        return Attest.parse(attest)
    except MalformedError as error:
        raise _rejected("B3", "quote-malformed", error.message) from None


def _check_kind(quote: Attest) -> QuoteInfo:
    if quote.magic != GENERATED_VALUE:
        message = "what was signed was not made inside a TPM"
        raise _rejected("B1", "quote-magic", message, f"{GENERATED_VALUE:08x}", f"{quote.magic:08x}")
    if quote.type != ST_ATTEST_QUOTE or not isinstance(quote.attested, QuoteInfo):
        message = "this attestation is not a quote"
        raise _rejected("B2", "quote-type", message, f"{ST_ATTEST_QUOTE:04x}", f"{quote.type:04x}")
    return quote.attested


def _check_signature(attest: bytes, signature: bytes, ak: VerifiedAk) -> None:
    """The AK's own scheme and no other: what the signature says of itself is the host's word."""
    try:
        parsed = Signature.parse(signature)
    except MalformedError as error:
        raise _rejected("B4", "quote-signature", error.message) from None
    scheme = ak.scheme
    if (parsed.scheme, parsed.hash_alg) != (scheme.alg, scheme.hash_alg):
        raise _rejected("B4", "quote-signature", "the signature does not use the scheme of the attestation key")
    try:
        _verify(attest, parsed, ak)
    except InvalidSignature:
        message = "the attestation key of this host did not sign this quote"
        raise _rejected("B4", "quote-signature", message) from None


def _verify(attest: bytes, signature: Signature, ak: VerifiedAk) -> None:
    key, algorithm = ak.key, hash_of(signature.hash_alg)
    if isinstance(key, ec.EllipticCurvePublicKey):
        if signature.r is None or signature.s is None:
            raise InvalidSignature
        r, s = int.from_bytes(signature.r, "big"), int.from_bytes(signature.s, "big")
        key.verify(encode_dss_signature(r, s), attest, ec.ECDSA(algorithm))
        return
    if signature.rsa is None:
        raise InvalidSignature
    if signature.scheme is Alg.RSASSA:
        key.verify(signature.rsa, attest, padding.PKCS1v15(), algorithm)
    else:
        # TPMs differ in the salt length they use (digest size or the most that fits); any length is as safe.
        pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
        key.verify(signature.rsa, attest, pss, algorithm)


def _check_selection(signed: Selections, asked: Selections) -> None:
    if signed != asked:
        message = "the quote covers other PCRs than were asked for"
        raise _rejected("B7", "quote-selection", message, _text(asked), _text(signed))
    if any(not _DEBUG_PCRS.isdisjoint(selection.pcrs) for selection in signed):
        raise _rejected("B7", "quote-debug-pcr", "PCR 16 and 23 prove nothing", actual=_text(signed))
    if not any(selection.bank is not Alg.SHA1 and selection.pcrs for selection in signed):
        message = "the quote covers no PCR of a bank stronger than SHA-1"
        raise _rejected("B7", "quote-bank", message, actual=_text(signed))


def _check_values(info: QuoteInfo, pcrs: PcrValues, ak: VerifiedAk) -> PcrValues:
    """The claimed values, labelled by the signed selection alone."""
    try:
        computed = pcr_digest(ak.scheme.hash_alg or Alg.NULL, info.selections, pcrs)
    except MalformedError as error:
        raise _rejected("B8", "quote-pcr-digest", error.message) from None
    if not hmac.compare_digest(computed, info.pcr_digest):
        message = "the PCR values are not those that were quoted"
        raise _rejected("B8", "quote-pcr-digest", message, info.pcr_digest.hex(), computed.hex())
    values: dict[Alg, Mapping[int, bytes]] = {}
    for selection in info.selections:
        claimed = pcrs[selection.bank] if selection.pcrs else {}
        bank = {pcr: claimed[pcr] for pcr in selection.pcrs}
        values[selection.bank] = MappingProxyType({**values.get(selection.bank, {}), **bank})
    return MappingProxyType(values)


def _check_clock(info: ClockInfo, last: LastSeen) -> None:
    if info.reset_count < last.reset_count:
        message = "the TPM was cleared, or its state put back, since it was last seen: enrol again"
        raise _rejected("B9", "quote-reset-count", message, f">= {last.reset_count}", str(info.reset_count))
    same_boot = info.reset_count == last.reset_count
    if same_boot and info.restart_count < last.restart_count:
        message = "the TPM counts fewer restarts than when it was last seen"
        raise _rejected("B9", "quote-restart-count", message, f">= {last.restart_count}", str(info.restart_count))
    allowed = _REORDER_MS if same_boot else 0 if info.safe else _LOST_MS
    if info.clock + allowed < last.clock:
        message = "the clock of the TPM went back"
        raise _rejected("B9", "quote-clock", message, f">= {last.clock - allowed} ms", f"{info.clock} ms")


def _check_firmware(version: int, allowed: frozenset[int] | None) -> None:
    if allowed is not None and version not in allowed:
        expected = " or ".join(f"{each:016x}" for each in sorted(allowed))
        message = "the firmware version of the TPM is not allowed"
        raise _rejected("B10", "quote-firmware", message, expected, f"{version:016x}")


def _text(selections: Selections) -> str:
    return "+".join(map(str, selections)) or "nothing"


def _rejected(clause: str, code: str, message: str, expected: str = "", actual: str = "") -> Rejected:
    return Rejected(Finding(clause, code, message, expected, actual))
