from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.errors import MalformedError
from watchword.policy.explain import explain_stack
from watchword.policy.release import StackRelease
from watchword.policy.stack import MAX_STACK_SIZE, CompiledStack, path_bytes, path_text
from watchword.testing.documents import STACK, changed, encode, event, sha
from watchword.wire.tpm.algorithms import Alg


def test_a_stack_compiles() -> None:
    data = encode(STACK)
    stack = CompiledStack.parse(data)
    assert (stack.name, stack.version, stack.serial, stack.origin) == ("compute", "1.0", 5, "computed")
    assert stack.pcrs == (0, 4, 9)
    assert stack.banks == {Alg.SHA256}
    assert [c.name for c in stack.components] == ["firmware", "boot"]
    assert stack.components[1].variants[0].events[1].digests == {Alg.SHA256: bytes.fromhex(sha("initrd"))}
    assert stack.files == {b"/bin/sh": frozenset({(Alg.SHA256, bytes.fromhex(sha("sh")))})}
    assert stack.any_path == {(Alg.SHA256, bytes.fromhex(sha("anywhere")))}


def test_digest_is_of_the_exact_bytes() -> None:
    assert CompiledStack.parse(encode(STACK)).digest != CompiledStack.parse(encode(STACK) + b"\n").digest


EVENT = ("components", 1, "variants", 0, "events", 1)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("format",), "watchword-stack/2", "stack: format: "),
        (("name",), "no spaces", "stack: name: "),
        (("name",), "", "stack: name: "),
        (("name",), "compute\n", "stack: name: "),
        (("name",), ..., "missing required field `name`"),
        (("serial",), 0, "stack: serial: "),
        (("serial",), ..., "missing required field `serial`"),
        (("origin",), "guessed", "stack: origin: "),
        (("pcrs",), [], "stack: pcrs: "),
        (("pcrs",), [4, 0, 9], "stack: pcrs: must be ascending"),
        (("pcrs",), [0, 4, 4, 9], "stack: pcrs: must be ascending"),
        (("pcrs",), [0, 4, 9, 10], "stack: pcrs: PCR 10 holds the runtime log"),
        (("pcrs",), [0, 4, 9, 16], "stack: pcrs: PCRs 16 and 23 can be reset"),
        (("pcrs",), [0, 4, 9, 23], "stack: pcrs: PCRs 16 and 23 can be reset"),
        (("pcrs",), [0, 4, 9, 24], "stack: pcrs[3]: "),
        (("pcrs",), [0, 4], "components[1].variants[0].events[1].pcr: PCR 9 is not among the pcrs"),
        (("components",), [], "stack: components: "),
        (("components", 1, "name"), "firmware", "components[1].name: firmware is already used"),
        (("components", 0, "variants"), [], "components[0].variants: "),
        ((*EVENT, "digests", "sha256"), "00", "events[1].digests.sha256: not 64 hex digits"),
        ((*EVENT, "digests", "sha256"), "A" * 64, "events[1].digests.sha256: not 64 hex digits"),
        ((*EVENT, "digests"), {}, "components[1].variants[0].events[1].digests: "),
        ((*EVENT, "digests"), {"sha1": "00" * 20}, "events[1].digests: 'sha1' is not one of"),
        ((*EVENT, "digests"), {"sha384": "00" * 48}, "no bank in which every event has a digest"),
        ((*EVENT, "note"), "two\nlines", "events[1].note: has control characters"),
        ((*EVENT, "type"), 13, "components[1].variants[0].events[1].type: unknown field 'type'"),
        (("runtime", "files", "/bin/sh"), [], "stack: runtime.files[...]: "),
        (("runtime", "files", "/bin/sh"), ["sha1:" + "00" * 20], "runtime.files['/bin/sh']: does not start with"),
        (("runtime", "files", "/bin/sh"), ["sha256:00"], "runtime.files['/bin/sh']: not 64 hex digits"),
        (("runtime", "any_path"), ["sha256:00"], "runtime.any_path[0]: not 64 hex digits"),
        (("runtime", "files", ""), ["sha256:" + "00" * 32], "runtime.files['']: "),
        (("not_after",), -1, "stack: not_after: "),
    ],
)
def test_what_is_refused(path: tuple[Any, ...], value: Any, says: str) -> None:
    with pytest.raises(MalformedError) as caught:
        CompiledStack.parse(changed(STACK, *path, value=value))
    assert says in str(caught.value)


def test_the_validity_window_must_not_be_empty() -> None:
    good = {**STACK, "not_before": 5, "not_after": 6}
    assert CompiledStack.parse(encode(good)).not_after == 6
    for before, after in ((5, 5), (6, 5)):
        with pytest.raises(MalformedError, match="not_after: is not later"):
            CompiledStack.parse(encode({**STACK, "not_before": before, "not_after": after}))


def test_variant_names_are_unique() -> None:
    document = copy.deepcopy(STACK)
    document["components"][0]["variants"] *= 2
    with pytest.raises(MalformedError, match=r"components\[0\].variants\[1\].name: a is already used"):
        CompiledStack.parse(encode(document))


def test_a_stack_without_any_event_says_nothing() -> None:
    empty = [{"name": "boot", "variants": [{"name": "none", "events": []}]}]
    with pytest.raises(MalformedError, match="would say nothing about the boot"):
        CompiledStack.parse(encode({**STACK, "components": empty}))


def test_number_of_events_is_bounded() -> None:
    many = [{"name": "boot", "variants": [{"name": "v", "events": [event(0, "x")] * 20_001}]}]
    with pytest.raises(MalformedError, match="more than 20000 events"):
        CompiledStack.parse(encode({**STACK, "components": many}))


def test_size_is_bounded() -> None:
    with pytest.raises(MalformedError, match="bytes long"):
        CompiledStack.parse(encode(STACK) + b" " * MAX_STACK_SIZE)


@pytest.mark.parametrize("path", [b"/bin/sh", "/ä".encode(), b"/new\nline", b"/\xff", b"hex:00", b"/\xe2\x80\xae"])
def test_paths_are_exact_and_written_one_way(path: bytes) -> None:
    assert path_bytes(path_text(path)) == path


@pytest.mark.parametrize("text", ["", "hex:", "hex:2f", "hex:0", "hex:FF", "/new\nline", "hex: ff"])
def test_a_path_written_another_way_is_refused(text: str) -> None:
    with pytest.raises(MalformedError, match=r"runtime\.files"):
        path_bytes(text)


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=40))
def test_any_path_can_be_written(path: bytes) -> None:
    assert path_bytes(path_text(path)) == path


def test_a_release_must_fit_together() -> None:
    stack = CompiledStack.parse(encode(STACK))
    StackRelease(stack, stack.digest, frozenset(), "retiring", 5)
    for state, end in (("retiring", None), ("active", 5), ("gone", None)):
        with pytest.raises(ValueError):
            StackRelease(stack, stack.digest, frozenset(), state, end)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="digest"):
        StackRelease(stack, bytes(32), frozenset())


def test_in_words() -> None:
    words = "\n".join(explain_stack(CompiledStack.parse(encode({**STACK, "pcrs": [0, 4, 8, 9]}))))
    assert "compute 1.0" in words
    assert "PCRs 8 must have no event at all" in words
    assert "computed from artifacts" in words
    assert "not computed" in "\n".join(explain_stack(CompiledStack.parse(encode({**STACK, "origin": "captured"}))))


LEAVES = st.none() | st.booleans() | st.integers(-3, 30) | st.text(max_size=8) | st.just("ab" * 32)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(STACK)), JSON)
def test_any_json_is_a_stack_or_malformed(field: str, value: Any) -> None:
    data = json.dumps({**STACK, field: value}).encode()
    try:
        assert CompiledStack.parse(data).pcrs
    except MalformedError:
        pass


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | st.integers(0, len(encode(STACK))).map(lambda cut: encode(STACK)[:cut]))
def test_any_bytes_are_a_stack_or_malformed(data: bytes) -> None:
    try:
        assert CompiledStack.parse(data).pcrs
    except MalformedError:
        pass
