"""Nonces that were used, each once (clause B6), and the eras that they belong to (see ``launch.challenge``).

Used nonces are forgotten when their time is over, and up to where is remembered: a clock that is set back does not make
them fresh again. A clock that was ahead may have moved that mark into the future; a new era begins without one, and
no nonce of an era before is good in it.

The first era has no name, and its tables are those from before there were eras: programs of that time use, count and
forget nonces there, also when a new era has begun, and never see what is used in it. So its mark never goes back.
"""

from __future__ import annotations

import secrets
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Column, Connection, Table, bindparam, delete, func, select, update

from watchword.authority.store import schema
from watchword.authority.store.upsert import upsert
from watchword.launch.challenge import ERA_SIZE, LIFETIME

__all__ = ["NonceReads", "NonceTransaction", "Nonces", "check_key", "nonces_now"]

_MAX_KEY: Final = 64  # bytes of a nonce id or token id

_STATE: Final = schema.state
# No row when the nonce was spent before, NULL when the era is another by now, else up to when nonces are forgotten.
_SPEND_FIRST: Final = (
    upsert(schema.used_nonces)
    .on_conflict_do_nothing()
    .returning(select(_STATE.c.nonces_pruned).where(_STATE.c.nonce_era.is_(None)).scalar_subquery())
)
_SPEND: Final = (
    upsert(schema.era_nonces)
    .on_conflict_do_nothing()
    .returning(select(_STATE.c.era_pruned).where(_STATE.c.nonce_era == bindparam("of_era")).scalar_subquery())
)


@dataclass(frozen=True, slots=True)
class Nonces:
    """The era of nonces (b"" for the first), and up to when (Unix seconds) those of it are forgotten."""

    era: bytes
    forgotten: int

    def blocks(self, now: int) -> bool:
        """Whether a nonce that is given out at ``now`` would count as spent."""
        return now + LIFETIME <= self.forgotten


def check_key(what: str, key: bytes) -> None:
    """Raise ``ValueError`` unless ``key`` has 1 to 64 bytes."""
    if not 0 < len(key) <= _MAX_KEY:
        raise ValueError(f"a {what} has 1 to {_MAX_KEY} bytes, not {len(key)}")


def nonces_now(connection: Connection) -> Nonces:
    """How nonces stand."""
    row = connection.execute(select(_STATE)).one()
    return Nonces(b"", row.nonces_pruned) if row.nonce_era is None else Nonces(row.nonce_era, row.era_pruned)


class NonceTransaction:
    """The part of a transaction that uses and forgets nonces."""

    _connection: Connection

    def use_nonce(self, nonce_id: bytes, expires: int, era: bytes = b"") -> bool:
        """Spend a nonce (clause B6) of an era: True the first time, False ever after, and when the era is over.

        ``nonce_id`` is at most 64 bytes, ``expires`` in Unix seconds. A nonce that expired before the last pruning
        counts as spent, so that a clock that is set back does not make forgotten nonces fresh again.
        """
        check_key("nonce id", nonce_id)
        row = {"nonce_id": nonce_id, "expires": expires}
        if era:
            spent = self._connection.execute(_SPEND, row | {"of_era": era}).first()
        else:
            spent = self._connection.execute(_SPEND_FIRST, row).first()
        if spent is None:  # it was there
            return False
        forgotten = spent[0]
        if forgotten is None:  # its era is over
            return False
        if expires <= forgotten:  # noqa: SIM103 - another reason: it may have been there, and was forgotten
            return False
        return True

    def prune_nonces(self, now: int) -> int:
        """Forget the nonces that expired up to ``now`` (Unix seconds), and return how many there were.

        What is remembered is the last of those, not ``now``: a clock that was a year ahead must not refuse every
        nonce of that year.
        """
        first = self._prune(schema.used_nonces, _STATE.c.nonces_pruned, now)
        return first + self._prune(schema.era_nonces, _STATE.c.era_pruned, now)

    def _prune(self, nonces: Table, mark: Column[int], now: int) -> int:
        newest = self._connection.execute(select(func.max(nonces.c.expires)).where(nonces.c.expires <= now)).scalar()
        if newest is None:
            return 0
        self._connection.execute(update(_STATE).where(_STATE.c.id == 1, mark < newest).values({mark: newest}))
        return self._connection.execute(delete(nonces).where(nonces.c.expires <= now)).rowcount

    def nonces(self) -> Nonces:
        """How nonces stand, under the writer's lock."""
        return nonces_now(self._connection)

    def begin_era(self) -> None:
        """Make all nonces void that were given out until now, used or not, and forget those of the era that ends."""
        era = secrets.token_bytes(ERA_SIZE)
        values = {"nonce_era": era, "era_pruned": 0, "generation": _STATE.c.generation + 1}
        self._connection.execute(update(_STATE).where(_STATE.c.id == 1).values(values))
        self._connection.execute(delete(schema.era_nonces))


class NonceReads:
    """The part of the store that says how nonces stand."""

    def _reading(self) -> AbstractContextManager[Connection]:
        raise AssertionError("the store has this")

    def nonces(self) -> Nonces:
        """How nonces stand now."""
        with self._reading() as connection:
            return nonces_now(connection)
