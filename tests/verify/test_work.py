"""Work grows with the length of a runtime log and no faster, whatever is in it: calls are counted, not seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.errors import MalformedError, Rejected
from watchword.testing.logs import ima_log, measured, violation
from watchword.verify.ima_continued import continued_pcrs
from watchword.verify.ima_log import verify_ima_log
from watchword.wire.ima_log import ImaEntry, ImaLog

from .test_ima_log import BANK, BOOT, FIRST, aggregate, quoted

KINDS: tuple[Callable[[int], ImaEntry], ...] = (
    lambda number: measured(b"/bin/%d" % number, b"%d" % number),
    lambda number: measured(b"/bin/same", b"same"),
    lambda number: measured(b"/bin/%d" % number, b"x", signature=b"\3sig"),
    lambda number: measured(b"/bin/%d" % number, b"x")._replace(pcr=11),
    lambda number: measured(b"/bin/%d" % number, b"x")._replace(pcr=12),
    lambda number: violation(b"/var/log/%d" % number),
    lambda number: measured(b"/bin/%d" % number, b"x")._replace(template="ima-own"),
)


def calls(work: Callable[[], object]) -> int:
    """How many functions ``work`` calls, those written in C too."""
    count = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    except (MalformedError, Rejected):
        pass
    finally:
        sys.setprofile(before)
    return count


def entries(pattern: list[int], count: int, order: str) -> list[ImaEntry]:
    made = [KINDS[pattern[number % len(pattern)]](number) for number in range(count)]
    return [FIRST, *(reversed(made) if order == "reversed" else made)]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, len(KINDS) - 1), min_size=1, max_size=5),
    st.sampled_from(["as made", "reversed"]),
    st.booleans(),
)
def test_twice_the_log_is_twice_the_work(pattern: list[int], order: str, honest: bool) -> None:
    def work(count: int) -> int:
        """Of a log that leads to the quote, or of one whose end no place in it leads to."""
        shown = entries(pattern, count, order)
        proof = quoted(aggregate(shown) if honest else bytes(31) + b"\1")
        data = ima_log(shown).encode()
        left = {
            pcr: BOOT.get(pcr, bytes(32)) for pcr in continued_pcrs(ImaLog.parse(data)) if pcr in proof.values[BANK]
        }

        def judge() -> None:
            log = ImaLog.parse(data)
            verify_ima_log(log, proof, BANK, max_ahead=0, seen=None, continued={BANK: left} if left else {})

        return calls(judge)

    work(60)  # what is done once is done
    small, large = work(120), work(240)
    assert large <= 2 * small + 100
