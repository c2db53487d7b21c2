"""What the address of a page says. Nothing here raises anything but :class:`Problem`."""

from __future__ import annotations

import re
from typing import Any, Final

from starlette.datastructures import QueryParams

from watchword.authority.routes.params import hex_bytes
from watchword.authority.serving.problems import Problem
from watchword.authority.store import ProfileRow, Store

__all__ = ["chosen_profile", "host_range", "identity", "number", "word"]

_WORD: Final = re.compile(r"[A-Za-z0-9._+-]{1,64}")
_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_PREFIX: Final = re.compile(r"[0-9a-f]{1,64}")


def word(query: QueryParams, name: str) -> str | None:
    """A short name, None when it is absent or empty."""
    text = query.get(name, "")
    if text and not _WORD.fullmatch(text):
        raise Problem("query-malformed", f"{name} is not a name")
    return text or None


def number(query: QueryParams, name: str) -> int | None:
    """A number from 0."""
    text = query.get(name, "")
    if text and not _NUMBER.fullmatch(text):
        raise Problem("query-malformed", f"{name} is a number from 0")
    return int(text) if text else None


def identity(text: Any, what: str) -> bytes:
    """32 bytes in hex digits."""
    found = hex_bytes(str(text).lower(), 32)
    if found is None:
        raise Problem("not-found", f"the id of a {what} has 64 hex digits")
    return found


def host_range(query: QueryParams) -> tuple[str, bytes | None, bytes | None]:
    """The first digits of a host's id, and the lowest and highest ids that begin with them."""
    text = query.get("host", "").strip().lower()
    if not text:
        return "", None, None
    if not _PREFIX.fullmatch(text):
        raise Problem("query-malformed", "the id of a host has up to 64 hex digits")
    return text, bytes.fromhex(text.ljust(64, "0")), bytes.fromhex(text.ljust(64, "f"))


def chosen_profile(store: Store, query: QueryParams) -> tuple[tuple[ProfileRow, ...], ProfileRow | None]:
    """All profiles, the watched ones first, and the one that is asked for: the first of them unless it is named."""
    watched = store.watched()
    place = {identity: at for at, identity in enumerate(watched)}
    rows = tuple(sorted(store.profiles(), key=lambda row: place.get(row.id, len(place))))
    wanted = query.get("profile", "")
    if not wanted:
        return rows, rows[0] if rows and rows[0].id in place else None
    found = next((row for row in rows if row.id == identity(wanted, "profile")), None)
    if found is None:
        raise Problem("not-found", "this authority has no such profile")
    return rows, found
