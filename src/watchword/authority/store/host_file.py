"""Everything about one host that an attestation needs, read at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from watchword.authority.store import statements
from watchword.authority.store.rows import Host, host_row
from watchword.authority.store.watch import state_row
from watchword.launch.attest import HostState
from watchword.launch.on_file import Record

__all__ = ["HostFile", "read_host_file"]


@dataclass(frozen=True, slots=True)
class HostFile:
    """One host at one ``generation`` of the store; ``host`` is None when it is not enrolled.

    ``states`` are by profile id; ``interests`` are the profiles of launches that were released to the host, the newest
    first, at most 16; ``kept`` is since when (Unix seconds) its newest evidence is on file, and what it is.
    """

    generation: int
    host: Host | None
    states: Mapping[bytes, HostState]
    interests: tuple[bytes, ...]
    kept: tuple[int, Record] | None


def read_host_file(connection: Connection, host_id: bytes) -> HostFile:
    """The file of a host; the caller sees to it that ``connection`` sees one moment."""
    key = {"host_id": host_id}
    row = connection.execute(statements.HOST_FILE, key).one()
    states = {state.profile_id: state_row(state) for state in connection.execute(statements.STATES, key)}
    return HostFile(
        row.generation,
        host_row(row) if row.host_id is not None else None,
        states,
        tuple(connection.execute(statements.INTERESTS, key).scalars()),
        (row.kept_time, Record.parse(row.kept_record)) if row.kept_record is not None else None,
    )
