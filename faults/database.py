"""The database server gives way: restarted, killed, replaced by its standby."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from faults.judge import judged
from faults.outcome import Outcome, Unable
from faults.service import Service
from watchword.authority.store import DatabaseUrl
from watchword.testing.postgresql import Cluster, binaries

__all__ = ["failed_over", "killed", "restarted"]

_TOKENS: Final = 400
_OURS: Final = "SELECT pid FROM pg_stat_activity WHERE application_name = 'watchword authority'"


def restarted(folder: Path, times: int) -> Outcome:
    """The PostgreSQL server is restarted, in turns fast and immediate, while eight hosts launch, ``times`` times."""
    outcome = Outcome()
    with _server() as server, closing(Service(folder, database=server.new_database())) as service:
        for turn in range(times):
            with judged(service, outcome, _TOKENS) as load:
                load.wait_for_releases(random.randint(5, 60))
                server.crash() if turn % 2 else server.stop()
                server.start()
                load.wait_for_releases(20)
    return outcome


def killed(folder: Path, times: int) -> Outcome:
    """``kill -9`` of all PostgreSQL processes, or of one that serves us, while eight hosts launch, ``times`` times."""
    outcome = Outcome()
    with _server() as server, closing(Service(folder, database=server.new_database())) as service:
        for turn in range(times):
            with judged(service, outcome, _TOKENS) as load:
                load.wait_for_releases(random.randint(5, 60))
                if turn % 2:
                    server.kill_one(random.choice(server.execute(_OURS))[0])
                else:
                    server.kill()
                    server.start()
                load.wait_for_releases(20)
    return outcome


def failed_over(folder: Path, times: int) -> Outcome:
    """``kill -9`` of a PostgreSQL server while eight hosts launch; its standby takes over, ``times`` times."""
    outcome = Outcome()
    for turn in range(times):
        apart = folder / str(turn)
        apart.mkdir()
        with (
            _server() as server,
            _synchronous(server) as standby,
            closing(Service(apart, database=_either(server, standby))) as service,
            judged(service, outcome, _TOKENS) as load,
        ):
            load.wait_for_releases(random.randint(5, 60))
            server.kill()
            time.sleep(random.random())
            standby.promote()
            load.wait_for_releases(20)
    return outcome


@contextmanager
def _server() -> Iterator[Cluster]:
    programs = binaries()
    if programs is None:
        raise Unable("PostgreSQL is not installed")
    with Cluster.running(programs) as server:
        yield server


@contextmanager
def _synchronous(server: Cluster) -> Iterator[Cluster]:
    """A standby without which ``server`` confirms nothing."""
    with server.standby() as standby:
        server.configure("synchronous_standby_names = 'standby'\n")
        server.reload()
        server.wait_for("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
        yield standby


def _either(server: Cluster, standby: Cluster) -> DatabaseUrl:
    """One database at two servers: whichever of them is written to."""
    server.execute("CREATE DATABASE watchword TEMPLATE template0")
    hosts = f"{server.folder},{standby.folder}"
    return DatabaseUrl(f"postgresql:///watchword?host={hosts}&user=postgres&target_session_attrs=read-write")
