"""Clause E2: a boot log is one whole stack or it is not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from watchword.policy.match import Mismatch, StackMatch, match, nearest
from watchword.policy.stack import CompiledStack
from watchword.testing.documents import STACK, encode, event, sha
from watchword.verify.boot_log import VerifiedBootLog

BootLog = Callable[..., VerifiedBootLog]
Events = list[tuple[int, str]]


def stack(components: dict[str, dict[str, Events]], pcrs: tuple[int, ...] = (8, 9, 11), **more: Any) -> CompiledStack:
    document = {
        **STACK,
        "pcrs": pcrs,
        "components": [
            {
                "name": name,
                "variants": [{"name": v, "events": [event(*e) for e in events]} for v, events in variants.items()],
            }
            for name, variants in components.items()
        ],
        **more,
    }
    return CompiledStack.parse(encode(document))


ONE: Events = [(8, "kernel 1"), (9, "initrd 1")]
TWO: Events = [(8, "kernel 2"), (9, "initrd 2")]
BOTH = stack({"loader": {"x": [(8, "loader x")], "y": [(8, "loader y")]}, "image": {"one": ONE, "two": TWO}})


def mismatch(found: StackMatch | Mismatch) -> Mismatch:
    assert isinstance(found, Mismatch)
    assert found.findings
    assert all(f.clause == "E2" and f.code == "stack-none" and f.fatal for f in found.findings)
    return found


@pytest.mark.parametrize(("loader", "image"), [("x", "one"), ("y", "one"), ("x", "two"), ("y", "two")])
def test_independent_components_combine(boot_log: BootLog, loader: str, image: str) -> None:
    log = boot_log([(8, f"loader {loader}"), *(ONE if image == "one" else TWO)])
    found = match(BOTH, log)
    assert isinstance(found, StackMatch)
    assert found.variants == (("loader", loader), ("image", image))


def test_order_between_pcrs_does_not_matter_and_within_a_pcr_it_does(boot_log: BootLog) -> None:
    assert isinstance(match(BOTH, boot_log([(9, "initrd 1"), (8, "loader x"), (8, "kernel 1")])), StackMatch)
    mismatch(match(BOTH, boot_log([(8, "kernel 1"), (8, "loader x"), (9, "initrd 1")])))


def test_kernel_of_one_release_with_initrd_of_another(boot_log: BootLog) -> None:
    found = mismatch(match(BOTH, boot_log([(8, "loader x"), (8, "kernel 1"), (9, "initrd 2")])))
    finding = found.findings[0]
    assert finding.subject == "pcr 9 event 0 (log event 2), component image"
    assert finding.expected == f"{sha('initrd 1')} initrd 1"
    assert finding.actual == f"{sha('initrd 2')} initrd 2"


@pytest.mark.parametrize(
    ("events", "subject", "expected", "actual"),
    [
        ([(8, "loader x"), (8, "evil"), (9, "initrd 1")], "pcr 8 event 1 (log event 1)", "kernel 1", "evil"),
        ([(8, "loader x"), (8, "kernel 1")], "pcr 9 event 0", "initrd 1", "no event"),
        ([(8, "loader x"), *ONE, (9, "more")], "pcr 9 event 1 (log event 3)", "no event", "more"),
        ([(8, "loader x"), *ONE, (11, "more")], "pcr 11 event 0 (log event 3)", "no event", "more"),
        ([(8, "first"), (8, "loader x"), *ONE], "pcr 8 event 0 (log event 0)", "loader x", "first"),
        ([], "pcr 8 event 0", "loader x", "no event"),
    ],
)
def test_the_first_event_that_differs(
    boot_log: BootLog, events: Events, subject: str, expected: str, actual: str
) -> None:
    finding = mismatch(match(BOTH, boot_log(events))).findings[0]
    assert finding.subject.startswith(subject)
    assert finding.expected.endswith(expected)
    assert finding.actual.endswith(actual)


def test_pcrs_that_a_stack_does_not_cover_are_not_its_business(boot_log: BootLog) -> None:
    small = stack({"image": {"one": [(8, "kernel 1")]}}, pcrs=(8,))
    assert isinstance(match(small, boot_log([(8, "kernel 1"), (9, "anything")])), StackMatch)


def test_a_pcr_that_was_not_quoted_proves_nothing(boot_log: BootLog) -> None:
    # Nothing is measured into PCR 12 as far as this log shows, and the quote does not say whether that is true.
    wide = stack({"image": {"one": ONE}}, pcrs=(8, 9, 12))
    finding = mismatch(match(wide, boot_log(ONE))).findings[0]
    assert "not quote" in finding.message
    assert isinstance(match(wide, boot_log(ONE, quoted=(8, 9, 12))), StackMatch)


def test_a_stack_without_the_bank(boot_log: BootLog) -> None:
    events = [{"pcr": 8, "digests": {"sha384": "00" * 48}}]
    components = [{"name": "c", "variants": [{"name": "v", "events": events}]}]
    other = CompiledStack.parse(encode({**STACK, "pcrs": [8], "components": components}))
    finding = mismatch(match(other, boot_log(ONE))).findings[0]
    assert (finding.expected, finding.actual) == ("sha384", "sha256")


def test_variants_of_different_length_are_all_tried(boot_log: BootLog) -> None:
    parts = stack({"a": {"short": [(8, "x")], "long": [(8, "x"), (8, "y")]}, "b": {"y": [(8, "y")], "z": [(8, "z")]}})
    for events, chosen in (
        ("xy", ("short", "y")),
        ("xz", ("short", "z")),
        ("xyz", ("long", "z")),
        ("xyy", ("long", "y")),
    ):
        found = match(parts, boot_log([(8, letter) for letter in events]))
        assert isinstance(found, StackMatch)
        assert tuple(variant for _, variant in found.variants) == chosen
    mismatch(match(parts, boot_log([(8, "x")])))


def test_an_ambiguous_stack_is_refused_and_does_not_take_forever(boot_log: BootLog) -> None:
    lengths = {f"n{i}.{j}": [(8, "x")] * i + [(9, "x")] * j for i in range(6) for j in range(6)}
    bomb = stack({f"c{i}": lengths for i in range(12)})
    finding = mismatch(match(bomb, boot_log([(8, "x"), (9, "x")] * 60 + [(11, "y")]))).findings[0]
    assert "too ambiguous" in finding.message


def test_nearest_is_the_one_that_got_farthest(boot_log: BootLog) -> None:
    log = boot_log([(8, "loader x"), (8, "kernel 1"), (9, "evil")])
    far = mismatch(match(BOTH, log))
    near = mismatch(match(stack({"image": {"one": TWO}}), log))
    assert (far.explained, near.explained) == (2, 0)
    assert nearest([near, far]) is far
    assert nearest([]) is None


def test_nearest_of_equals_is_the_newest(boot_log: BootLog) -> None:
    log = boot_log([(8, "evil")])
    old, new = (mismatch(match(stack({"image": {"one": ONE}}, serial=n), log)) for n in (1, 2))
    assert nearest([old, new]) is new
    assert nearest([new, old]) is new


def test_text_that_no_digest_proves_is_marked(boots_log: VerifiedBootLog) -> None:
    kernel = next(e for e in boots_log.events if e.pcr == 4 and not e.tied)
    before = [e for e in boots_log.events if e.pcr == 4 and e.index < kernel.index]
    events = [{"pcr": 4, "digests": {"sha256": e.digest.hex()}} for e in before]
    components = [{"name": "c", "variants": [{"name": "v", "events": events}]}]
    short = CompiledStack.parse(encode({**STACK, "pcrs": [4], "components": components}))
    finding = mismatch(match(short, boots_log)).findings[0]
    assert finding.actual == f"{kernel.digest.hex()} {kernel.text} (as the host says)"


EVENTS = st.lists(st.tuples(st.sampled_from((8, 9)), st.sampled_from("ab")), max_size=3)
VARIANTS = st.dictionaries(st.sampled_from("vw"), EVENTS, min_size=1)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from("xyz"), VARIANTS, min_size=1), st.data())
def test_the_same_answer_as_trying_everything(
    boot_log: BootLog, components: dict[str, dict[str, Events]], data: st.DataObject
) -> None:
    products = itertools.product(*(v.values() for v in components.values()))
    choices = [list(itertools.chain.from_iterable(chosen)) for chosen in products]
    events = data.draw(st.sampled_from(choices) | EVENTS)
    components = {**components, "end": {"end": [(8, "end")]}}
    expected = any(by_pcr(choice) == by_pcr(events) for choice in choices)
    found = match(stack(components), boot_log([*events, (8, "end")]))
    assert isinstance(found, StackMatch) is expected


def by_pcr(events: Events) -> list[Events]:
    return [[e for e in events if e[0] == pcr] for pcr in (8, 9)]
