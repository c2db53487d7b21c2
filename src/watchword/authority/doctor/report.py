"""What a look at an authority found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

from watchword.authority.store import DatabaseUrl
from watchword.authority.upkeep.retention import Retention
from watchword.errors import WatchwordError
from watchword.pkcs11.held import Tokens

__all__ = ["Report", "Subject", "Trouble"]

_ORDER: Final = ("problem", "warning", "note")


@dataclass(frozen=True, slots=True)
class Subject:
    """Which authority is looked at, and how: the ``data`` directory and what opens its keys, at ``now`` (Unix seconds).

    ``url`` is where its service should answer (None: not asked); ``backup`` where its newest backup should be (None:
    nobody said); ``whole_log`` checks every entry and not only the newest ones; ``retention`` is what the service has.
    """

    data: Path
    now: int
    passphrase: bytes | None = field(default=None, repr=False)
    url: str | None = None
    backup: Path | None = None
    whole_log: bool = False
    retention: Retention = field(default_factory=Retention)

    database: DatabaseUrl | None = None  # where the store is, if that is on a server
    tokens: Tokens = field(default_factory=Tokens, repr=False)  # how keys in tokens are reached

    @property
    def store(self) -> Path:
        """The store, or where it would be."""
        return self.data / "store.sqlite3"


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong ("problem") or soon will be ("warning"), or that the doctor cannot know ("note").

    It has a stable ``code``, a sentence, and what to do.
    """

    severity: Literal["problem", "warning", "note"]
    code: str
    message: str
    hint: str

    def document(self) -> dict[str, str]:
        """For programs."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


@dataclass(slots=True)
class Report:
    """All ``troubles``, in the order in which they were found, and the names of what was ``checked``."""

    troubles: list[Trouble] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether there is no problem; there may be warnings and notes."""
        return all(trouble.severity != "problem" for trouble in self.troubles)

    def has(self, code: str) -> bool:
        """Whether this was found."""
        return any(trouble.code == code for trouble in self.troubles)

    def problem(self, code: str, message: str, hint: str) -> None:
        """Something does not work, or is not safe."""
        self.troubles.append(Trouble("problem", code, message, hint))

    def warning(self, code: str, message: str, hint: str) -> None:
        """Something will not work soon, or not for everybody."""
        self.troubles.append(Trouble("warning", code, message, hint))

    def note(self, code: str, message: str, hint: str) -> None:
        """Something cannot be seen from here, and somebody should look elsewhere."""
        self.troubles.append(Trouble("note", code, message, hint))

    def check(self, name: str) -> _Check:
        """A check called ``name``: an error of ours that leaves it is a problem, under its own code."""
        self.checked.append(name)
        return _Check(self)

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "healthy": self.healthy,
            "checked": self.checked,
            **{f"{kind}s": [each.document() for each in self.troubles if each.severity == kind] for kind in _ORDER},
        }

    def text(self) -> str:
        """For people."""
        lines = [f"healthy: {'yes' if self.healthy else 'no'}", f"checked: {', '.join(self.checked)}"]
        for trouble in sorted(self.troubles, key=lambda each: _ORDER.index(each.severity)):
            lines += [f"{trouble.severity}: {trouble.code}: {trouble.message}", f"  hint: {trouble.hint}"]
        return "\n".join(lines)


class _Check:
    def __init__(self, report: Report) -> None:
        self._report = report

    def __enter__(self) -> None:
        """Nothing to be had."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, WatchwordError):
            self._report.problem(error.code, error.message, error.hint or "See docs/reference/codes.md.")
        elif isinstance(error, OSError):
            text = f"{error.filename or 'a file'} cannot be read: {error.strerror}"
            self._report.problem("file-unreadable", text, "Run the doctor as the user that the service runs as.")
        else:
            return False
        return True
