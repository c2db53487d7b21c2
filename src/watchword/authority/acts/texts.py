"""Texts of operators that end up in the record: short, and nothing that could drive a terminal."""

from __future__ import annotations

from typing import Final

from watchword.errors import UsageError

__all__ = ["MAX_TEXT", "short_text"]

MAX_TEXT: Final = 200  # characters of a label or reason


def short_text(text: str) -> str:
    """``text`` as it is. Raises :class:`UsageError` (``text``) when it is too long or not printable."""
    if len(text) > MAX_TEXT or not text.isprintable():
        raise UsageError("text", f"a label or reason has at most {MAX_TEXT} printable characters")
    return text
