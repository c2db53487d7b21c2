"""One bounded HTTP exchange: so many bytes, so many seconds, no redirects, nothing taken from the environment."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec

from watchword.errors import Finding, Rejected, Unavailable, UsageError

__all__ = ["Answer", "anonymous_context", "exchange", "pinned_context", "problem", "web_context"]

_USER_AGENT = "watchword"


@dataclass(frozen=True, slots=True)
class Answer:
    """HTTP status and body."""

    status: int
    body: bytes


class _Problem(msgspec.Struct, frozen=True):
    """The members of a problem document (RFC 9457) that are used."""

    type: str = ""
    title: str = ""
    detail: str = ""


def anonymous_context() -> ssl.SSLContext:
    """TLS to whoever answers: only for fetching documents that carry their own signatures."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def pinned_context(ca_pem: str) -> ssl.SSLContext:
    """TLS 1.3 to a server that this one certificate authority (PEM text) vouches for, and to no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=ca_pem)
    except (ssl.SSLError, ValueError):
        raise Rejected(Finding("K3", "tls-ca", "the key list names no usable TLS certificate authority")) from None
    return context


def web_context() -> ssl.SSLContext:
    """TLS as the system trusts it: for a provider, who is believed in nothing anyway."""
    return ssl.create_default_context()


def exchange(
    method: str,
    url: str,
    context: ssl.SSLContext,
    *,
    body: bytes | None = None,
    limit: int = 8 << 20,
    timeout: float = 20.0,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request; the answer has at most ``limit`` bytes and all of it takes at most ``timeout`` seconds.

    ``headers`` come beside the usual ones.

    Raises :class:`UsageError` (``bad-url``), :class:`Unavailable` (``http-unreachable``, ``http-timeout``,
    ``http-too-large``), :class:`Rejected` (``tls-untrusted``) when the peer's certificate is not acceptable.
    """
    return asyncio.run(_exchange(method, url, context, body, limit, timeout, headers or {}))


async def _exchange(
    method: str,
    url: str,
    context: ssl.SSLContext,
    body: bytes | None,
    limit: int,
    timeout: float,
    more: Mapping[str, str],
) -> Answer:
    # identity: a compressed answer would be small on the wire and without bounds in memory.
    headers = {"Accept-Encoding": "identity", "User-Agent": _USER_AGENT, **more}
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        async with (
            asyncio.timeout(timeout),
            httpx2.AsyncClient(verify=context, trust_env=False, timeout=timeout) as client,
            client.stream(method, url, content=body, headers=headers) as response,
        ):
            data = bytearray()
            async for chunk in response.aiter_raw():
                data += chunk
                if len(data) > limit:
                    raise Unavailable("http-too-large", f"{_place(url)} answered with more than {limit} bytes")
            return Answer(response.status_code, bytes(data))
    except (TimeoutError, httpx2.TimeoutException):
        raise Unavailable("http-timeout", f"{_place(url)} did not answer within {timeout:g} seconds") from None
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol):
        raise UsageError("bad-url", f"{url[:100]!r} is not a web address") from None
    except httpx2.HTTPError as error:
        raise _failed(url, error) from None


def _failed(url: str, error: Exception) -> Rejected | Unavailable:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            finding = Finding(
                "K3",
                "tls-untrusted",
                "the server's certificate is not one that was expected",
                actual=str(cause.verify_message),
                subject=_place(url),
            )
            return Rejected(finding, hint="somebody may be in between; after a key change: watchword trust update")
        cause = cause.__cause__ or cause.__context__
    reason = str(error) or type(error).__name__
    return Unavailable(
        "http-unreachable", f"{_place(url)} cannot be reached: {reason[:200]}", hint="check the address and the network"
    )


def _place(url: str) -> str:
    """Scheme, host and port only: a path may hold a launch id."""
    return "/".join(url.split("/", 3)[:3])[:200]


def problem(answer: Answer, url: str) -> tuple[str, str]:
    """Code and sentence of an answer that is not a success, whatever its body is."""
    try:
        document: Any = msgspec.json.decode(answer.body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = _Problem()
    code = document.type.removeprefix("urn:watchword:problem:")[:60]
    text = (document.detail or document.title)[:300]
    return code, f"{_place(url)} answered {answer.status}" + (f": {text}" if text else "")
