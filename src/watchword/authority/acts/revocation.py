"""Taking over a TPM maker's revocation list: whose it is, and that it can be used.

A list that cannot be used would stop every enrolment below its issuer, so it is judged when it is handed in, exactly
as it will be at enrolments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from watchword.authority.store import CrlRow, Store
from watchword.errors import UsageError
from watchword.verify.certificate import Certificate, subject_text
from watchword.verify.crl import RevocationList, list_fault
from watchword.verify.distinguished_name import name_key, same_name

__all__ = ["check_list"]

_DOMAIN: Final = b"watchword/crl-issuer/1\0"


def check_list(der: bytes, given: Certificate | None, store: Store, now: int) -> CrlRow:
    """Check the list in ``der`` (at most 1 MiB) against its issuer's certificate, at ``now`` (Unix seconds).

    The issuer is ``given``, or found among the anchors and intermediates of ``store``. Raises MalformedError
    (crl-malformed), UsageError (crl-issuer, crl-unusable).
    """
    crl = RevocationList.parse(der)
    known = (given,) if given else _known(store)
    named = [each for each in known if same_name(each.subject, crl.issuer)]
    if not named:
        raise UsageError(
            "crl-issuer",
            "the list is not by the issuer that was given" if given else "no certificate of this issuer is here",
            hint="give the certificate of the list's issuer with --issuer FILE",
        )
    faults = [list_fault(crl, each, now) for each in named]
    issuer = next((each for each, fault in zip(named, faults, strict=True) if not fault), None)
    if issuer is None or crl.next_update is None:
        raise UsageError(
            "crl-unusable",
            f"the list of {subject_text(named[0])} cannot be used: {faults[0]}",
            hint="fetch the issuer's newest complete list from the TPM maker",
        )
    fingerprint = hashlib.sha256(der).digest()
    name = subject_text(issuer)
    return CrlRow(_identity(issuer), fingerprint, der, name, crl.this_update, crl.next_update, now)


def _known(store: Store) -> Iterator[Certificate]:
    for row in store.anchors():
        yield Certificate.parse(row.anchor.certificate_der)
    for der in store.intermediates():
        yield Certificate.parse(der)


def _identity(issuer: Certificate) -> bytes:
    """Authorities are told apart by name and key: one that takes a new key keeps its lists for the old one."""
    key = issuer.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(_DOMAIN + key + repr(name_key(issuer.subject)).encode()).digest()
