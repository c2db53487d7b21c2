"""One command frame out, one response frame in: TPM 2.0 Library, Part 1, clause 18 and Part 3, clause 5.

:class:`Channel` knows handles, authorizations and response codes. What a command is for is the business of
:mod:`watchword.agent.tpm.client`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from watchword.agent.tpm.errors import RC_RETRY, RC_TESTING, RC_YIELDED, tpm_error
from watchword.agent.tpm.transport import HEADER, MAX_RESPONSE, Transport
from watchword.errors import WatchwordError
from watchword.wire.reader import Reader, Writer

__all__ = ["Answer", "Authorization", "Channel", "Code", "Entity", "Handle"]

_NO_SESSIONS, _SESSIONS = 0x8001, 0x8002
_BUSY = frozenset({RC_RETRY, RC_YIELDED, RC_TESTING})
_TRIES = 10
_FIRST_PAUSE = 0.02  # seconds; doubled each time, about 10 s in all


class Code(IntEnum):
    """TPM_CC (Part 2, 6.5.2), those that Watchword sends."""

    NV_DEFINE_SPACE = 0x12A
    CLEAR = 0x126
    CREATE_PRIMARY = 0x131
    NV_WRITE = 0x137
    STARTUP = 0x144
    SHUTDOWN = 0x145
    ACTIVATE_CREDENTIAL = 0x147
    NV_READ = 0x14E
    POLICY_SECRET = 0x151
    IMPORT = 0x156
    LOAD = 0x157
    QUOTE = 0x158
    UNSEAL = 0x15E
    FLUSH_CONTEXT = 0x165
    NV_READ_PUBLIC = 0x169
    POLICY_COUNTER_TIMER = 0x16D
    POLICY_OR = 0x171
    READ_PUBLIC = 0x173
    START_AUTH_SESSION = 0x176
    GET_CAPABILITY = 0x17A
    PCR_READ = 0x17E
    POLICY_PCR = 0x17F
    POLICY_RESTART = 0x180
    READ_CLOCK = 0x181
    PCR_EXTEND = 0x182

    @property
    def title(self) -> str:
        """The name in the specification: ``TPM2_PCR_Read``."""
        words = [word if word in ("NV", "PCR", "OR") else word.capitalize() for word in self.name.split("_")]
        family = f"{words.pop(0)}_" if words[0] in ("NV", "PCR") else ""
        return f"TPM2_{family}{''.join(words)}"


class Handle(IntEnum):
    """TPM_RH, permanent handles (Part 2, 7.4)."""

    NULL = 0x40000007
    PASSWORD = 0x40000009
    LOCKOUT = 0x4000000A
    ENDORSEMENT = 0x4000000B
    PLATFORM = 0x4000000C


@dataclass(frozen=True, slots=True)
class Entity:
    """A handle, and the Name that stands for it in authorizations (Part 1, clause 16)."""

    handle: int
    name: bytes

    @classmethod
    def of(cls, handle: int) -> Entity:
        """A permanent handle, PCR or session: its Name is the handle."""
        return cls(handle, handle.to_bytes(4, "big"))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a successful command returned."""

    handles: tuple[int, ...]
    parameters: bytes

    def reader(self, what: str) -> Reader:
        return Reader(self.parameters, what)


class Authorization(Protocol):
    """A password or a session, as it goes into the authorization area (Part 1, clause 19)."""

    def command(self, code: int, names: bytes, parameters: bytes) -> bytes:
        """TPMS_AUTH_COMMAND for a command with these handle names and parameters."""

    def check(self, code: int, parameters: bytes, nonce: bytes, attributes: int, hmac: bytes) -> None:
        """Verify one TPMS_AUTH_RESPONSE. Raises TpmError."""

    def reveal(self, parameters: bytes) -> bytes:
        """The response parameters with the first one decrypted, if this session encrypts."""


class Channel:
    """Sends commands over ``transport`` and returns what the TPM answered."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def run(
        self,
        code: Code,
        handles: Sequence[Entity] = (),
        parameters: bytes = b"",
        auths: Sequence[Authorization] = (),
        *,
        out_handles: int = 0,
        step: str = "",
    ) -> Answer:
        """Run one command.

        ``auths`` authorize the first handles in order; more of them only encrypt or audit. ``step`` names in
        errors what the command was there to check, where that is not the command itself. Raises TpmError for
        every response code but success, Unavailable when no answer comes, MalformedError when it is not one.
        """
        names = b"".join(entity.name for entity in handles)
        body = Writer()
        for entity in handles:
            body.u32(entity.handle)
        if auths:
            body.sized32(b"".join(auth.command(code, names, parameters) for auth in auths))
        body.raw(parameters)
        reader = self._exchange(_frame(code, body.done(), bool(auths)), step or code.title)
        returned = tuple(reader.u32() for _ in range(out_handles))
        if not auths:
            return Answer(returned, reader.rest())
        try:
            return Answer(returned, _authorized(code, reader, auths))
        except WatchwordError:
            # What nobody vouched for is not used, and not left behind either.
            for handle in returned:
                with suppress(WatchwordError):
                    self.flush(handle)
            raise

    def flush(self, handle: int) -> None:
        """TPM2_FlushContext of an object or session."""
        self.run(Code.FLUSH_CONTEXT, (), handle.to_bytes(4, "big"))

    @contextmanager
    def holding(self, handle: int) -> Iterator[int]:
        """Flush ``handle`` at the end, whatever happens; an error on the way out does not hide the first one."""
        try:
            yield handle
        except BaseException:
            with suppress(WatchwordError):
                self.flush(handle)
            raise
        self.flush(handle)

    def _exchange(self, command: bytes, step: str) -> Reader:
        """The response behind its header. A busy TPM gets the very same bytes again: no nonce has moved."""
        pause = _FIRST_PAUSE
        for attempt in range(_TRIES):
            reader = Reader(self._transport.send(command), f"response of {step}")
            tag, size, rc = reader.u16(), reader.u32(), reader.u32()
            if size != reader.left + HEADER:
                raise reader.fail("its size field disagrees with what arrived")
            if rc not in _BUSY or attempt == _TRIES - 1:
                break
            time.sleep(pause)
            pause *= 2
        if rc:
            raise tpm_error(step, rc)
        if tag != int.from_bytes(command[:2], "big"):
            raise reader.fail(f"carries tag 0x{tag:04x}")
        return reader

    def close(self) -> None:
        self._transport.close()


def _frame(code: Code, body: bytes, sessions: bool) -> bytes:
    tag = _SESSIONS if sessions else _NO_SESSIONS
    return Writer().u16(tag).u32(HEADER + len(body)).u32(code).raw(body).done()


def _authorized(code: Code, reader: Reader, auths: Sequence[Authorization]) -> bytes:
    """The response parameters, after every session has vouched for them as they crossed the transport."""
    parameters = reader.sized32(MAX_RESPONSE, "parameters")
    for auth in auths:
        nonce = reader.sized16(64, "nonceTPM")
        attributes = reader.u8()
        auth.check(code, parameters, nonce, attributes, reader.sized16(64, "response HMAC"))
    reader.finish()
    for auth in auths:
        parameters = auth.reveal(parameters)
    return parameters
