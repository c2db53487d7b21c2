"""Everything about one host that an attestation needs, read at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from watchword.authority.store.quick import Reader
from watchword.authority.store.rows import Host, host_row
from watchword.authority.store.watch import state_row
from watchword.launch.attest import HostState
from watchword.launch.on_file import Record

__all__ = ["HostFile", "read_host_file"]


@dataclass(frozen=True, slots=True)
class HostFile:
    """One host at one ``generation`` of the store; ``host`` is None when it is not enrolled.

    ``states`` are by profile id; ``interests`` are the profiles of launches that were released to the host, the newest
    first, at most 16. Its newest evidence is on file since ``kept_time`` (Unix seconds), None when there is none.
    """

    generation: int
    host: Host | None
    states: Mapping[bytes, HostState]
    interests: tuple[bytes, ...]
    kept_time: int | None
    kept_record: bytes = b""

    def kept(self) -> Record | None:
        """The newest evidence on file."""
        return Record.parse(self.kept_record) if self.kept_time is not None else None


def read_host_file(reader: Reader, host_id: bytes) -> HostFile:
    """The file of a host: one statement, and another one if launches were placed on the host.

    Those may be a moment newer than the rest, as if they had been placed a moment earlier.
    """
    key = {"host_id": host_id}
    rows = reader.rows("host_file", key)
    row = rows[0]
    return HostFile(
        row.generation,
        host_row(row) if row.host_id is not None else None,
        {state.state_profile_id: state_row(state, "state_") for state in rows if state.state_profile_id is not None},
        tuple([found.profile_id for found in reader.rows("interests", key)]) if row.placed else (),
        row.kept_time,
        row.kept_record or b"",
    )
