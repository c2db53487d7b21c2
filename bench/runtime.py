"""Appraisal of one large runtime log, as the authority does it: parse, verify, judge by a stack of as many files."""

from __future__ import annotations

import json
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

from bench.measure import Figure
from watchword.policy.capture import capture_stack, captured_events
from watchword.policy.match import StackMatch, match
from watchword.policy.runtime import judge_runtime
from watchword.policy.stack import CompiledStack
from watchword.policy.teach import teach
from watchword.testing.documents import STACK, encode
from watchword.testing.soft_tpm import SoftTpm
from watchword.verify.boot_log import verify_boot_log
from watchword.verify.ima_log import RuntimeState, verify_ima_log
from watchword.verify.known_files import KnownFiles
from watchword.verify.quote import VerifiedPcrs
from watchword.wire import tcg_log
from watchword.wire.ima_entry import ImaEntry
from watchword.wire.ima_log import ImaLog, encode_entry, replay
from watchword.wire.tcg_log import EventLog
from watchword.wire.tpm.algorithms import Alg

__all__ = ["BOOT_LOG", "ENTRIES", "NEW", "Runtime", "boot_figure"]

ENTRIES = 100_000
BOOT_LOG = "elog/kl-secureboot.bin"
BANK = Alg.SHA256
NEW = 10
BLOCK = 20  # entries that stay together when services start in another order
TPM = SoftTpm.create()


def least(name: str, function: Callable[[], object], *, calls: int, per: int = 1) -> Figure:
    """The least CPU time of ``calls`` calls, after one that is not counted."""
    function()
    spent = []
    for _ in range(calls):
        start = time.process_time()
        function()
        spent.append((time.process_time() - start) / per * 1e6)
    return Figure(name, sorted(spent)[calls // 2], min(spent), max(spent), calls)


def boot_figure(path: Path) -> Figure:
    """C1 to C6 and the comparison with a stack of this very boot, over PCR 0 to 9 and 14."""
    data, pcrs = path.read_bytes(), (*range(10), 14)
    log = EventLog.parse(data)
    values = tcg_log.replay(log, BANK)
    quoted = TPM.verified_pcrs(BANK, {pcr: values.get(pcr, bytes(32)) for pcr in pcrs})
    events = [event for event in captured_events(log) if event[0] in pcrs]
    document = capture_stack(
        name="compute",
        version="1",
        serial=1,
        events=events,
        files={},
        components={"boot": pcrs},
    )
    stack = CompiledStack.parse(document)

    def appraise() -> None:
        outcome = match(stack, verify_boot_log(EventLog.parse(data), quoted, BANK))
        assert isinstance(outcome, StackMatch)

    return least("boot log", appraise, calls=60)


class Runtime:
    """The logs of hosts with the same files, and the stack that lists them."""

    floors = ("bare hash chain", "bare chain of known digests")

    def __init__(self, data: Path) -> None:
        self.log = (data / f"ima-ng-{ENTRIES}.bin").read_bytes()
        entries = list(ImaLog.parse(self.log).entries)
        first, rest, order = entries[0], entries[1:], random.Random(1)
        blocks = [rest[start : start + BLOCK] for start in range(0, len(rest), BLOCK)]
        order.shuffle(blocks)
        self.mixed = _encode([first, *(entry for block in blocks for entry in block)])
        order.shuffle(rest)
        self.shuffled = _encode([first, *rest])
        self.datas = [entry.data for entry in entries]
        self.quoted = _quoted(self.log)
        listed = json.loads((data / f"policy-{ENTRIES}.json").read_text())["digests"]
        files = {path: [f"sha256:{value}" for value in values] for path, values in listed.items()}
        del files["boot_aggregate"]
        self.stack, self.stack_sorted = _stack(files), _stack(dict(sorted(files.items())))
        self.taught, self.sorted, self.learnt = KnownFiles(BANK), KnownFiles(BANK), KnownFiles(BANK)
        teach(self.taught, self.stack, ("ima-ng",))
        teach(self.sorted, self.stack_sorted, ("ima-ng",))
        self.judge(self.log, self.quoted, self.learnt)
        mark = len(_encode(entries[:-NEW]))
        self.part = self.log[mark:]
        state = self.judge(self.log[:mark], _quoted(self.log[:mark]), self.taught)
        assert state is not None
        self.stored = state.encode()

    def judge(self, log: bytes, quoted: VerifiedPcrs, known: KnownFiles | None) -> RuntimeState | None:
        """D1 to D6 over a whole log."""
        parsed = ImaLog.parse(log, known)
        verified = verify_ima_log(parsed, quoted, BANK, max_ahead=0, seen=None, known=known)
        result = judge_runtime(verified, self.stack)
        assert not result.findings
        return result.state

    def judge_part(self) -> RuntimeState | None:
        """The last ten entries, with what is on file of the others."""
        state = RuntimeState.parse(self.stored)
        parsed = ImaLog.parse_part(self.part, state.digest_size, self.taught)
        verified = verify_ima_log(
            parsed, self.quoted, BANK, max_ahead=0, seen=state.seen, start=state.seen.entries, state=state,
            known=self.taught,
        )  # fmt: skip
        result = judge_runtime(verified, self.stack)
        assert not result.findings
        return result.state

    def figures(self) -> Iterator[Figure]:
        """Microseconds per entry, but for the new entries: microseconds for all of them."""
        for name, log, known in (
            ("nothing known", self.log, None),
            ("taught", self.log, self.taught),
            ("second host", self.log, self.learnt),
            ("second host, mixed", self.mixed, self.learnt),
            ("second host, shuffled", self.shuffled, self.learnt),
        ):
            judge = partial(self.judge, log, _quoted(log), known)
            yield least(f"IMA, {name}", judge, calls=5 if known else 2, per=ENTRIES)
        stack, self.stack = self.stack, self.stack_sorted
        yield least(
            "IMA, taught, sorted", partial(self.judge, self.log, self.quoted, self.sorted), calls=5, per=ENTRIES
        )
        self.stack = stack
        yield least("IMA, 10 new entries", self.judge_part, calls=200)
        yield least("bare hash chain", lambda: _chain(self.datas), calls=4, per=ENTRIES)
        digests = [sha256(data).digest() for data in self.datas]
        yield least("bare chain of known digests", lambda: _known_chain(digests), calls=4, per=ENTRIES)

    def memory_kib(self, hosts: int = 200) -> float:
        """What each further host's state takes while it is in memory, with nothing of it shared."""
        tracemalloc.start()
        states = [RuntimeState.parse(self.stored) for _ in range(hosts)]
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(states) == hosts
        return used / hosts / 1024


def _stack(files: dict[str, list[str]]) -> CompiledStack:
    return CompiledStack.parse(encode({**STACK, "runtime": {"files": files}}))


def _encode(entries: list[ImaEntry]) -> bytes:
    return b"".join(map(encode_entry, entries))


def _quoted(log: bytes) -> VerifiedPcrs:
    return TPM.verified_pcrs(BANK, {0: bytes(32), 10: replay(ImaLog.parse(log), BANK)[10]})


def _chain(datas: list[bytes]) -> bytes:
    value = bytes(32)
    for data in datas:
        value = sha256(value + sha256(data).digest()).digest()
    return value


def _known_chain(digests: list[bytes]) -> bytes:
    value = bytes(32)
    for digest in digests:
        value = sha256(value + digest).digest()
    return value
