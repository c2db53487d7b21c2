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
from watchword.verify.ek import EkClass, TrustAnchor, VerifiedEk, verify_ek, verify_pinned_ek
from watchword.wire.evidence import enrol_proof
from watchword.wire.messages import EnrolBegin, EnrolChallenge, EnrolFinish
from watchword.wire.reader import Reader, Writer, parse_whole
from watchword.wire.tpm.public import Public
from watchword.wire.tpm.templates import EkKind

__all__ = ["COOKIE_RANDOM_SIZE", "LIFETIME", "SECRET_SIZE", "begin", "finish"]

LIFETIME = 120  # seconds between the two requests
SECRET_SIZE = 32
COOKIE_RANDOM_SIZE = 12
_INFO = b"watchword/enrol-cookie/1"


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
    anchors: Sequence[TrustAnchor],
    pins: Mapping[bytes, EkClass],
    now: int,
    cookie_key: bytes,
    secret: bytes,
    random: bytes,
) -> EnrolChallenge:
    """Check EK and AK, and challenge the TPM to show that it holds both.

    ``anchors`` and ``pins`` are what the auditor trusts; ``cookie_key`` 32, ``secret`` 32 fresh and ``random`` 12
    fresh bytes. Raises :class:`MalformedError` or :class:`Rejected` (A1 to A3).
    """
    ek, ak = _identity(message, anchors, pins, now)
    credential = make_credential(ek.public, ak.name(), secret)
    request = Writer()
    message.write(request)
    plain = _Cookie(now + LIFETIME, secret, request.done()).encode()
    cookie = random + ChaCha20Poly1305(cookie_key).encrypt(random, plain, _INFO)
    return EnrolChallenge(cookie, credential.id_object, credential.encrypted_secret)


def finish(
    message: EnrolFinish,
    *,
    anchors: Sequence[TrustAnchor],
    pins: Mapping[bytes, EkClass],
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
    ek, ak = _identity(parse_whole(cookie.request, "enrolment", EnrolBegin.read), anchors, pins, now)
    return ek, prove_ak(ek, ak, enrol_proof(cookie.secret, message.cookie), message.proof)


def _identity(
    message: EnrolBegin, anchors: Sequence[TrustAnchor], pins: Mapping[bytes, EkClass], now: int
) -> tuple[VerifiedEk, Public]:
    if message.ek_certificate:
        kind = _kind(message.ek_kind)
        ek = verify_ek(message.ek_certificate, message.intermediates, anchors, kind, now)
    else:
        ek = verify_pinned_ek(Public.parse(message.ek_public), pins)
    ak = Public.parse(message.ak_public)
    verify_ak_public(ak)
    return ek, ak


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
