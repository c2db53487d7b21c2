"""A1 and A2: an endorsement key that somebody the authority trusts has vouched for.

The result carries the key's public area rebuilt from the certified key and the maker's template. Nothing in it was
taken from the host. It does not say that the host at hand holds the key: that is A4, in :mod:`watchword.verify.ak`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from watchword.crypto.tpm_key import curve_of, point, public_key
from watchword.errors import Finding, MalformedError, Rejected, UsageError
from watchword.verify.certificate import Certificate, fingerprint, read_stored, subject_text
from watchword.verify.certificate_key import describe_key
from watchword.verify.chain import find_chain
from watchword.verify.crl import RevocationList, check_revocation
from watchword.verify.extensions import EKU_EK_CERTIFICATE, Extensions, KeyUsage
from watchword.wire.tpm.public import Public, Unique
from watchword.wire.tpm.schemes import EccParameters, RsaParameters
from watchword.wire.tpm.templates import EkKind, ek_template

__all__ = [
    "EkClass",
    "TrustAnchor",
    "VerifiedEk",
    "check_certificate",
    "host_id",
    "rebuild_public",
    "verify_ek",
    "verify_pinned_ek",
]

_HOST_DOMAIN = b"watchword/host/1\0"
_EXPONENT = 65537
_PROOF = object()


class EkClass(StrEnum):
    """What kind of TPM an anchor vouches for."""

    HARDWARE = "hardware"
    FIRMWARE = "firmware"
    VIRTUAL = "virtual"


@dataclass(frozen=True, slots=True)
class TrustAnchor:
    """A certificate authority that the auditor trusts to certify TPMs of one class, and a label for people."""

    certificate_der: bytes
    ek_class: EkClass
    label: str


@dataclass(frozen=True, slots=True)
class VerifiedEk:
    """An endorsement key that passed A1 and A2. Made only by this module.

    ``host_id`` has 32 bytes. ``anchor`` is the label of the anchor ("pinned" without one); ``fingerprint`` the SHA-256
    of the certificate in hexadecimal, ``serial`` its number (empty and 0 when pinned). ``deviations`` name what differs
    from the TCG profile and was tolerated.
    """

    _proof: InitVar[object]
    public: Public
    host_id: bytes
    ek_class: EkClass
    anchor: str
    fingerprint: str
    serial: int
    deviations: tuple[Finding, ...]

    def __post_init__(self, _proof: object) -> None:
        if _proof is not _PROOF:
            raise TypeError("only watchword.verify.ek makes a VerifiedEk")


def host_id(ek: Public) -> bytes:
    """The 32-byte identity of the host whose TPM has the endorsement key ``ek``."""
    return hashlib.sha256(_HOST_DOMAIN + ek.encode()).digest()


def verify_ek(
    certificate: bytes,
    intermediates: Sequence[bytes],
    anchors: Sequence[TrustAnchor],
    kind: EkKind,
    now: int,
    crls: Sequence[bytes] = (),
) -> VerifiedEk:
    """Check an EK certificate up to one of ``anchors`` (A1) and rebuild the key's public area (A2).

    ``certificate`` is what the TPM's NV index holds, ``intermediates`` at most 8 DER certificates, ``now`` Unix
    seconds, ``crls`` DER revocation lists that the authority chose. Raises MalformedError (ek-certificate-malformed),
    Rejected (ek-chain, ek-certificate-ca, ek-usage, ek-key, ek-revoked, ek-crl) or UsageError when an anchor or a CRL
    itself is unusable.
    """
    stored = read_stored(certificate)
    deviations = stored.deviations + check_certificate(stored.certificate)
    middle = [read_stored(data).certificate for data in intermediates]
    known, lists = _load_anchors(anchors), _load_crls(crls)
    chain = find_chain(stored.certificate, middle, [each for each, _ in known], now)
    deviations += (*_chain_oddities(chain), *check_revocation(chain, lists, now))
    anchor = next(anchor for each, anchor in known if each.der == chain[-1].der)
    public = rebuild_public(stored.certificate, kind)
    return VerifiedEk(
        _PROOF,
        public,
        host_id(public),
        anchor.ek_class,
        anchor.label,
        fingerprint(stored.der),
        stored.certificate.serial_number,
        deviations,
    )


def verify_pinned_ek(public: Public, pins: Mapping[bytes, EkClass]) -> VerifiedEk:
    """Accept an endorsement key whose host id the auditor wrote down beforehand (A1 without a certificate).

    ``pins`` maps 32-byte host ids to the class the auditor vouches for. Raises Rejected (ek-not-pinned, ek-template).
    """
    identity = host_id(public)
    ek_class = pins.get(identity)
    if ek_class is None:
        raise Rejected(Finding("A1", "ek-not-pinned", "this key is not pinned", actual=identity.hex()))
    if not any(public == _template_or_none(kind, public.unique) for kind in EkKind):
        raise Rejected(Finding("A2", "ek-template", "the public area is not that of an endorsement key"))
    public_key(public)
    return VerifiedEk(_PROOF, public, identity, ek_class, "pinned", "", 0, ())


def _template_or_none(kind: EkKind, unique: Unique) -> Public | None:
    try:
        return ek_template(kind, unique)
    except MalformedError:
        return None


# --- A1: the certificate and its chain ------------------------------------------------------------------------------


def check_certificate(certificate: Certificate) -> tuple[Finding, ...]:
    """Check what a certificate says of itself, apart from time and issuer.

    Returns the deviations that are tolerated. Raises Rejected (ek-certificate-ca, ek-usage).
    """
    extensions = certificate.extensions
    if extensions.is_ca:
        raise Rejected(Finding("A1", "ek-certificate-ca", "the certificate is that of a certificate authority"))
    return _check_purposes(extensions) + _check_usage(certificate)


def _check_purposes(extensions: Extensions) -> tuple[Finding, ...]:
    if extensions.purposes is None:
        return (Finding("A1", "ek-usage-absent", "the certificate does not say what it is for", fatal=False),)
    if EKU_EK_CERTIFICATE in extensions.purposes:
        return ()
    actual = " ".join(extensions.purposes)
    message = "the certificate is not for an endorsement key"
    raise Rejected(Finding("A1", "ek-usage", message, EKU_EK_CERTIFICATE, actual))


def _check_usage(certificate: Certificate) -> tuple[Finding, ...]:
    usage = certificate.extensions.usage
    if usage is None:
        return (Finding("A1", "ek-key-usage-absent", "the certificate has no key usage", fatal=False),)
    if KeyUsage.KEY_CERT_SIGN in usage:
        raise Rejected(Finding("A1", "ek-usage", "the certified key may sign certificates"))
    is_rsa = isinstance(certificate.key, rsa.RSAPublicKey)
    if (KeyUsage.KEY_ENCIPHERMENT if is_rsa else KeyUsage.KEY_AGREEMENT) not in usage:
        expected = "keyEncipherment" if is_rsa else "keyAgreement"
        raise Rejected(Finding("A1", "ek-usage", "the certified key may not protect secrets", expected))
    return ()


def _chain_oddities(chain: Sequence[Certificate]) -> Iterator[Finding]:
    """What is odd about the encoding of the issuers, and of the names that lead from one to the next."""
    for below, issuer in pairwise(chain):
        yield from issuer.named_oddities()
        if below.issuer != issuer.subject:
            yield Finding(
                "A1",
                "ek-name-encoding",
                "the issuer's name is written in other string types than in its own certificate",
                subject=subject_text(issuer),
                fatal=False,
            )


def _load_anchors(anchors: Sequence[TrustAnchor]) -> list[tuple[Certificate, TrustAnchor]]:
    known: dict[bytes, TrustAnchor] = {}
    loaded = []
    for anchor in anchors:
        try:
            loaded.append((_anchor_certificate(anchor.certificate_der), anchor))
        except MalformedError as error:
            raise UsageError("anchor-unreadable", f"trust anchor {anchor.label!r}: {error.message}") from None
        if known.setdefault(anchor.certificate_der, anchor).ek_class is not anchor.ek_class:
            raise UsageError("anchor-class", f"trust anchor {anchor.label!r} is given two classes")
    return loaded


@lru_cache(maxsize=2048)
def _anchor_certificate(der: bytes) -> Certificate:
    return Certificate.parse(der)


def _load_crls(crls: Sequence[bytes]) -> list[RevocationList]:
    try:
        return [_revocation_list(der) for der in crls]
    except MalformedError as error:
        raise UsageError("crl-unreadable", f"a CRL cannot be used: {error.message}") from None


@lru_cache(maxsize=256)  # hosts that enrol must not make an authority parse the same megabyte again and again
def _revocation_list(der: bytes) -> RevocationList:
    return RevocationList.parse(der)


# --- A2: the public area --------------------------------------------------------------------------------------------


def rebuild_public(certificate: Certificate, kind: EkKind) -> Public:
    """The EK's public area: the template of ``kind`` with the certified key, which must be what the template makes.

    Raises Rejected (ek-key).
    """
    parameters, key = ek_template(kind).parameters, certificate.key
    if isinstance(parameters, RsaParameters) and isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        if key.key_size == parameters.key_bits and numbers.e == _EXPONENT:
            return ek_template(kind, numbers.n.to_bytes(parameters.key_bits // 8, "big"))
    if (
        isinstance(parameters, EccParameters)
        and isinstance(key, ec.EllipticCurvePublicKey)
        and key.curve.name == curve_of(parameters.curve).name
    ):
        return ek_template(kind, point(key))
    raise Rejected(
        Finding("A2", "ek-key", "the certified key is not one that this template makes", kind.name, describe_key(key))
    )
