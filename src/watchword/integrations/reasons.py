"""Why a machine did not get its secret or did not start, in words short enough for everybody who repeats them."""

from __future__ import annotations

from watchword.errors import Rejected, WatchwordError

__all__ = ["reason"]

_CODES = 3


def reason(error: WatchwordError) -> str:
    """One line of at most 200 printable ASCII characters: clause, code and sentence, then the codes of what else.

    Expected and actual values are left out: they are for the host's own log. Nova keeps 255 characters of a fault.
    """
    if not isinstance(error, Rejected):
        return _plain(f"{error.code}: {error.message}")
    first, *more = error.findings
    also = "".join(f", [{f.clause}] {f.code}" for f in more[:_CODES])
    return _plain(f"[{first.clause}] {first.code}: {first.message}{also}")


def _plain(text: str) -> str:
    line = " ".join(text.split())
    return "".join(c if " " <= c <= "~" else "?" for c in line)[:200]
