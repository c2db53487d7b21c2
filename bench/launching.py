"""How long a launch waits while the fleet attests: p50 and p99 of real launches at a bounded load.

The hosts that attest are a process of their own, which first finds out how many attestations a second this machine does
and then offers a part of that, by the clock and not by the answers. Meanwhile one host with an emulated TPM launches
again and again; its secret is opened by the TPM each time. Everything shares the machine.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.fleet import attest_once, enrolled, rounds
from bench.measure import Figure
from bench.parts import BOOTS
from bench.service import authority, new_token
from watchword.agent.enrol import enrol
from watchword.agent.host import Host
from watchword.agent.shares import obtain
from watchword.agent.transport import HttpsExchange
from watchword.crypto.keylist import KeyList
from watchword.policy.profile import Profile
from watchword.testing.emulated import EmulatedHost
from watchword.testing.farm import Farm
from watchword.testing.replayed import Line, Recording, ReplayedHost
from watchword.testing.world import profile_document
from watchword.wire.tpm.templates import EkKind

__all__ = ["run"]

_CONNECTIONS = 4


class _Waited(HttpsExchange):
    """What the host waited for the authority: ``seconds`` since it was last set to nothing."""

    seconds = 0.0

    def send(self, sealed: bytes) -> bytes:
        start = time.perf_counter()
        try:
            return super().send(sealed)
        finally:
            self.seconds += time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class _Load:
    """A fleet in a process of its own; ``_pipe`` leads there."""

    _pipe: Connection

    @classmethod
    def start(cls, stack: ExitStack, url: str, keys: KeyList, fleet: Sequence[ReplayedHost]) -> _Load:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=_attest, args=(theirs, url, keys, fleet))
        process.start()
        stack.callback(process.join)
        stack.callback(ours.send, None)
        return cls(ours)

    def capacity(self, seconds: float) -> float:
        """Attestations a second when hosts do not wait."""
        self._pipe.send((0.0, seconds))
        done: float = self._pipe.recv()
        return done

    def offer(self, rate: float, seconds: float) -> None:
        """So many attestations a second from now on; :meth:`done` waits for the end."""
        self._pipe.send((rate, seconds))

    def done(self) -> float:
        """Attestations a second that there were."""
        rate: float = self._pipe.recv()
        return rate


def _attest(pipe: Connection, url: str, keys: KeyList, fleet: Sequence[ReplayedHost]) -> None:
    lines = [Line(url, keys) for _ in range(_CONNECTIONS)]
    rounds(lines, fleet, 1)
    while (order := pipe.recv()) is not None:
        pipe.send(_attest_for(lines, fleet, *order))


def _attest_for(lines: Sequence[Line], fleet: Sequence[ReplayedHost], rate: float, seconds: float) -> float:
    """Attestations a second, over all connections at once."""
    start = time.perf_counter()

    def work(number: int) -> int:
        return _pace(lines[number], fleet[number :: len(lines)], number, rate, start, seconds)

    with ThreadPoolExecutor(len(lines)) as pool:
        total = sum(pool.map(work, range(len(lines))))
    return total / (time.perf_counter() - start)


def _pace(line: Line, mine: Sequence[ReplayedHost], number: int, rate: float, start: float, seconds: float) -> int:
    """Attest by the clock until time is over, or without a pause at rate 0; how often."""
    count = 0
    while True:
        due = start + (count * _CONNECTIONS + number) / rate if rate else time.perf_counter()
        if max(due, time.perf_counter()) > start + seconds:
            return count
        time.sleep(max(0.0, due - time.perf_counter()))
        attest_once(line, mine[count % len(mine)])
        count += 1


def run(
    shares: Sequence[float] = (0, 0.25, 0.5, 0.75), hosts: int = 200, seconds: float = 20, calibrate: float = 10
) -> Iterator[Figure]:
    """Launches while so much of the capacity is taken by hosts that attest."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="ww-bench-")))
        farm = stack.enter_context(Farm(1))
        profile = Profile.parse(profile_document())
        _, url, keys = authority(stack, folder, farm.authority.root, profile_document(), watch=profile.id)
        fleet = [ReplayedHost(Recording.load(BOOTS / "good")) for _ in range(hosts)]
        enrolled(folder / "authority" / "store.sqlite3", fleet)
        load = _Load.start(stack, url, keys, fleet)
        machine = EmulatedHost(farm.tpms[0], BOOTS / "good")
        exchange = _Waited(url, keys)
        stack.callback(exchange.close)
        tpm = stack.enter_context(machine.tpm.client())
        host = Host(tpm, exchange, keys, EkKind.P256, machine.event_log_path, machine.ima_log_path)
        host_id = enrol(host, farm.authority.intermediates)
        capacity = load.capacity(calibrate)
        for share in shares:
            if share:
                load.offer(capacity * share, seconds)
            whole, waited = _launch(host, host_id, exchange, profile, seconds)
            reached = load.done() if share else 0.0
            note = f"{capacity * share:.0f} attestations a second offered, {reached:.0f} made; most: {capacity:.0f}"
            yield _figure(f"launch at {share:.0%}", whole, note)
            yield _figure(f"of that the authority at {share:.0%}", waited, "challenge and release")


def _launch(
    host: Host, host_id: bytes, exchange: _Waited, profile: Profile, seconds: float
) -> tuple[list[float], list[float]]:
    """Microseconds that each launch took until time was over, and that it waited for the authority."""
    whole, waited, until = [], [], time.perf_counter() + seconds
    while time.perf_counter() < until:
        token = new_token(host.keys, profile)
        exchange.seconds, start = 0.0, time.perf_counter()
        obtain(host, host_id, token, "vm")
        whole.append((time.perf_counter() - start) * 1e6)
        waited.append(exchange.seconds * 1e6)
        time.sleep(0.05)
    return whole, waited


def _figure(name: str, times: list[float], note: str) -> Figure:
    times.sort()
    p99 = times[int(len(times) * 0.99)] / 1000
    return Figure(name, times[len(times) // 2], times[0], times[-1], len(times), f"p99 {p99:.1f} ms; {note}")
