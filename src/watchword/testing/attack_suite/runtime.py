"""Attacks on the kernel's log: clauses D1 to D4 and D6.

What is only written into the log leaves the quote as it was (thing "ima-log"); what a machine of the attacker's really
measured is in the log, in PCR 10 and under the quote (thing "runtime").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from msgspec.structs import replace

from watchword.conformance.scenario import Inputs
from watchword.testing.attack_suite.bench import Bench, changed, edited
from watchword.testing.attack_suite.controls import SEEN, further
from watchword.testing.logs import ima_entry
from watchword.wire.ima_log import ImaEntry, ImaLog
from watchword.wire.ima_log import replay as replay_entries
from watchword.wire.tpm.algorithms import Alg, digest

__all__ = ["add_runtime"]

_OF, _AHEAD, _OPEN, _NEWLINE, _SEEN = "good-p256", "good-ahead", "good-violation", "good-newline", "good-memory"
_DROPPED, _ALTERED, _REORDERED = "IMA entry dropped", "IMA entry altered", "IMA entry reordered"
_HIDDEN, _ELSEWHERE = "violation hidden", "good-other-pcr"

Change = Callable[[list[ImaEntry]], object]


def add_runtime(bench: Bench) -> None:
    _bytes(bench)
    _entries(bench)
    _violations(bench)
    _newline(bench)
    _ahead(bench)
    _measured(bench)
    _memory(bench)


def _entries_of(inputs: Inputs) -> ImaLog:
    assert inputs.evidence is not None
    assert isinstance(inputs.evidence.ima_log, bytes)
    return ImaLog.parse(inputs.evidence.ima_log)


def _bytes(bench: Bench) -> None:
    """C1, which every log that does not parse fails."""
    good = bench[_OF].inputs
    raw = _entries_of(good).encode()
    for name, text, log in (("cut", "the log ends inside an entry", raw[:-5]), ("empty", "there is no log", b"")):
        lie = changed(good, ima_log=log)
        bench.attack(f"runtime-{name}", "log cut short", _OF, ("ima-log", text), lie, "C1 evidence-malformed !")


def _written(bench: Bench, name: str, what: str, of: str, text: str, change: Change, stopped_by: str) -> None:
    """An attack on the log as it is written down."""
    log = _entries_of(bench[of].inputs)
    lie = dataclasses.replace(log, entries=tuple(edited(log.entries, change))).encode()
    inputs = changed(bench[of].inputs, ima_log=lie)
    bench.attack(f"runtime-{name}", what, of, ("ima-log", text), inputs, stopped_by)


def _entries(bench: Bench) -> None:
    """D1 to D3."""
    replayed, hashed = "D3 runtime-log-replay !", "D2 runtime-log-digest"
    digest_only: Change = lambda all_: all_.__setitem__(5, all_[5]._replace(digest=all_[6].digest))  # noqa: E731
    data_only: Change = lambda all_: all_.__setitem__(5, all_[5]._replace(data=all_[6].data))  # noqa: E731
    text = "the template digest of an entry is another; its data, which PCR 10 is about, is not"
    _written(bench, "digest-altered", _ALTERED, _OF, text, digest_only, hashed)
    _written(bench, "data-altered", _ALTERED, _OF, "an entry names another file", data_only, f"{hashed} !")
    for name, what, text, change in (
        ("replaced", _ALTERED, "an entry is another, digest included", lambda all_: all_.__setitem__(5, all_[6])),
        ("dropped", _DROPPED, "an entry in the middle is missing", lambda all_: all_.pop(5)),
        ("last-dropped", _DROPPED, "the last entry is missing", lambda all_: all_.pop()),
        ("first-dropped", _DROPPED, "boot_aggregate is missing", lambda all_: all_.pop(0)),
        ("reordered", _REORDERED, "two entries changed places", lambda all_: all_.insert(3, all_.pop(7))),
        ("doubled", _ALTERED, "an entry is there twice", lambda all_: all_.insert(3, all_[3])),
    ):
        _written(bench, name, what, _OF, text, change, replayed)
    text = "an entry that was never measured, under a PCR that only the boot measured into"
    elsewhere: Change = lambda all_: all_.insert(3, all_[4]._replace(pcr=11))  # noqa: E731
    _written(bench, "other-pcr", _ALTERED, _OF, text, elsewhere, "D3 runtime-log-replay")
    what = "untrusted-host launch: a program measured into another PCR"
    text = "the entry of PCR 11 is missing, so that PCR 10 alone is as the log says"
    _written(bench, "other-pcr-hidden", what, _ELSEWHERE, text, lambda all_: all_.pop(), "C2 boot-log-replay !")


def _violations(bench: Bench) -> None:
    """D3."""
    entries = _entries_of(bench[_OPEN].inputs).entries
    place = next(number for number, entry in enumerate(entries) if entry.violation)
    repaired = entries[place]._replace(digest=digest(Alg.SHA1, entries[place].data))
    for name, text, instead in (
        ("dropped", "the violation is missing", []),
        ("repaired", "the violation has the digest that it should have had", [repaired]),
    ):

        def hide(all_: list[ImaEntry], instead: list[ImaEntry] = instead) -> None:
            all_[place : place + 1] = instead

        _written(bench, f"violation-{name}", _HIDDEN, _OPEN, text, hide, "D3 runtime-log-replay !")


def _newline(bench: Bench) -> None:
    """D3: what the readable log of the control shows, as the two harmless entries that it looks like."""

    def split(all_: list[ImaEntry]) -> None:
        file = all_[-1].file()
        first = file.path.partition(b"\n")[0]
        all_[-1:] = [ima_entry("ima-ng", b"sha256:\0" + file.digest, first + b"\0"), all_[3]]

    text = "in place of one strange file the two that its name looks like in the readable log"
    _written(bench, "newline-split", "file name with a newline", _NEWLINE, text, split, "D3 runtime-log-replay !")


def _ahead(bench: Bench) -> None:
    """D3."""
    broken = ("ima-log", "three entries follow the quote, two are allowed")
    lie = further(bench[_AHEAD].inputs, 1)
    what = "log ahead of the quote by more than allowed"
    bench.attack("runtime-ahead", what, _AHEAD, broken, lie, "D3 runtime-log-ahead")


def _measured(bench: Bench) -> None:
    """D1, D2 and D4: PCR 10 says that all of this was measured."""
    good = bench.recorded("good")
    assert good.runtime is not None
    entries = good.runtime.entries
    other = bench.recorded("kernel").runtime
    assert other is not None
    buffer = ima_entry("ima-buf", b"sha256:\0" + bytes(range(32)), b"kexec-cmdline\0", b"root=/dev/vda")
    unknown = ima_entry("ima-own", b"sha256:\0" + bytes(32), b"/usr/bin/true\0")
    for name, what, text, log, stop in (
        (
            "other-aggregate", "IMA entry altered: the log of another boot",
            "the log begins with the boot_aggregate of a machine with another kernel",
            [other.entries[0], *entries[1:]], "D4 runtime-log-aggregate !",
        ),
        ("no-aggregate", _DROPPED, "the log does not begin with boot_aggregate", entries[1:],
         "D4 runtime-log-aggregate"),
        ("buffer", _ALTERED, "a measured buffer has not the digest that its entry states", [*entries, buffer],
         "D2 runtime-log-buffer"),
        ("template", _ALTERED, "an entry of a template that nobody knows", [*entries, unknown],
         "D1 runtime-log-template"),
    ):  # fmt: skip
        lie = bench.again(_OF, good.with_entries(log))
        bench.attack(f"runtime-{name}", what, _OF, ("runtime", text), lie, stop)


def _memory(bench: Bench) -> None:
    """D6: the verifier has seen in this boot what is not in the log any more."""
    inputs = bench[_SEEN].inputs
    assert inputs.request is not None
    seen = inputs.request.runtime_seen
    assert seen is not None
    entries = edited(_entries_of(inputs).entries, lambda all_: all_.pop(2))[:SEEN]
    value = replay_entries(ImaLog(20, tuple(entries)), Alg.SHA256)[10].hex()
    for name, text, before in (
        ("rewritten", "the entries that were shown before were others", replace(seen, pcr10=value)),
        ("shorter", "more entries were shown before than there are now", replace(seen, entries=seen.entries + 100)),
    ):
        lie = changed(inputs, runtime_seen=before)
        bench.attack(f"runtime-{name}", _DROPPED, _SEEN, ("runtime-seen", text), lie, "D6 runtime-log-truncated")
