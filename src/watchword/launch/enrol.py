"""Enrolment: from an EK certificate to a host that the authority knows (clauses A1 to A4).

Two requests, and nothing stored between them: what the authority must remember travels to the host and back as a
cookie that only the authority can read or make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from watchword.crypto.tpm_seal import make_credential
from watchword.errors import Finding, MalformedError, Rejected
from watchword.verify.ak import VerifiedAk, prove_ak, verify_ak_public
from watchword.verify.ek import EkClass, TrustAnchor, VerifiedEk, host_id, verify_ek, verify_pinned_ek
from watchword.verify.roots import IntermediatePool
from watchword.wire.evidence import enrol_proof
from watchword.wire.messages import EnrolBegin, EnrolChallenge, EnrolFinish
from watchword.wire.reader import Reader, Writer, parse_whole
from watchword.wire.tpm.public import Public
from watchword.wire.tpm.templates import EkKind

__all__ = ["COOKIE_RANDOM_SIZE", "LIFETIME", "SECRET_SIZE", "Trusted", "begin", "finish"]

LIFETIME = 120  # seconds between the two requests
SECRET_SIZE = 32
COOKIE_RANDOM_SIZE = 12
_INFO = b"watchword/enrol-cookie/1"


@dataclass(frozen=True, slots=True)
class Trusted:
    """Whose TPMs an authority believes.

    ``anchors`` certify endorsement keys, ``pins`` are classes by 32-byte host id, ``intermediates`` fill gaps that
    hosts leave, ``crls`` are revocation lists in DER.
    """

    anchors: Sequence[TrustAnchor]
    pins: Mapping[bytes, EkClass]
    intermediates: IntermediatePool
    crls: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class _Cookie:
    """What the authority must know at the second request; ``begin`` and its inputs are kept whole and checked again."""

    expires: int
    secret: bytes
    request: bytes

    def encode(self) -> bytes:
        return Writer().u64(self.expires).raw(self.secret).raw(self.request).done()

    @classmethod
    def read(cls, r: Reader) -> _Cookie:
        return cls(r.u64(), r.take(SECRET_SIZE), r.rest())


def begin(
    message: EnrolBegin,
    *,
    trusted: Trusted,
    now: int,
    cookie_key: bytes,
    secret: bytes,
    random: bytes,
) -> EnrolChallenge:
    """Check EK and AK, and challenge the TPM to show that it holds both.

    ``trusted`` is what the auditor trusts; ``cookie_key`` 32, ``secret`` 32 fresh and ``random`` 12 fresh bytes.
    Raises :class:`MalformedError` or :class:`Rejected` (A1 to A3).
    """
    ek, ak = _identity(message, trusted, now)
    credential = make_credential(ek.public, ak.name(), secret)
    request = Writer()
    message.write(request)
    plain = _Cookie(now + LIFETIME, secret, request.done()).encode()
    cookie = random + ChaCha20Poly1305(cookie_key).encrypt(random, plain, _INFO)
    return EnrolChallenge(cookie, credential.id_object, credential.encrypted_secret)


def finish(
    message: EnrolFinish,
    *,
    trusted: Trusted,
    now: int,
    cookie_key: bytes,
) -> tuple[VerifiedEk, VerifiedAk]:
    """Accept the answer to :func:`begin` (A4). Everything is judged again: trust may have changed in between.

    Raises :class:`Rejected` with ``enrol-cookie``, ``enrol-expired`` or the code of the failed check.
    """
    cookie = _open_cookie(message.cookie, cookie_key)
    if not now <= cookie.expires <= now + LIFETIME:
        raise Rejected(
            Finding("A4", "enrol-expired", "the enrolment took too long", f"by {cookie.expires}", f"at {now}"),
            hint="Start the enrolment again.",
        )
    ek, ak = _identity(parse_whole(cookie.request, "enrolment", EnrolBegin.read), trusted, now)
    return ek, prove_ak(ek, ak, enrol_proof(cookie.secret, message.cookie), message.proof)


def _identity(message: EnrolBegin, trusted: Trusted, now: int) -> tuple[VerifiedEk, Public]:
    pinned = _pinned(message, trusted.pins)
    if pinned is not None:
        # The credential is made for this key: naming a pinned one gives nothing to who does not have it.
        ek = verify_pinned_ek(pinned, trusted.pins)
    else:
        certificate = message.ek_certificate
        middle = trusted.intermediates.complete(certificate, message.intermediates)
        ek = verify_ek(certificate, middle, trusted.anchors, _kind(message.ek_kind), now, trusted.crls)
    ak = Public.parse(message.ak_public)
    verify_ak_public(ak)
    return ek, ak


def _pinned(message: EnrolBegin, pins: Mapping[bytes, EkClass]) -> Public | None:
    """The host's own public area, if that is what it is to be judged by: it is pinned, or has no certificate."""
    if message.ek_certificate and not message.ek_public:
        return None
    public = Public.parse(message.ek_public)
    return public if not message.ek_certificate or host_id(public) in pins else None


def _kind(number: int) -> EkKind:
    try:
        return EkKind(number)
    except ValueError:
        raise MalformedError(f"enrolment: {number} is not a kind of EK") from None


def _open_cookie(cookie: bytes, key: bytes) -> _Cookie:
    random, sealed = cookie[:COOKIE_RANDOM_SIZE], cookie[COOKIE_RANDOM_SIZE:]
    try:
        plain = ChaCha20Poly1305(key).decrypt(random, sealed, _INFO)
    except (InvalidTag, ValueError):
        raise Rejected(Finding("A4", "enrol-cookie", "the enrolment state was not made by this authority")) from None
    return parse_whole(plain, "enrolment state", _Cookie.read)
