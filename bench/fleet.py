"""A fleet that attests again and again: what one attestation costs an authority, and how long hosts wait.

A real authority process over TLS on loopback. The hosts are software TPMs with real keys that quote the recorded boot,
so that making the evidence costs little beside judging it; they and the authority share the machine. The authority's
CPU is what the kernel accounts to its process: HTTP, TLS, Python, SQL and the durable write included.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.measure import Figure
from bench.parts import BOOTS
from bench.service import authority, cpu
from watchword.authority.deciding.renewals import FLUSH_SECONDS
from watchword.authority.store import DatabaseUrl, Host, Store
from watchword.policy.profile import Profile
from watchword.testing.postgresql import Cluster, binaries
from watchword.testing.replayed import Line, Recording, ReplayedHost
from watchword.testing.world import profile_document
from watchword.verify.ek import EkClass
from watchword.wire.evidence import Purpose
from watchword.wire.messages import Attested, Challenge, ChallengeRequest

__all__ = ["attest_once", "enrolled", "quote_only", "rounds", "run"]


def attest_once(line: Line, host: ReplayedHost) -> float:
    """One attestation, with the challenge that came with the last one if any; seconds that the host waited."""
    start = time.perf_counter()
    challenge = host.pending or line.ask(ChallengeRequest(host.host_id, Purpose.ATTEST, ""))
    if not isinstance(challenge, Challenge):
        raise RuntimeError(f"no challenge: {challenge}")
    request, key = host.attest_request(challenge)
    answer = line.ask(request, key)
    if not isinstance(answer, Attested) or answer.state != "trusted":
        raise RuntimeError(f"not trusted: {answer}")
    host.pending = answer.next
    return time.perf_counter() - start


def enrolled(where: Path | DatabaseUrl, hosts: Sequence[ReplayedHost]) -> None:
    """Make ``hosts`` known to the authority: enrolling is another benchmark."""
    with Store.open(where) as store, store.transaction() as tx:
        for host in hosts:
            ak = host.tpm.ak
            tx.put_host(Host(ak.host_id, ak.ek.encode(), ak.ak.encode(), EkClass.VIRTUAL, int(time.time())))


def rounds(lines: Sequence[Line], hosts: Sequence[ReplayedHost], times: int, *, apart: bool = False) -> list[float]:
    """Every host attests so many times, over all connections at once; ``apart``: on a new connection each time."""

    def work(number: int) -> list[float]:
        line, waits = lines[number], []
        for host in hosts[number :: len(lines)] * times:
            waits.append(attest_once(line, host))
            if apart:
                line.close()
        return waits

    with ThreadPoolExecutor(len(lines)) as pool:
        return [seconds for part in pool.map(work, range(len(lines))) for seconds in part]


def quote_only() -> bytes:
    """The profile without the runtime log."""
    document = json.loads(profile_document())
    document["pcrs"].remove(10)
    for level in document["levels"]:
        level["rules"]["runtime"] = "ignored"
    return json.dumps(document).encode()


def server(stack: ExitStack, store: str) -> Cluster | None:
    """A PostgreSQL server on the disk that temporary files are on, if that is the ``store`` that is wanted."""
    if store != "postgresql":
        return None
    programs = binaries()
    if programs is None:
        raise SystemExit("PostgreSQL is not installed (Debian: postgresql)")
    return stack.enter_context(Cluster.running(programs, in_memory=False))


def run(hosts: int = 200, times: int = 10, connections: int = 4, store: str = "sqlite") -> Iterator[Figure]:
    """CPU of the authority per attestation, in steady state; that of a database server comes on top."""
    profiles = (("quote alone", quote_only()), ("and runtime log", profile_document()))
    for name, profile in profiles:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="ww-bench-")))
            cluster = server(stack, store)
            database = cluster.new_database() if cluster else None
            watched = Profile.parse(profile).id
            process, url, keys = authority(stack, folder, None, profile, watch=watched, database=database)
            recording = Recording.load(BOOTS / "good")
            emitters = [ReplayedHost(recording) for _ in range(hosts)]
            enrolled(database or folder / "authority" / "store.sqlite3", emitters)
            lines = [Line(url, keys) for _ in range(connections)]
            for line in lines:
                stack.callback(line.close)
            rounds(lines, emitters, 1)
            again = partial(rounds, lines, emitters, times)
            yield from _measured(process.pid, f"{name}, {store}", again)
            if name == profiles[0][0]:
                apart = f"{name}, {store}, a connection for each"
                yield from _measured(process.pid, apart, partial(again, apart=True))


def _measured(pid: int, name: str, attest: Callable[[], list[float]]) -> Iterator[Figure]:
    """What ``attest``, which returns how long hosts waited, costs the process, with what it leaves for later."""
    stat = Path(f"/proc/{pid}/stat")
    time.sleep(2 * FLUSH_SECONDS)
    before, start = cpu(stat), time.perf_counter()
    waits = sorted(seconds * 1e6 for seconds in attest())
    wall = time.perf_counter() - start
    time.sleep(2 * FLUSH_SECONDS)
    spent = (cpu(stat) - before) / len(waits) * 1e6
    note = f"{name}; {len(waits) / wall:.0f} attestations a second with the hosts on the same machine"
    yield Figure("attestation, authority CPU", spent, spent, spent, len(waits), note)
    note = f"{name}; p99 {waits[int(len(waits) * 0.99)] / 1000:.1f} ms"
    yield Figure("attestation, wait", median(waits), waits[0], waits[-1], len(waits), note)
