"""Untrusted text for the eyes of people: names of files and events come from hosts."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """``text`` with everything escaped that could drive a terminal, hide, or turn the order of what follows.

    That is what Unicode does not call printable: controls, marks of direction, line ends, lone surrogates.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
