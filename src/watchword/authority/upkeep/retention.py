"""For how long the authority keeps what it need not keep for ever, and forgetting the rest in small steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from watchword.authority.store import Store
from watchword.authority.store.retention import Kind
from watchword.errors import UsageError

__all__ = ["NEVER", "Retention", "forget_old", "forgettable"]

NEVER: Final = "never"
STEP: Final = 200  # rows in one transaction: a few milliseconds of the only writer's time
_DAY: Final = 86400
_SHORTEST: Final = 3600  # a state lasts six minutes and a lease two: nothing that is still in use is this old
_UNITS: Final = {"h": 3600, "d": _DAY}
_DEFAULT: Final[Mapping[Kind, int | None]] = {
    Kind.EVIDENCE: 30 * _DAY,
    Kind.LOGS: 0,
    Kind.STATES: 90 * _DAY,
    Kind.PLACEMENTS: None,  # its tenant may ask about the host for as long as the machine runs
    Kind.COSIGNATURES: 30 * _DAY,
}
CHOICES: Final = tuple(kind for kind in Kind if kind is not Kind.LOGS)


@dataclass(frozen=True, slots=True)
class Retention:
    """Seconds for which each kind is kept; None for ever."""

    seconds: Mapping[Kind, int | None] = field(default_factory=lambda: dict(_DEFAULT))

    @classmethod
    def parse(cls, limits: tuple[str, ...]) -> Self:
        """The defaults with ``limits`` of the form KIND=30d, KIND=12h or KIND=never.

        Raises :class:`UsageError` (``retention``).
        """
        seconds = dict(_DEFAULT)
        for text in limits:
            name, _, span = text.partition("=")
            if name not in CHOICES:
                raise _wrong(text, f"what can be forgotten is {', '.join(CHOICES)}")
            seconds[Kind(name)] = _seconds(text, span)
        return cls(seconds)

    def before(self, kind: Kind, now: int) -> int | None:
        """What is older than this (Unix seconds) is forgotten at ``now``; None for nothing."""
        kept = self.seconds[kind]
        return None if kept is None else now - kept

    def document(self) -> dict[str, int | None]:
        """For programs: seconds by kind, null for ever."""
        return {str(kind): self.seconds[kind] for kind in CHOICES}


def _seconds(text: str, span: str) -> int | None:
    if span == NEVER:
        return None
    number, unit = span[:-1], span[-1:]
    if not (number.isascii() and number.isdigit() and len(number) <= 5 and unit in _UNITS):
        raise _wrong(text, "write a number of hours or days, such as 12h or 30d, or never")
    found = int(number) * _UNITS[unit]
    if found < _SHORTEST:
        raise _wrong(text, "an hour is the shortest: what is younger may be in use")
    return found


def _wrong(text: str, hint: str) -> UsageError:
    return UsageError("retention", f"{text[:80]!r} does not say for how long what is kept", hint=hint)


def forgettable(store: Store, retention: Retention, now: int) -> dict[Kind, int]:
    """How many rows of each kind are older than ``retention`` allows. Logs are counted as of now."""
    found = {}
    for kind in Kind:
        before = retention.before(kind, now)
        found[kind] = 0 if before is None else store.count_old(kind, before)
    return found


def forget_old(store: Store, retention: Retention, now: int, step: int = STEP) -> Iterator[tuple[Kind, int]]:
    """Forget what is older than ``retention`` allows, at most ``step`` rows in one transaction; yields each step."""
    for kind in Kind:
        before = retention.before(kind, now)
        while before is not None and store.count_old(kind, before):  # the writer's lock is taken when there is work
            with store.transaction() as tx:
                count = tx.forget(kind, before, step)
            if not count:
                break
            yield kind, count
