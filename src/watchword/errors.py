"""Everything Watchword raises on purpose, and whose fault each one is.

    WatchwordError
    ├── UsageError        the caller: a wrong argument, file or configuration      exit status 1
    ├── Unavailable       a service, a TPM or a file system did not do its part    exit status 2
    ├── MalformedError    the sender: these bytes are not what they claim to be    exit status 3
    └── Rejected          the sender: well-formed, checked, and not acceptable     exit status 3

Each carries a ``code``: a short, stable, lower-case word group ("quote-signature") that programs may
compare and that is listed in ``docs/reference/codes.md``. The text is for people and may change.

No error ever carries a secret. ``expected`` and ``actual`` of a finding are public evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "Finding",
    "MalformedError",
    "Rejected",
    "Unavailable",
    "UsageError",
    "WatchwordError",
]

_SHOWN = 200  # characters of one expected or actual value that a person is shown


class WatchwordError(Exception):
    """The base of all errors raised on purpose.

    ``code`` is the stable reason code, ``message`` one sentence, ``hint`` what to do next (may be empty); ``trace`` is
    the trace id of the exchange that it ended, "" for none (``wire.trace``). ``beside`` is what somebody else said
    about it, which programs get beside the error, by who said it; nothing of it is checked.
    """

    exit_status: ClassVar[int] = 1

    def __init__(self, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.trace = ""
        self.beside: dict[str, object] = {}


class UsageError(WatchwordError):
    """The caller gave a wrong argument, file or configuration."""

    exit_status = 1


class Unavailable(WatchwordError):
    """Something outside did not do its part; the same request may succeed later.

    ``findings`` are what is known for certain all the same: none, or what an authority signed.
    """

    exit_status = 2

    def __init__(self, code: str, message: str, *findings: Finding, hint: str = "") -> None:
        super().__init__(code, message, hint=hint)
        self.findings = findings


class MalformedError(WatchwordError):
    """The bytes are not what they claim to be. Raised by every parser, and nothing else is."""

    exit_status = 3

    def __init__(self, message: str, *, code: str = "malformed", hint: str = "") -> None:
        super().__init__(code, message, hint=hint)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check saw.

    ``clause`` is the number in ``docs/spec`` ("B5"), ``code`` the stable reason code, ``message`` one sentence,
    ``expected`` and ``actual`` are short printable values, ``subject`` says what it is about ("pcr 4 event 12").
    ``fatal`` is False for what is only worth telling.
    """

    clause: str
    code: str
    message: str
    expected: str = ""
    actual: str = ""
    subject: str = ""
    fatal: bool = True

    def __str__(self) -> str:
        text = f"[{self.clause}] {self.code}: {self.message}"
        if self.subject:
            text += f" ({self.subject})"
        if self.expected or self.actual:
            text += f"; expected {self.expected[:_SHOWN]!r}, found {self.actual[:_SHOWN]!r}"
        return text


class Rejected(WatchwordError):
    """Well-formed and checked, but not acceptable. ``findings`` has at least one entry; the first is the reason."""

    exit_status = 3

    def __init__(self, *findings: Finding, hint: str = "") -> None:
        if not findings:
            raise ValueError("a rejection needs a finding")
        first = findings[0]
        super().__init__(first.code, str(first), hint=hint)
        self.findings = findings
        self.clause = first.clause
