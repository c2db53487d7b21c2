"""Where a PostgreSQL store is: a connection URI of libpq, which is handed on to it as it is.

https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

from watchword.errors import UsageError

__all__ = ["DatabaseUrl"]

_SCHEMES: Final = ("postgresql", "postgres")
_MAX_URL: Final = 4096


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """A URI of at most 4096 characters; ``text`` may hold a password and is shown to nobody."""

    text: str = field(repr=False)

    @classmethod
    def parse(cls, text: str, *, visible: bool = False) -> Self:
        """Read a URI. Raises :class:`UsageError` (``database-url``).

        One that is ``visible`` to other users of the machine, as arguments are, may hold no password
        (``database-password``).
        """
        scheme, colon, _ = text.partition("://")
        if not colon or scheme not in _SCHEMES or len(text) > _MAX_URL or not text.isprintable():
            raise UsageError(
                "database-url",
                "that is not the URL of a database",
                hint="for example postgresql://db.example/watchword",
            )
        if visible and _has_password(text):
            raise UsageError(
                "database-password",
                "everybody on this machine can read the arguments of a program, and this one has a password",
                hint="put it into libpq's password file, or the whole URL into a file: --database-file",
            )
        return cls(text)


def _has_password(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return ":" in parts.netloc.rpartition("@")[0] or "password" in parse_qs(parts.query, keep_blank_values=True)
    except ValueError:
        return True  # what cannot be read might be one
