"""Bytes as one metadata value: base64url text without padding, whose first characters say what it is."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from watchword.errors import MalformedError

__all__ = ["MAX_TEXT", "from_text", "magic", "to_text"]

MAX_TEXT: Final = 255  # characters: the limit of one metadata value in OpenStack


def magic(start: str) -> bytes:
    """The three bytes that the four characters ``start`` stand for."""
    return base64.urlsafe_b64decode(start)


def to_text(data: bytes) -> str:
    """The one text of ``data``."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_text(text: str, what: str, start: str) -> bytes:
    """The bytes of a text of at most 255 characters that begins with ``start``; ``what`` it is, for people.

    Raises :class:`MalformedError`; the same bytes have one text only.
    """
    if len(text) > MAX_TEXT:
        raise MalformedError(f"{what}: {len(text)} characters, at most {MAX_TEXT} are allowed")
    if not text.startswith(start):
        raise MalformedError(f"{what}: does not start with {start}")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError(f"{what}: is not base64url text; was it cut or wrapped?") from None
    if to_text(data) != text:
        raise MalformedError(f"{what}: has unused bits set in its last character")
    return data
