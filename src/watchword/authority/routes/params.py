"""Reading path and query parameters; nothing here raises anything but :class:`Problem`."""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import Request

from watchword.authority.serving.problems import Problem

__all__ = ["hex_bytes", "sequence"]

_HEX: Final = re.compile(r"[0-9a-f]*")
_NUMBER: Final = re.compile(r"[0-9]{1,15}")


def hex_bytes(text: str, size: int) -> bytes | None:
    """``size`` bytes from lower-case hex digits, or None: such a thing does not exist."""
    if len(text) != 2 * size or not _HEX.fullmatch(text):
        return None
    return bytes.fromhex(text)


def sequence(request: Request, name: str) -> int:
    """The number in the query parameter ``name``, 0 when it is absent. Raises :class:`Problem`."""
    text = request.query_params.get(name, "0")
    if not _NUMBER.fullmatch(text):
        raise Problem("query-malformed", f"{name} is a number from 0")
    return int(text)
