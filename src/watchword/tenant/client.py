"""What a tenant asks an authority: key lists, profiles and the signed decisions of a launch."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from watchword.crypto.keylist import MAX_CHAIN, KeyList
from watchword.errors import MalformedError, Unavailable, UsageError
from watchword.policy.profile import MAX_PROFILE_SIZE, Profile
from watchword.tenant.http import anonymous_context, exchange, pinned_context, problem
from watchword.wire.merkle import HASH_SIZE
from watchword.wire.note import MAX_NOTE
from watchword.wire.tile import ENTRIES, MAX_ENTRY, Tile

__all__ = ["AuthorityClient", "authority_url", "fetch_key_lists"]

_MAX_ANSWER = 8 << 20  # bytes
_MAX_STATEMENT = 128 << 10  # bytes
_MAX_PAGES = 50  # of decisions; more than any launch has, and an end for an authority that never stops
_T = TypeVar("_T")


class _Keys(msgspec.Struct, frozen=True):
    keys: list[msgspec.Raw]


class _Published(msgspec.Struct, frozen=True):
    id: str


class _Decisions(msgspec.Struct, frozen=True):
    decisions: list[msgspec.Raw]
    results: list[str] = []
    next: int | None = None


class _Stack(msgspec.Struct, frozen=True):
    digest: str
    endorsed_by: list[str]


class _Stacks(msgspec.Struct, frozen=True):
    stacks: list[_Stack]


def authority_url(text: str) -> str:
    """``text`` as ``https://host[:port]``; raises :class:`UsageError` (``bad-url``) for anything else."""
    try:
        parts = urlsplit(text)
        good = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
        raise UsageError(
            "bad-url", f"{text[:100]!r} is not the address of an authority", hint="write https://HOST[:PORT]"
        )
    return f"https://{parts.netloc}"


def fetch_key_lists(url: str, context: ssl.SSLContext | None = None) -> list[bytes]:
    """The signed key lists that ``url`` offers, oldest first. Nothing is verified; without ``context`` by anybody."""
    context = context or anonymous_context()
    keys = _decode(_get(f"{url}/v1/keys", context, _MAX_ANSWER), _Keys, "key lists").keys
    if not 1 <= len(keys) <= MAX_CHAIN:
        raise MalformedError(f"key lists: the authority gave {len(keys)}, 1 to {MAX_CHAIN} are possible")
    return [bytes(envelope) for envelope in keys]


class AuthorityClient:
    """An authority at ``url`` whose verified ``keys`` name the TLS certificate authority to believe."""

    def __init__(self, url: str, keys: KeyList) -> None:
        self.url = url
        self.keys = keys
        self._context = pinned_context(keys.tls_ca)

    def profile(self, profile_id: bytes) -> Profile:
        """The profile with this id (32 bytes). Raises :class:`MalformedError` when the authority gives another."""
        data = _get(f"{self.url}/v1/profiles/{profile_id.hex()}", self._context, MAX_PROFILE_SIZE)
        profile = Profile.parse(data)
        if profile.id != profile_id:
            raise MalformedError("profile: the authority answered with another profile", code="profile-mismatch")
        return profile

    def publish_profile(self, document: bytes) -> bool:
        """Give the authority a profile (at most 256 KiB) under its hash; whether it is new there.

        Raises :class:`MalformedError` when it is no profile or the authority took it for another,
        :class:`Unavailable` with the authority's reason.
        """
        wanted = Profile.parse(document)
        answer = exchange("POST", f"{self.url}/v1/profiles", self._context, body=document, limit=MAX_PROFILE_SIZE)
        if answer.status not in (200, 201):
            raise _failed(*problem(answer, self.url))
        if _decode(answer.body, _Published, "published profile").id != wanted.id.hex():
            raise MalformedError("profile: the authority kept another profile", code="profile-mismatch")
        return answer.status == 201

    def decisions(self, launch_id: bytes) -> Sequence[bytes]:
        """The envelopes of all decisions about a launch (id: 16 bytes), oldest first; none when it knows no such.

        The signatures are not checked here. Raises :class:`Unavailable`, :class:`MalformedError`.
        """
        return [bytes(envelope) for page in self._pages(launch_id) for envelope in page.decisions]

    def results(self, launch_id: bytes) -> Sequence[bytes]:
        """The attestation results (EAR, signed JWTs) of the same decisions, in the same order; also not checked."""
        return [result.encode() for page in self._pages(launch_id) for result in page.results]

    def standing(self, launch_id: bytes) -> bytes:
        """The signed statement about the hosts of a launch (id: 16 bytes). Its signature is not checked here.

        Raises :class:`Unavailable` (``launch-unknown`` when nothing was released).
        """
        return _get(f"{self.url}/v1/launches/{launch_id.hex()}/standing", self._context, _MAX_STATEMENT)

    def checkpoint(self) -> bytes:
        """The published checkpoint of the log; nothing is checked."""
        return _get(f"{self.url}/checkpoint", self._context, MAX_NOTE)

    def tile(self, tile: Tile) -> bytes:
        """A tile or entry bundle of the log. Raises :class:`Unavailable` (``tile-unknown``) when there is none."""
        limit = tile.width * ((MAX_ENTRY + 2) if tile.level == ENTRIES else HASH_SIZE)
        return _get(f"{self.url}/tile/{tile.path}", self._context, limit)

    def stacks(self) -> list[tuple[str, list[str]]]:
        """The digest of every stack that the authority lists, and who endorsed it."""
        listed = _decode(_get(f"{self.url}/v1/stacks", self._context, _MAX_ANSWER), _Stacks, "stacks").stacks
        return [(each.digest, each.endorsed_by) for each in listed]

    def _pages(self, launch_id: bytes) -> Iterator[_Decisions]:
        after = 0
        for _ in range(_MAX_PAGES):
            url = f"{self.url}/v1/launches/{launch_id.hex()}" + (f"?after={after}" if after else "")
            page = _decode(_get(url, self._context, _MAX_ANSWER, missing=b'{"decisions":[]}'), _Decisions, "decisions")
            yield page
            if page.next is None:
                return
            if page.next <= after:
                raise MalformedError("decisions: the pages of the answer go in circles")
            after = page.next
        raise Unavailable("decisions-too-many", "the authority has more decisions about this launch than can be read")


def _get(url: str, context: ssl.SSLContext, limit: int, *, missing: bytes | None = None) -> bytes:
    answer = exchange("GET", url, context, limit=limit)
    if answer.status == 200:
        return answer.body
    code, text = problem(answer, url)
    if missing is not None and answer.status == 404 and code == "launch-unknown":
        return missing
    raise _failed(code, text)


def _failed(code: str, text: str) -> Unavailable:
    return Unavailable(code or "http-status", text, hint=_HINTS.get(code, ""))


_HINTS = {
    "profile-unknown": "give the profile to the authority first, or name a profile that it has",
    "overloaded": "try again in a moment",
    "launch-unknown": "nothing was released for this launch; see what was decided: watchword verify NAME",
    "rate-limited": "wait a minute, then try again",
    "profiles-full": "ask the authority's operator: watchword authority profile add FILE",
}


def _decode(data: bytes, kind: type[_T], what: str) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"{what}: {error}") from None
