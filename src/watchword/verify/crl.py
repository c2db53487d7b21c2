"""Certificate revocation lists of TPM makers (RFC 5280, clauses 5 and 6.3): complete lists by the issuer itself.

A list that bears the name of an issuer in the chain must be usable, otherwise the chain is refused: a list that was
altered or is out of date must not look like "nothing is revoked".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from watchword.errors import Finding, MalformedError, Rejected
from watchword.verify.certificate import Certificate, fingerprint, issuer_text, subject_text
from watchword.verify.certificate_key import Algorithm, read_algorithm, signature_fault
from watchword.verify.der import BOOLEAN, GENERALIZED_TIME, SEQUENCE, UTC_TIME, Der, explicit, whole_sequence
from watchword.verify.distinguished_name import attributes, same_name
from watchword.verify.extensions import KeyUsage

__all__ = ["MAX_CRL", "RevocationList", "check_revocation", "list_fault"]

MAX_CRL: Final = 1 << 20  # bytes, about 30,000 entries
_CODE: Final = "crl-malformed"
_MAX_EXTENSIONS: Final = 32
_DELTA, _SCOPE = "2.5.29.27", "2.5.29.28"  # of these, a list is not the issuer's complete one
_AUTHORITY_KEY, _NUMBER = "2.5.29.35", "2.5.29.20"
_KNOWN: Final = frozenset({_AUTHORITY_KEY, _NUMBER})
_ENTRY_KNOWN: Final = frozenset({"2.5.29.21", "2.5.29.24"})  # reason, date of invalidity


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A certificate revocation list, version 2. Times are Unix seconds; ``partial`` says why it is not complete."""

    signed: bytes
    algorithm: Algorithm
    signature: bytes
    issuer: bytes
    this_update: int
    next_update: int | None
    revoked: frozenset[int]
    partial: str

    @classmethod
    def parse(cls, der: bytes) -> RevocationList:
        """Read ``der`` (at most 1 MiB) to its last byte. Raises MalformedError (crl-malformed)."""
        if len(der) > MAX_CRL:
            raise MalformedError(f"CRL: longer than {MAX_CRL} bytes", code=_CODE)
        outer = whole_sequence(der, "CRL", _CODE)
        signed = outer.take_whole(SEQUENCE)
        algorithm, signature = read_algorithm(outer), outer.whole_bytes()
        outer.finish()
        body = whole_sequence(signed, "CRL", _CODE)
        if body.integer() != 1:
            raise body.fail("it is not of version 2")
        if read_algorithm(body) != algorithm:
            raise body.fail("the signature algorithm inside the signed part is another one")
        issuer, this_update = body.take_whole(SEQUENCE), body.time()
        attributes(whole_sequence(issuer, "CRL", _CODE))
        next_update = body.time() if body.next_is(UTC_TIME) or body.next_is(GENERALIZED_TIME) else None
        revoked, entry_fault = _read_entries(body.inside(SEQUENCE)) if body.next_is(SEQUENCE) else (frozenset(), "")
        fault = _read_extensions(body.inside(explicit(0))) if body.more else ""
        body.finish()
        return cls(signed, algorithm, signature, issuer, this_update, next_update, revoked, fault or entry_fault)


def _read_entries(entries: Der) -> tuple[frozenset[int], str]:
    revoked, fault = set(), ""
    while entries.more:
        entry = entries.inside(SEQUENCE)
        revoked.add(entry.integer())
        entry.time()
        if entry.more:
            critical = [oid for oid, is_critical in _extension_names(entry.inside(SEQUENCE)) if is_critical]
            if not _ENTRY_KNOWN.issuperset(critical):
                fault = "an entry has a critical extension"  # it may be about another issuer's certificate
        entry.finish()
    return frozenset(revoked), fault


def _read_extensions(wrapper: Der) -> str:
    listed = wrapper.inside(SEQUENCE)
    wrapper.finish()
    for oid, critical in _extension_names(listed):
        if oid in (_DELTA, _SCOPE):
            return "it is not the issuer's complete list"
        if critical and oid not in _KNOWN:
            return f"it has a critical extension that is not understood: {oid}"
    return ""


def _extension_names(listed: Der) -> list[tuple[str, bool]]:
    found: list[tuple[str, bool]] = []
    while listed.more:
        inner = listed.inside(SEQUENCE)
        oid = inner.identifier()
        found.append((oid, inner.boolean() if inner.next_is(BOOLEAN) else False))
        inner.octets()
        inner.finish()
        if len(found) > _MAX_EXTENSIONS:
            raise listed.fail("too many extensions")
    return found


def check_revocation(chain: Sequence[Certificate], crls: Sequence[RevocationList], now: int) -> tuple[Finding, ...]:
    """Look up every certificate of ``chain`` (EK first, anchor last) in the list of its issuer, if one was given.

    Returns a finding (ek-crl-absent) for each issuer without a list, when there are lists at all. Raises Rejected:
    ek-revoked, or ek-crl when a list of that issuer's name exists and none of them can be used at ``now``.
    """
    absent: list[Finding] = []
    if not crls:
        return ()
    for certificate, issuer in pairwise(chain):
        named = [crl for crl in crls if same_name(crl.issuer, issuer.subject)]
        if named:
            _look_up(certificate, issuer, named, now)
        else:
            actual = subject_text(issuer)
            absent.append(Finding("A1", "ek-crl-absent", "no CRL of this issuer was given", actual=actual, fatal=False))
    return tuple(absent)


def _look_up(certificate: Certificate, issuer: Certificate, named: Sequence[RevocationList], now: int) -> None:
    faults = [list_fault(crl, issuer, now) for crl in named]
    for crl, fault in zip(named, faults, strict=True):
        if not fault and certificate.serial_number in crl.revoked:
            actual = f"serial {certificate.serial_number:x}, fingerprint {fingerprint(certificate.der)}"
            raise Rejected(
                Finding("A1", "ek-revoked", "the issuer has revoked the certificate", issuer_text(certificate), actual)
            )
    if all(faults):
        why = f"{subject_text(issuer)}: {faults[0]}"
        raise Rejected(Finding("A1", "ek-crl", "the CRL of an issuer cannot be used", actual=why))


def list_fault(crl: RevocationList, issuer: Certificate, now: int) -> str:
    """Why ``crl``, which bears the name of ``issuer``, cannot be used at ``now`` (Unix seconds); or an empty string."""
    usage = issuer.extensions.usage
    if usage is None or KeyUsage.CRL_SIGN not in usage:
        return "the issuer may not sign CRLs"
    fault = signature_fault(crl.algorithm, crl.signed, crl.signature, issuer.key)
    if fault or crl.partial:
        return fault or crl.partial
    if crl.next_update is None:
        return "it does not say how long it holds"
    if not crl.this_update <= now <= crl.next_update:
        return "it is not of this time"
    return ""
