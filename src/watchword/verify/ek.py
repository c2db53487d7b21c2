"""A1 and A2: an endorsement key that somebody the authority trusts has vouched for.

The result carries the key's public area rebuilt from the certified key and the maker's template. Nothing in it was
taken from the host. It does not say that the host at hand holds the key: that is A4, in :mod:`watchword.verify.ak`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass
from datetime import UTC, datetime
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import verification

from watchword.crypto.tpm_key import curve_of, point, public_key
from watchword.errors import Finding, MalformedError, Rejected, UsageError
from watchword.verify.certificate import (
    EKU_EK_CERTIFICATE,
    find_extension,
    fingerprint,
    issuer_text,
    load_certificate,
    read_stored,
)
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

MAX_INTERMEDIATES = 8
_MAX_DEPTH = 4  # intermediates between an EK and its anchor; makers use one to three
_HOST_DOMAIN = b"watchword/host/1\0"
_EXPONENT = 65537
_AGNOSTIC = verification.Criticality.AGNOSTIC
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
) -> VerifiedEk:
    """Check an EK certificate up to one of ``anchors`` (A1) and rebuild the key's public area (A2).

    ``certificate`` is what the TPM's NV index holds, ``intermediates`` at most 8 DER certificates, ``now`` Unix
    seconds. Raises MalformedError (ek-certificate-malformed), Rejected (ek-chain, ek-certificate-ca, ek-usage, ek-key)
    or UsageError when an anchor itself is unusable.
    """
    stored = read_stored(certificate)
    deviations = stored.deviations + check_certificate(stored.certificate)
    anchor = _check_chain(stored.certificate, intermediates, anchors, now)
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


def check_certificate(certificate: x509.Certificate) -> tuple[Finding, ...]:
    """Check what a certificate says of itself; the path validator leaves all of this to its caller.

    Returns the deviations that are tolerated. Raises Rejected (ek-certificate-ca, ek-usage).
    """
    extensions = certificate.extensions
    basic = find_extension(extensions, x509.BasicConstraints)
    if basic is not None and basic.ca:
        raise Rejected(Finding("A1", "ek-certificate-ca", "the certificate is that of a certificate authority"))
    return _check_extended_usage(extensions) + _check_usage(certificate)


def _check_extended_usage(extensions: x509.Extensions) -> tuple[Finding, ...]:
    usage = find_extension(extensions, x509.ExtendedKeyUsage)
    if usage is None:
        return (Finding("A1", "ek-usage-absent", "the certificate does not say what it is for", fatal=False),)
    if EKU_EK_CERTIFICATE in usage:
        return ()
    actual = " ".join(oid.dotted_string for oid in usage)
    expected = EKU_EK_CERTIFICATE.dotted_string
    raise Rejected(Finding("A1", "ek-usage", "the certificate is not for an endorsement key", expected, actual))


def _check_usage(certificate: x509.Certificate) -> tuple[Finding, ...]:
    usage = find_extension(certificate.extensions, x509.KeyUsage)
    if usage is None:
        return (Finding("A1", "ek-key-usage-absent", "the certificate has no key usage", fatal=False),)
    is_rsa = isinstance(certificate.public_key(), rsa.RSAPublicKey)
    if not (usage.key_encipherment if is_rsa else usage.key_agreement):
        expected = "keyEncipherment" if is_rsa else "keyAgreement"
        raise Rejected(Finding("A1", "ek-usage", "the certified key may not protect secrets", expected))
    return ()


def _check_chain(
    leaf: x509.Certificate, intermediates: Sequence[bytes], anchors: Sequence[TrustAnchor], now: int
) -> TrustAnchor:
    if len(intermediates) > MAX_INTERMEDIATES:
        raise MalformedError(f"{len(intermediates)} intermediate certificates; {MAX_INTERMEDIATES} are allowed")
    known = _load_anchors(anchors)
    if not known:
        raise Rejected(Finding("A1", "ek-chain", "there are no trust anchors"))
    verifier = _verifier(list(known), now)
    middle = [read_stored(data).certificate for data in intermediates]
    try:
        chain = verifier.verify(leaf, middle).chain
    except verification.VerificationError as error:
        raise Rejected(
            Finding(
                "A1",
                "ek-chain",
                "the certificate does not lead to a trust anchor",
                expected="one of " + ", ".join(anchor.label for anchor in anchors),
                actual=f"issuer {issuer_text(leaf)}: {error!s}",
            )
        ) from None
    return known[chain[-1]]


def _verifier(roots: list[x509.Certificate], now: int) -> verification.ClientVerifier:
    # Start from everything permitted, because an EK certificate breaks the rules for web certificates by design
    # (empty subject, critical alternative name). What must still hold of an authority is added here, of the leaf above.
    # Makers mark their certificate policies critical; they restrict nothing for who asks for no policy (RFC 5280, 6.1).
    anything = verification.ExtensionPolicy.permit_all().may_be_present(x509.CertificatePolicies, _AGNOSTIC, None)
    # The library looks into the basic constraints of an authority by itself, as long as they must be there.
    authority = anything.require_present(x509.BasicConstraints, _AGNOSTIC, None).require_present(
        x509.KeyUsage, _AGNOSTIC, _authority_may_sign
    )
    return (
        verification.PolicyBuilder()
        .store(verification.Store(roots))
        .time(datetime.fromtimestamp(now, UTC).replace(tzinfo=None))
        .max_chain_depth(_MAX_DEPTH)
        .extension_policies(ca_policy=authority, ee_policy=anything)
        .build_client_verifier()
    )


def _authority_may_sign(_policy: verification.Policy, _certificate: x509.Certificate, usage: x509.KeyUsage) -> None:
    if not usage.key_cert_sign:
        raise ValueError("the issuer may not sign certificates")


def _load_anchors(anchors: Sequence[TrustAnchor]) -> dict[x509.Certificate, TrustAnchor]:
    known: dict[x509.Certificate, TrustAnchor] = {}
    for anchor in anchors:
        try:
            certificate = load_certificate(anchor.certificate_der)
        except MalformedError as error:
            raise UsageError("anchor-unreadable", f"trust anchor {anchor.label!r}: {error.message}") from None
        if known.setdefault(certificate, anchor).ek_class is not anchor.ek_class:
            raise UsageError("anchor-class", f"trust anchor {anchor.label!r} is given two classes")
    return known


# --- A2: the public area --------------------------------------------------------------------------------------------


def rebuild_public(certificate: x509.Certificate, kind: EkKind) -> Public:
    """The EK's public area: the template of ``kind`` with the certified key, which must be what the template makes.

    Raises Rejected (ek-key).
    """
    parameters, key = ek_template(kind).parameters, certificate.public_key()
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
        Finding("A2", "ek-key", "the certified key is not one that this template makes", kind.name, _describe(key))
    )


def _describe(key: object) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}, exponent {key.public_numbers().e}"
    return key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else "another algorithm"
