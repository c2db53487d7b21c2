"""The messages between host agent and authority.

One exchange is a sealed request and a sealed reply (``watchword.crypto.envelope``), so it makes no difference
whether they travel over a direct connection or through a relay that nobody trusts. This module is the plain text:
one dataclass per message, one kind number each, every field bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, TypeAlias, TypeVar

from watchword.wire.der_chain import MAX_CERTIFICATE, MAX_CHAIN, MAX_NV_CHAIN
from watchword.wire.evidence import MAX_TOKEN, Evidence, Purpose, read_purpose, read_text
from watchword.wire.reader import Reader, Writer, parse_whole
from watchword.wire.tpm.pcr import Selections, encode_selections, parse_selections

__all__ = [
    "MAX_REQUEST",
    "NONCE_SIZE",
    "AttestRequest",
    "Attested",
    "Challenge",
    "ChallengeRequest",
    "EnrolBegin",
    "EnrolChallenge",
    "EnrolFinish",
    "Enrolled",
    "Refusal",
    "Release",
    "ReleaseRequest",
    "Reply",
    "Request",
    "encode_reply",
    "encode_request",
    "parse_reply",
    "parse_request",
]

MAX_REQUEST = 73 << 20  # bytes of one request, sealed: both logs at their largest, and 1 MiB
NONCE_SIZE = 48
_MAX_PUBLIC = 1024
_MAX_BLOB = 1024
_MAX_COOKIE = 48 << 10  # the largest EnrolBegin is in it
_MAX_TEXT = 2000
_T = TypeVar("_T")


class Kind(IntEnum):
    """The first byte of every message."""

    ENROL_BEGIN = 1
    ENROL_CHALLENGE = 2
    ENROL_FINISH = 3
    ENROLLED = 4
    CHALLENGE_REQUEST = 5
    CHALLENGE = 6
    RELEASE_REQUEST = 7
    RELEASE = 8
    ATTEST_REQUEST = 9
    ATTESTED = 10
    REFUSAL = 15


@dataclass(frozen=True, slots=True)
class EnrolBegin:
    """A host introduces itself: its EK and its AK.

    ``ek_kind`` number of the EK template (``watchword.wire.tpm.templates.EkKind``), ``ek_certificate`` DER as read
    from NV (empty for a TPM that has none), ``ek_public`` TPMT_PUBLIC (only looked at for pinned EKs),
    ``intermediates`` at most 8 DER certificates and 32 KiB, ``ak_public`` TPMT_PUBLIC.
    """

    kind: ClassVar[Kind] = Kind.ENROL_BEGIN
    ek_kind: int
    ek_certificate: bytes
    ek_public: bytes
    intermediates: tuple[bytes, ...]
    ak_public: bytes

    def write(self, w: Writer) -> None:
        w.u8(self.ek_kind).sized16(self.ek_certificate).sized16(self.ek_public)
        w.u8(len(self.intermediates))
        for certificate in self.intermediates:
            w.sized16(certificate)
        w.sized16(self.ak_public)

    @classmethod
    def read(cls, r: Reader) -> EnrolBegin:
        ek_kind = r.u8()
        ek_certificate = r.sized16(MAX_CERTIFICATE, "EK certificate")
        ek_public = r.sized16(_MAX_PUBLIC, "EK public area")
        count = r.u8()
        if count > MAX_CHAIN:
            raise r.fail(f"{count} intermediate certificates, at most {MAX_CHAIN} are allowed")
        chain = tuple(r.sized16(MAX_CERTIFICATE, "intermediate certificate") for _ in range(count))
        if sum(map(len, chain)) > MAX_NV_CHAIN:
            raise r.fail(f"the intermediate certificates have more than {MAX_NV_CHAIN} bytes together")
        return cls(ek_kind, ek_certificate, ek_public, chain, r.sized16(_MAX_PUBLIC, "AK public area"))


@dataclass(frozen=True, slots=True)
class EnrolChallenge:
    """What only the TPM that holds both EK and AK can answer; ``cookie`` is the authority's own sealed state."""

    kind: ClassVar[Kind] = Kind.ENROL_CHALLENGE
    cookie: bytes
    id_object: bytes
    encrypted_secret: bytes

    def write(self, w: Writer) -> None:
        w.sized16(self.cookie).sized16(self.id_object).sized16(self.encrypted_secret)

    @classmethod
    def read(cls, r: Reader) -> EnrolChallenge:
        return cls(
            r.sized16(_MAX_COOKIE, "cookie"),
            r.sized16(_MAX_BLOB, "credential"),
            r.sized16(_MAX_BLOB, "encrypted secret"),
        )


@dataclass(frozen=True, slots=True)
class EnrolFinish:
    """``proof`` is :func:`watchword.wire.evidence.enrol_proof` over the activated credential, 32 bytes."""

    kind: ClassVar[Kind] = Kind.ENROL_FINISH
    cookie: bytes
    proof: bytes

    def write(self, w: Writer) -> None:
        w.sized16(self.cookie).raw(self.proof)

    @classmethod
    def read(cls, r: Reader) -> EnrolFinish:
        return cls(r.sized16(_MAX_COOKIE, "cookie"), r.take(32))


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The authority knows this host now, as ``host_id`` (32 bytes)."""

    kind: ClassVar[Kind] = Kind.ENROLLED
    host_id: bytes

    def write(self, w: Writer) -> None:
        w.raw(self.host_id)

    @classmethod
    def read(cls, r: Reader) -> Enrolled:
        return cls(r.take(32))


@dataclass(frozen=True, slots=True)
class ChallengeRequest:
    """Asks for a nonce for one piece of evidence.

    ``token`` names the profile by what is sealed in it; it is empty when the host only wants to be attested.
    """

    kind: ClassVar[Kind] = Kind.CHALLENGE_REQUEST
    host_id: bytes
    purpose: Purpose
    token: str

    def write(self, w: Writer) -> None:
        w.raw(self.host_id).u8(self.purpose).sized16(self.token.encode())

    @classmethod
    def read(cls, r: Reader) -> ChallengeRequest:
        return cls(r.take(32), read_purpose(r), read_text(r, MAX_TOKEN, "token"))


@dataclass(frozen=True, slots=True)
class Challenge:
    """``nonce`` (48 bytes) to quote with, the PCR ``selections`` to quote, and when the nonce ``expires`` (Unix).

    Of the boot with this ``reset_count`` the authority has the first ``ima_from`` entries of the runtime log on file,
    and with ``boot_log`` the firmware's log: they need not be sent again (0: it wants the whole log).
    """

    kind: ClassVar[Kind] = Kind.CHALLENGE
    nonce: bytes
    selections: Selections
    expires: int
    ima_from: int = 0
    reset_count: int = 0
    boot_log: bool = False

    def write(self, w: Writer) -> None:
        w.raw(self.nonce).sized16(encode_selections(self.selections)).u64(self.expires)
        w.u32(self.ima_from).u32(self.reset_count).u8(self.boot_log)

    @classmethod
    def read(cls, r: Reader) -> Challenge:
        return cls(r.take(NONCE_SIZE), _read_selections(r), r.u64(), r.u32(), r.u32(), _read_flag(r, "the boot log"))


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """Evidence, and the wish for the secret in its token."""

    kind: ClassVar[Kind] = Kind.RELEASE_REQUEST
    evidence: Evidence

    def write(self, w: Writer) -> None:
        self.evidence.write(w)

    @classmethod
    def read(cls, r: Reader) -> ReleaseRequest:
        return cls(Evidence.read(r))


@dataclass(frozen=True, slots=True)
class Release:
    """The secret, for this host in this boot only.

    ``public``, ``duplicate`` and ``encrypted_seed`` go into TPM2_Import; the object opens under PolicyPCR over
    ``selections``, PolicyCounterTimer(resetCount = ``reset_count``) and PolicyCounterTimer(clock < ``clock_limit``
    milliseconds). Inside is the data key under which ``payload`` is encrypted.
    """

    kind: ClassVar[Kind] = Kind.RELEASE
    public: bytes
    duplicate: bytes
    encrypted_seed: bytes
    selections: Selections
    reset_count: int
    clock_limit: int
    payload: bytes

    def write(self, w: Writer) -> None:
        w.sized16(self.public).sized16(self.duplicate).sized16(self.encrypted_seed)
        w.sized16(encode_selections(self.selections)).u32(self.reset_count).u64(self.clock_limit)
        w.sized16(self.payload)

    @classmethod
    def read(cls, r: Reader) -> Release:
        return cls(
            r.sized16(_MAX_BLOB, "sealed public area"),
            r.sized16(_MAX_BLOB, "duplicate"),
            r.sized16(_MAX_BLOB, "encrypted seed"),
            _read_selections(r),
            r.u32(),
            r.u64(),
            r.sized16(_MAX_BLOB, "payload"),
        )


@dataclass(frozen=True, slots=True)
class AttestRequest:
    """Evidence, and no wish for a secret: the host only shows the state that it is in."""

    kind: ClassVar[Kind] = Kind.ATTEST_REQUEST
    evidence: Evidence

    def write(self, w: Writer) -> None:
        self.evidence.write(w)

    @classmethod
    def read(cls, r: Reader) -> AttestRequest:
        return cls(Evidence.read(r))


@dataclass(frozen=True, slots=True)
class Attested:
    """What the authority makes of a host, in the profile that it watches hosts by.

    ``state`` "trusted", "degraded" or "failed"; ``level`` that was reached ("" for none) and its ``rank`` (0 for none);
    ``until`` Unix time at which this ends by itself; ``code`` and ``reason`` of the first finding in the way, if any.
    ``next`` is the challenge for the next attestation, when the authority gives one ahead.
    """

    kind: ClassVar[Kind] = Kind.ATTESTED
    state: str
    level: str
    rank: int
    until: int
    code: str = ""
    reason: str = ""
    next: Challenge | None = None

    def write(self, w: Writer) -> None:
        w.sized16(_clip(self.state)).sized16(_clip(self.level)).u16(self.rank).u64(self.until)
        w.sized16(_clip(self.code)).sized16(_clip(self.reason)).u8(self.next is not None)
        if self.next is not None:
            self.next.write(w)

    @classmethod
    def read(cls, r: Reader) -> Attested:
        state, level = (read_text(r, _MAX_TEXT, name) for name in ("state", "level"))
        rank, until = r.u16(), r.u64()
        code, reason = (read_text(r, _MAX_TEXT, name) for name in ("code", "reason"))
        ahead = _read_flag(r, "the next challenge")
        return cls(state, level, rank, until, code, reason, Challenge.read(r) if ahead else None)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The authority says no: stable ``code``, ``clause`` number, one sentence, and whether to ``retry`` as is."""

    kind: ClassVar[Kind] = Kind.REFUSAL
    code: str
    clause: str
    message: str
    retry: bool = False

    def write(self, w: Writer) -> None:
        for text in (self.code, self.clause, self.message):
            w.sized16(_clip(text))
        w.u8(self.retry)

    @classmethod
    def read(cls, r: Reader) -> Refusal:
        code, clause, message = (read_text(r, _MAX_TEXT, name) for name in ("code", "clause", "message"))
        return cls(code, clause, message, _read_flag(r, "a retry"))


Request: TypeAlias = EnrolBegin | EnrolFinish | ChallengeRequest | ReleaseRequest | AttestRequest
Reply: TypeAlias = EnrolChallenge | Enrolled | Challenge | Release | Attested | Refusal

_REQUESTS: Mapping[int, Callable[[Reader], Request]] = {
    Kind.ENROL_BEGIN: EnrolBegin.read,
    Kind.ENROL_FINISH: EnrolFinish.read,
    Kind.CHALLENGE_REQUEST: ChallengeRequest.read,
    Kind.RELEASE_REQUEST: ReleaseRequest.read,
    Kind.ATTEST_REQUEST: AttestRequest.read,
}
_REPLIES: Mapping[int, Callable[[Reader], Reply]] = {
    Kind.ENROL_CHALLENGE: EnrolChallenge.read,
    Kind.ENROLLED: Enrolled.read,
    Kind.CHALLENGE: Challenge.read,
    Kind.RELEASE: Release.read,
    Kind.ATTESTED: Attested.read,
    Kind.REFUSAL: Refusal.read,
}


def encode_request(request: Request) -> bytes:
    return _encode(request)


def encode_reply(reply: Reply) -> bytes:
    return _encode(reply)


def parse_request(data: bytes) -> Request:
    """Read what a host sent. Raises :class:`MalformedError`."""
    return parse_whole(data, "request", lambda r: _dispatch(r, _REQUESTS))


def parse_reply(data: bytes) -> Reply:
    """Read what the authority answered. Raises :class:`MalformedError`."""
    return parse_whole(data, "reply", lambda r: _dispatch(r, _REPLIES))


def _encode(message: Request | Reply) -> bytes:
    writer = Writer().u8(message.kind)
    message.write(writer)
    return writer.done()


def _dispatch(reader: Reader, table: Mapping[int, Callable[[Reader], _T]]) -> _T:
    number = reader.u8()
    read = table.get(number)
    if read is None:
        raise reader.fail(f"is of kind {number}, which is not expected here")
    return read(reader)


def _read_selections(r: Reader) -> Selections:
    return parse_whole(r.sized16(64, "PCR selection"), "PCR selection", parse_selections)


def _read_flag(r: Reader, what: str) -> bool:
    flag = r.u8()
    if flag > 1:
        raise r.fail(f"the flag of {what} is neither 0 nor 1")
    return bool(flag)


def _clip(text: str) -> bytes:
    return text.encode("utf-8", "replace")[:_MAX_TEXT].decode("utf-8", "ignore").encode()
