"""Bytes to a TPM and back: a character device, a Unix socket or TCP (swtpm's raw command channel).

A transport carries one whole command and returns one whole response. It judges nothing but the frame: the
response's own size field must agree with what arrived and stay under :data:`MAX_RESPONSE`. After a time-out or a
broken frame it closes itself, because the next bytes would be the answer to an older question.
"""

from __future__ import annotations

import os
import select
import socket
import time
from typing import Protocol

from watchword.errors import MalformedError, Unavailable, UsageError
from watchword.wire.reader import Reader

__all__ = ["DEFAULT_TIMEOUT", "HEADER", "MAX_RESPONSE", "DeviceTransport", "SocketTransport", "Transport", "connect"]

HEADER = 10  # tag (2), size (4), command or response code (4)
MAX_RESPONSE = 4096 + HEADER
DEFAULT_TIMEOUT = 60.0  # seconds; a hardware TPM may need many for an RSA primary key
_UNIX_PATH_MAX = 107
_PAUSE = 0.02  # seconds


class Transport(Protocol):
    """One connection to one TPM."""

    def send(self, command: bytes) -> bytes:
        """Send one command, return its whole response. Raises Unavailable or MalformedError."""

    def close(self) -> None:
        """Let go of the TPM; calling it twice is harmless."""


def connect(address: str, timeout: float = DEFAULT_TIMEOUT) -> Transport:
    """Open the TPM at ``address``: ``device:/dev/tpmrm0``, ``unix:/path`` or ``tcp:host:port``.

    ``timeout`` is in seconds for each command. Raises UsageError for an address of another form and Unavailable
    (``tpm-unreachable``) when nothing answers there.
    """
    kind, _, rest = address.partition(":")
    try:
        if kind == "device" and rest:
            return DeviceTransport(rest, timeout)
        if kind == "unix" and rest:
            return SocketTransport(_unix(rest, timeout), timeout)
        if kind == "tcp" and ":" in rest:
            return SocketTransport(_tcp(rest, timeout), timeout)
    except OSError as error:
        raise Unavailable(
            "tpm-unreachable",
            f"no TPM answers at {address}: {error.strerror or error}",
            hint="is the TPM enabled, and may this user open it (group tss)?",
        ) from error
    raise UsageError(
        "tpm-address",
        f"{address!r} is not the address of a TPM",
        hint="use device:/dev/tpmrm0, unix:/path or tcp:host:port",
    )


def _unix(path: str, timeout: float) -> socket.socket:
    if len(os.fsencode(path)) > _UNIX_PATH_MAX:
        raise UsageError("tpm-address", f"the socket path is longer than {_UNIX_PATH_MAX} bytes: {path}")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        _connect(sock, path, time.monotonic() + timeout)
    except OSError:
        sock.close()
        raise
    return sock


def _connect(sock: socket.socket, path: str, deadline: float) -> None:
    """With a time-out a socket of this kind does not wait for a server that is busy with others: connect(2), EAGAIN."""
    while True:
        try:
            return sock.connect(path)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_PAUSE)


def _tcp(rest: str, timeout: float) -> socket.socket:
    host, _, port = rest.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UsageError("tpm-address", f"tcp:{rest} is not tcp:host:port")
    sock = socket.create_connection((host.strip("[]"), int(port)), timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _size(header: bytes) -> int:
    """The size that a response header announces, checked against the bounds."""
    reader = Reader(header, "TPM response")
    reader.u16()
    size = reader.u32()
    if not HEADER <= size <= MAX_RESPONSE:
        raise reader.fail(f"announces {size} bytes, {HEADER} to {MAX_RESPONSE} are possible")
    return size


def _late(timeout: float) -> Unavailable:
    return Unavailable(
        "tpm-timeout",
        f"the TPM did not answer within {timeout:g} s",
        hint="another program may hold it: an emulated TPM serves one client at a time",
    )


def _gone(why: str) -> Unavailable:
    return Unavailable("tpm-gone", f"the connection to the TPM broke: {why}")


class SocketTransport:
    """A connected stream socket that carries bare commands and responses."""

    def __init__(self, sock: socket.socket, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._sock = sock
        self._timeout = timeout

    def send(self, command: bytes) -> bytes:
        deadline = time.monotonic() + self._timeout
        try:
            self._sock.settimeout(self._timeout)
            self._sock.sendall(command)
            header = self._read(HEADER, deadline)
            return header + self._read(_size(header) - HEADER, deadline)
        except TimeoutError as error:
            self.close()
            raise _late(self._timeout) from error
        except OSError as error:
            self.close()
            raise _gone(error.strerror or "it was closed before") from error
        except (MalformedError, Unavailable):
            self.close()
            raise

    def _read(self, size: int, deadline: float) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            # The deadline is for the whole answer: one byte now and then must not hold us for ever.
            self._sock.settimeout(max(deadline - time.monotonic(), 0.001))
            part = self._sock.recv(size - len(parts))
            if not part:
                raise _gone("the TPM closed it")
            parts += part
        return bytes(parts)

    def close(self) -> None:
        self._sock.close()


class DeviceTransport:
    """A Linux TPM character device. ``/dev/tpmrm0`` gives this process handles of its own and flushes them at close."""

    def __init__(self, path: str, timeout: float = DEFAULT_TIMEOUT) -> None:
        # Non-blocking, because a blocking write sleeps in the kernel until the TPM is done, without a time-out.
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._timeout = timeout

    def send(self, command: bytes) -> bytes:
        if self._fd < 0:
            raise _gone("it was closed before")
        try:
            os.write(self._fd, command)
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            if not poll.poll(self._timeout * 1000):
                raise _late(self._timeout)
            response = os.read(self._fd, MAX_RESPONSE)
            if len(response) < HEADER or _size(response[:HEADER]) != len(response):
                raise MalformedError(f"TPM response: {len(response)} bytes arrived, its size field disagrees")
        except OSError as error:
            self.close()
            raise _gone(error.strerror or str(error)) from error
        except (MalformedError, Unavailable):
            self.close()
            raise
        return response

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
