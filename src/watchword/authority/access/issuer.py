"""The keys of an OpenID provider: its discovery document and its key set, fetched when needed and kept for a while.

OpenID Connect Discovery 1.0 section 4, RFC 7517 section 5. Everything here blocks: never call it on the event loop.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet

from watchword.authority.telemetry import journal
from watchword.authority.telemetry.events import FailureEvent, Tell
from watchword.errors import Unavailable

__all__ = ["FRESH_SECONDS", "KEEP_SECONDS", "RETRY_SECONDS", "Issuer"]

MAX_DOCUMENT: Final = 256 * 1024  # bytes
MAX_KEYS: Final = 64
FETCH_SECONDS: Final = 5.0  # for both documents together
FRESH_SECONDS: Final = 600  # after which keys are asked for again
KEEP_SECONDS: Final = 4 * 3600  # for which keys are good when the issuer does not answer
RETRY_SECONDS: Final = 60  # between two attempts
MIN_RSA_BITS: Final = 2048
_KINDS: Final = ("EC", "OKP", "RSA")


class _Discovery(msgspec.Struct):
    issuer: str
    jwks_uri: str


class _KeySet(msgspec.Struct):
    keys: list[dict[str, msgspec.Raw]]


@dataclass(frozen=True, slots=True)
class _Kept:
    keys: tuple[Key, ...]
    at: float


class Issuer:
    """Keys of the provider ``url``, which the certificates in ``ca_file`` vouch for (the system's when it is None).

    One thread fetches at a time and the others do not wait for it, so a provider that hangs holds up one of them.
    ``clock`` gives seconds that never go back.
    """

    def __init__(
        self,
        url: str,
        ca_file: Path | None,
        tell: Tell = journal.tell,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url, self.ca_file, self._tell, self._clock = url, ca_file, tell, clock
        self._lock = threading.Lock()
        self._kept: _Kept | None = None
        self._next = clock()  # when it may be asked again

    def key(self, kid: str | None) -> Key | None:
        """The key ``kid``, or the only one when a token names none; None when the provider has no such key.

        Raises :class:`Unavailable` (``issuer-unreachable``) when that cannot be told now.
        """
        kept, told = self._current(kid)
        found = _find(kept, kid)
        if found is None and not told:
            raise Unavailable("issuer-unreachable", "the keys of the token's issuer are not known, or not all of them")
        return found

    def _current(self, kid: str | None) -> tuple[tuple[Key, ...], bool]:
        """The keys to go by, and whether a key that is not among them is none of the issuer's."""
        now, kept = self._clock(), self._kept
        wanted = kept is None or now >= kept.at + FRESH_SECONDS or _find(kept.keys, kid) is None
        if wanted and now >= self._next and self._lock.acquire(blocking=False):
            try:
                self._fetch(now)
            finally:
                self._lock.release()
        kept = self._kept
        if kept is None or now >= kept.at + KEEP_SECONDS:
            return (), False
        return kept.keys, now < kept.at + RETRY_SECONDS

    def _fetch(self, now: float) -> None:
        self._next = now + RETRY_SECONDS
        try:
            self._kept = _Kept(_keys(self.url, self.ca_file), now)
        except Unavailable as error:
            self._tell(FailureEvent("access", error.code, error.message))


def _find(keys: tuple[Key, ...], kid: str | None) -> Key | None:
    found = keys if kid is None else [key for key in keys if key.kid == kid]
    return found[0] if len(found) == 1 else None


def _keys(url: str, ca_file: Path | None) -> tuple[Key, ...]:
    until = time.monotonic() + FETCH_SECONDS
    try:
        context = ssl.create_default_context(cafile=ca_file)
        with httpx2.Client(verify=context, timeout=FETCH_SECONDS, follow_redirects=False) as client:
            found = msgspec.json.decode(
                _get(client, f"{url.rstrip('/')}/.well-known/openid-configuration", until), type=_Discovery
            )
            if found.issuer != url:
                raise _unreachable(url, f"it calls itself {found.issuer[:200]!r}")
            if urlsplit(found.jwks_uri).scheme != "https":
                raise _unreachable(url, "its keys are not at an https:// address")
            return _usable(_get(client, found.jwks_uri, until))
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        raise _unreachable(url, str(error)[:200] or type(error).__name__) from None


def _get(client: httpx2.Client, url: str, until: float) -> bytes:
    body = b""
    with client.stream("GET", url, headers={"Accept": "application/json"}) as answer:
        if answer.status_code != 200:
            raise ValueError(f"{url} answered {answer.status_code}")
        for part in answer.iter_bytes():
            body += part
            if len(body) > MAX_DOCUMENT or time.monotonic() > until:
                raise ValueError(f"{url} answered more than {MAX_DOCUMENT} bytes, or too slowly")
    return body


def _usable(document: bytes) -> tuple[Key, ...]:
    """The public keys for signatures; others, and kinds that are unknown, are left out (RFC 7517 section 5)."""
    found: list[Key] = []
    for fields in msgspec.json.decode(document, type=_KeySet).keys[:MAX_KEYS]:
        values = {name: msgspec.json.decode(value) for name, value in fields.items()}
        if values.get("use", "sig") != "sig" or values.get("kty") not in _KINDS or _weak(values):
            continue
        try:
            found += KeySet.import_key_set({"keys": [values]}).keys
        except (JoseError, ValueError, TypeError, KeyError):
            continue
    return tuple(found)


def _weak(values: dict[str, Any]) -> bool:
    """Whether this is an RSA key of less than 2048 bits."""
    return values["kty"] == "RSA" and len(str(values.get("n", ""))) * 6 < MIN_RSA_BITS


def _unreachable(url: str, why: str) -> Unavailable:
    return Unavailable("issuer-unreachable", f"the keys of {url} cannot be had: {why}")
