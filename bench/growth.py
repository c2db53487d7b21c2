"""How an attestation's cost grows: with hosts, with boot logs, with runtime logs, with policy.

As ``fleet``: a real authority process over TLS on loopback, hosts that are TPMs of software, CPU as the kernel accounts
it. Compare figures of one run only.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Final

from bench.fleet import enrolled, quote_only, rounds
from bench.measure import Figure
from bench.parts import BOOTS
from bench.service import authority, cpu
from bench.synthetic import GrowingHost, boot_of, paths, programs, write_boot
from watchword.authority.deciding.renewals import FLUSH_SECONDS
from watchword.policy.profile import Profile
from watchword.testing.replayed import Line, Recording, ReplayedHost
from watchword.testing.world import profile_document

__all__ = ["GROWTHS", "run"]

_CONNECTIONS: Final = 4
_NEW: Final = 10  # entries of a runtime log since the last attestation
_SAMPLES, _TIMES = 3, 10  # of attestations with new entries
RUNTIME: Final = MappingProxyType({1_000: 100, 10_000: 40, 100_000: 8})  # entries of a log: how many hosts have such


class _Bench:
    """One authority with one stack, that of ``boot``, and hosts that attest to it."""

    def __init__(self, stack: ExitStack, profile: bytes, boot: Path = BOOTS / "good") -> None:
        self._folder = Path(stack.enter_context(TemporaryDirectory(prefix="ww-bench-")))
        watched = Profile.parse(profile).id
        self._process, url, keys = authority(stack, self._folder, None, profile, watch=watched, boot=boot)
        self.lines = [Line(url, keys, timeout=120) for _ in range(_CONNECTIONS)]
        for line in self.lines:
            stack.callback(line.close)

    def enrol(self, hosts: Sequence[ReplayedHost]) -> None:
        for line in self.lines:  # the authority does not wait for ever; they are opened again when they are used
            line.close()
        enrolled(self._folder / "authority" / "store.sqlite3", hosts)

    def cost(self, name: str, hosts: Sequence[ReplayedHost], note: str, samples: int = 1, each: int = 1,
             before: Callable[[], None] = lambda: None) -> Figure:  # fmt: skip
        """Median CPU of one attestation; in a sample all hosts attest ``each`` times, ``before`` each time."""
        spent, waits = [], []
        for _ in range(samples):
            start = self._cpu()
            for _ in range(each):
                before()
                waits += rounds(self.lines, hosts, 1)
            spent.append((self._cpu() - start) / len(hosts) / each * 1e6)
        waits.sort()
        said = f"{note}; wait {median(waits) * 1e3:.1f} ms, p99 {waits[int(len(waits) * 0.99)] * 1e3:.1f} ms"
        return Figure(name, median(spent), min(spent), max(spent), len(waits), said)

    def _cpu(self) -> float:
        """Seconds so far, once everything is written that attestations leave for later."""
        time.sleep(FLUSH_SECONDS + 0.2)
        return cpu(Path(f"/proc/{self._process.pid}/stat"))

    @property
    def memory_mib(self) -> float:
        """Resident memory of the authority."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def hosts(counts: Sequence[int] = (100, 1_000, 10_000), attesting: int = 200) -> Iterator[Figure]:
    """So many hosts: what the last 200 cost that attested first, and 200 of all, by chance, that attest again."""
    recording = Recording.load(BOOTS / "good")
    with ExitStack() as stack:
        bench, everybody = _Bench(stack, profile_document()), list[ReplayedHost]()
        for count in counts:
            more = [ReplayedHost(recording) for _ in range(count - len(everybody))]
            bench.enrol(more)
            rounds(bench.lines, more[:-attesting], 1)
            yield bench.cost(f"{count} hosts, first", more[-attesting:], "boot log known, runtime log small")
            everybody += more
            some = random.sample(everybody, min(attesting, count))
            note = f"nothing new; {bench.memory_mib:.0f} MiB of memory"
            yield bench.cost(f"{count} hosts, again", some, note, 5)


def boot_logs(sizes: Sequence[int] = (8, 40, 120), count: int = 200) -> Iterator[Figure]:
    """Boot logs of so many kB, each host's different: shown for the first time, and known; no runtime log."""
    for size in sizes:
        with ExitStack() as stack:
            bench = _Bench(stack, quote_only())
            fleet = [ReplayedHost(boot_of(size * 1000)) for _ in range(count)]
            length = len(fleet[0].recording.event_log)
            bench.enrol(fleet)
            yield bench.cost(f"boot log {size} kB, first", fleet, f"{length} bytes, all different")
            yield bench.cost(f"boot log {size} kB, again", fleet, "nothing new", 5)


def runtime_logs(sizes: Mapping[int, int] = RUNTIME) -> Iterator[Figure]:
    """Runtime logs of so many entries: sent for the first time, with nothing new, with ten new entries."""
    recording = Recording.load(BOOTS / "good")
    for size, count in sizes.items():
        with ExitStack() as stack:
            listed = programs(paths(size + _NEW * _SAMPLES * _TIMES))
            boot = write_boot(Path(stack.enter_context(TemporaryDirectory(prefix="ww-bench-"))) / "boot", len(listed))
            bench = _Bench(stack, profile_document(), boot)
            fleet = [GrowingHost(recording) for _ in range(count + 1)]
            _all_run(fleet, listed[:size])
            bench.enrol(fleet)
            start = time.perf_counter()
            rounds(bench.lines[:1], fleet[:1], 1)
            note = f"the whole log, after {time.perf_counter() - start:.1f} s for that of the first host"
            yield bench.cost(f"runtime log {size}, first", fleet[1:], note)
            yield bench.cost(f"runtime log {size}, again", fleet, "nothing new", 5, -(-200 // count))
            parts = iter([listed[n : n + _NEW] for n in range(size, len(listed), _NEW)])
            yield bench.cost(
                f"runtime log {size}, {_NEW} new", fleet, f"{_NEW} new entries; {bench.memory_mib:.0f} MiB of memory",
                _SAMPLES, _TIMES, lambda fleet=fleet, parts=parts: _all_run(fleet, next(parts)),
            )  # fmt: skip


def _all_run(fleet: Sequence[GrowingHost], entries: Sequence[object]) -> None:
    for host in fleet:
        host.run(entries)  # type: ignore[arg-type]


def policies(sizes: Sequence[int] = (1_000, 10_000, 100_000), count: int = 200) -> Iterator[Figure]:
    """Stacks that list so many files, and hosts whose runtime log is small."""
    recording = Recording.load(BOOTS / "good")
    for size in sizes:
        with ExitStack() as stack:
            boot = write_boot(Path(stack.enter_context(TemporaryDirectory(prefix="ww-bench-"))) / "boot", size)
            bench = _Bench(stack, profile_document(), boot)
            fleet = [ReplayedHost(recording) for _ in range(count)]
            bench.enrol(fleet)
            start = time.perf_counter()
            rounds(bench.lines[:1], fleet[:1], 1)
            note = f"after {time.perf_counter() - start:.1f} s for the first one of all"
            yield bench.cost(f"policy {size}, first", fleet[1:], note)
            yield bench.cost(f"policy {size}, again", fleet, f"{bench.memory_mib:.0f} MiB of memory", 5)


GROWTHS: Final = {"hosts": hosts, "boot-logs": boot_logs, "runtime-logs": runtime_logs, "policies": policies}


def run(of: Sequence[str]) -> Iterator[Figure]:
    """The growths that are asked for, or all of them."""
    for name in of or GROWTHS:
        yield from GROWTHS[name]()
