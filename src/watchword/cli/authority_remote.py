"""Working on an authority from elsewhere: the operations over HTTP, as somebody with a certificate or a token."""

from __future__ import annotations

import re
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlencode

import msgspec

from watchword.cli.profile import read_bounded
from watchword.errors import Finding, MalformedError, Rejected, Unavailable, UsageError, WatchwordError
from watchword.tenant import trust
from watchword.tenant.http import Answer, exchange, pinned_context, problem

if TYPE_CHECKING:
    from watchword.authority.operations import Operation, Question
    from watchword.cli.authority_common import Place

__all__ = ["Remote"]

SECONDS: Final = 60.0
_B64TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_MAX_TOKEN: Final = 16 * 1024  # bytes
_MAX_ANSWER: Final = 64 << 20  # bytes: a large fleet's hosts


class _Refusal(msgspec.Struct, frozen=True):
    """The further members of a problem document about what was asked."""

    error: str = ""
    hint: str = ""
    findings: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Remote:
    """An authority at ``url``; ``headers`` and ``context`` say who asks."""

    url: str
    context: ssl.SSLContext
    headers: dict[str, str]

    @classmethod
    def open(cls, place: Place, passphrase: bytes | None) -> Self:
        """The pinned authority that ``place`` names, as whom it says. Raises :class:`UsageError`, Rejected (K3)."""
        assert place.authority is not None
        if (place.client_cert is None) == (place.token_file is None):
            raise UsageError("usage", "say who you are with either --client-cert or --token-file")
        pinned = trust.load(place.authority)
        context = pinned_context(pinned.keys.tls_ca)
        if place.client_cert is not None:
            _identify(context, place.client_cert, place.client_key or place.client_cert, passphrase)
        headers = {"Authorization": f"Bearer {_token(place.token_file)}"} if place.token_file is not None else {}
        return cls(pinned.url, context, headers)

    def ask(self, operation: Operation, question: Question) -> dict[str, Any]:
        """The authority's answer. Raises what the operation raises, and :class:`Unavailable`."""
        given = {name: value for name, value in msgspec.to_builtins(question).items() if value is not None}
        url, body = f"{self.url}{operation.path}", None
        if operation.changes:
            body = msgspec.json.encode(given)
        elif given:
            url += "?" + urlencode({name: _plain(value) for name, value in given.items()})
        answer = exchange(
            "POST" if operation.changes else "GET", url, self.context,
            body=body, limit=_MAX_ANSWER, timeout=SECONDS, headers=self.headers,
        )  # fmt: skip
        if answer.status != 200:
            raise _error(answer, self.url)
        try:
            return msgspec.json.decode(answer.body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedError(f"the authority's answer: {error}") from None


def _identify(context: ssl.SSLContext, certificate: Path, key: Path, passphrase: bytes | None) -> None:
    _check_private(key, "client-key")
    try:
        # Always a password: without one OpenSSL would ask on the terminal.
        context.load_cert_chain(certificate, key, password=passphrase or b"")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or getattr(error, "reason", None) or "it cannot be read"
        hint = "an encrypted key is opened with --passphrase-file"
        raise UsageError(
            "client-certificate", f"{certificate} and {key} are no usable pair: {why}", hint=hint
        ) from None


def _token(file: Path) -> str:
    _check_private(file, "token-file")
    token = read_bounded(file, _MAX_TOKEN).decode("ascii", "replace").strip()
    if not _B64TOKEN.fullmatch(token):  # RFC 6750 section 2.1
        raise UsageError("token-file", f"{file} does not hold one token", hint="the token alone, on one line")
    return token


def _check_private(file: Path, code: str) -> None:
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError as error:
        raise UsageError("file-unreadable", f"{file} cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise UsageError(code, f"{file} is open to other users (mode {mode:04o})", hint=f"chmod 600 {file}")


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _error(answer: Answer, url: str) -> WatchwordError:
    """What the operation raised over there, or what kept it from being asked."""
    code, text = problem(answer, url)
    try:
        told = msgspec.json.decode(answer.body, type=_Refusal)
        findings = [Finding(**each) for each in told.findings]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError):
        told, findings = _Refusal(), []
    if told.error == "Rejected" and findings:
        return Rejected(*findings, hint=told.hint)
    if told.error == "MalformedError":
        return MalformedError(text, code=code, hint=told.hint)
    if code and 400 <= answer.status < 500 and answer.status not in (408, 429):
        return UsageError(code, text, hint=told.hint or _HINTS.get(code, ""))
    return Unavailable(code or "http-status", text, hint="try again in a moment")


_HINTS: Final = {
    "unauthenticated": "the authority's operator says who people are: access.toml",
    "forbidden": "the authority's operator gives roles: access.toml",
    "not-found": "the authority is of another version, or the address is another service's",
}
