"""How sealed messages reach the authority: directly, or through a relay that nobody trusts.

Both carry the same bytes. Confidentiality and authenticity are the envelope's (``watchword.crypto.envelope``); TLS on
the direct way only keeps others from seeing who talks. So all that a relay, or whoever sits on the wire, can do is not
deliver, and everything here that goes wrong is :class:`Unavailable`.
"""

from __future__ import annotations

import json
import re
import secrets
import ssl
import time
from types import TracebackType
from typing import Protocol, TypeVar

import httpx2

from watchword.crypto.envelope import REPLY_KEY_SIZE, open_reply, seal_request
from watchword.crypto.keylist import KeyList
from watchword.errors import Finding, MalformedError, Rejected, Unavailable, UsageError, WatchwordError
from watchword.wire.messages import MAX_REQUEST, Refusal, Reply, Request, encode_request, parse_reply

__all__ = ["DEFAULT_TIMEOUT", "Exchange", "HttpsExchange", "RelayExchange", "ask", "new_reply_key"]

DEFAULT_TIMEOUT = 30.0  # seconds for one whole exchange
_ROUTE = "/v1/messages"
_MAX_REPLY = 128 * 1024  # bytes: replies are small; the largest is an enrolment challenge
_MAX_SAID = 300  # characters of a stranger's explanation that are passed on
_CODE = re.compile(r"[a-z][a-z0-9-]{1,47}\Z")
_PROBLEM_TYPE = "urn:watchword:problem:"
_HINTS = {
    "host-unknown": "Enrol this host first: watchword agent enrol",
    "quote-reset-count": "The TPM was cleared: enrol this host again with watchword agent enrol",
    "sealed-unopenable": "The authority's keys were rotated: fetch its key list again.",
    "nonce-expired": "Try again; if it happens again, look at the clock of the authority and the load of this host.",
}
_R = TypeVar("_R", bound=Reply)


class Exchange(Protocol):
    """Carries one sealed request and brings back one sealed reply."""

    def send(self, sealed: bytes) -> bytes:
        """``sealed`` is at most 73 MiB, the reply at most 128 KiB. Raises :class:`Unavailable`."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...


class _Http:
    """The HTTP part that both ways share: one POST, bounded in size and in time."""

    def __init__(self, url: str, verify: ssl.SSLContext | bool, whom: str, timeout: float) -> None:
        self._url = url.rstrip("/") + _ROUTE
        self._whom = whom
        self._timeout = timeout
        # Proxies and certificates of the environment are left out: a service must not depend on who starts it.
        self._client = httpx2.Client(verify=verify, timeout=timeout, trust_env=False, follow_redirects=False)

    def send(self, sealed: bytes) -> bytes:
        if len(sealed) > MAX_REQUEST:
            raise Unavailable("request-size", f"the request has {len(sealed)} bytes, at most {MAX_REQUEST} are carried")
        headers = {"content-type": "application/octet-stream", "accept-encoding": "identity"}
        try:
            with self._client.stream("POST", self._url, content=sealed, headers=headers) as response:
                body = self._read(response)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise self._unreachable(error) from None
        if response.status_code != 200:
            raise _problem(self._whom, response.status_code, body)
        return body

    def _read(self, response: httpx2.Response) -> bytes:
        # The client's own time-out starts anew with every piece; a trickle of bytes must end too.
        deadline = time.monotonic() + self._timeout
        body = bytearray()
        for piece in response.iter_raw():
            body += piece
            if len(body) > _MAX_REPLY:
                raise Unavailable("reply-size", f"{self._whom} sends more than {_MAX_REPLY} bytes")
            if time.monotonic() > deadline:
                raise Unavailable("exchange-slow", f"{self._whom} did not finish its answer in {self._timeout:.0f} s")
        return bytes(body)

    def _unreachable(self, error: Exception) -> Unavailable:
        if isinstance(error, httpx2.TimeoutException):
            return Unavailable("exchange-slow", f"{self._whom} did not answer in {self._timeout:.0f} s")
        said = str(error)[:_MAX_SAID] or type(error).__name__
        return Unavailable("exchange-failed", f"{self._whom} cannot be reached at {self._url}: {said}")

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Exchange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class HttpsExchange(_Http):
    """Talks to the authority at ``url`` (https), whose certificate authority is the one in its pinned key list.

    ``timeout`` in seconds for one exchange. Raises :class:`UsageError` (``authority-url``, ``authority-ca``).
    """

    def __init__(self, url: str, keys: KeyList, timeout: float = DEFAULT_TIMEOUT) -> None:
        if not url.startswith("https://"):
            raise UsageError("authority-url", f"the authority's address must start with https://, not {url[:80]!r}")
        try:
            context = ssl.create_default_context(cadata=keys.tls_ca)
        except (ssl.SSLError, ValueError) as error:
            raise UsageError("authority-ca", f"the key list has no usable TLS certificate: {error}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        super().__init__(url, context, "the authority", timeout)


class RelayExchange(_Http):
    """Talks to a relay at ``url`` (http or https). It is trusted with nothing: it sees sizes and times only."""

    def __init__(self, url: str, timeout: float = DEFAULT_TIMEOUT) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError("relay-url", f"the relay's address must start with http:// or https://, not {url[:80]!r}")
        super().__init__(url, True, "the relay", timeout)


def new_reply_key() -> bytes:
    """32 fresh random bytes; each serves for one reply."""
    return secrets.token_bytes(REPLY_KEY_SIZE)


def ask(exchange: Exchange, keys: KeyList, request: Request, expected: type[_R], reply_key: bytes | None = None) -> _R:
    """Send ``request`` sealed to the authority and return its reply, which is of type ``expected``.

    ``reply_key`` is 32 bytes used for this reply only (made here when absent). Raises :class:`Rejected` with the
    authority's clause and code when it refuses, :class:`Unavailable` when it asks to try again or cannot be reached,
    :class:`MalformedError` when the reply is not the authority's.
    """
    key = reply_key if reply_key is not None else new_reply_key()
    sealed = exchange.send(seal_request(encode_request(request), keys, key))
    reply = parse_reply(open_reply(sealed, key))
    if isinstance(reply, Refusal):
        raise _refused(reply)
    if not isinstance(reply, expected):
        raise MalformedError(
            f"reply: the authority answered with {type(reply).__name__} out of turn", code="reply-order"
        )
    return reply


def _refused(refusal: Refusal) -> WatchwordError:
    code = refusal.code if _CODE.match(refusal.code) else "refused"
    hint = _HINTS.get(code, "")
    if refusal.retry:
        return Unavailable(code, f"the authority asks to try again: {refusal.message}", hint=hint)
    return Rejected(Finding(refusal.clause, code, refusal.message), hint=hint)


def _problem(whom: str, status: int, body: bytes) -> Unavailable:
    """A problem document (RFC 9457) as an error. Nobody signed it: it is a help to people and decides nothing."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = {}
    fields = document if isinstance(document, dict) else {}
    kind, detail = fields.get("type"), fields.get("detail") or fields.get("title")
    code = kind.removeprefix(_PROBLEM_TYPE) if isinstance(kind, str) else ""
    known = code if _CODE.match(code) else "exchange-refused"
    said = f": {detail[:_MAX_SAID]}" if isinstance(detail, str) else ""
    return Unavailable(known, f"{whom} answered with status {status}{said}", hint=_HINTS.get(known, ""))
