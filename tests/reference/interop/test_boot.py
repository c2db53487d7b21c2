"""Boot measurements of other tools: components, logs, and values that they computed."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchword.errors import MalformedError, UsageError
from watchword.policy.capture import capture_stack, captured_events
from watchword.policy.stack import CompiledStack
from watchword.reference.interop.draft import Draft, Event, Heading, build, components_of
from watchword.reference.interop.expect import Expectation, compare, read_compute_pcrs, read_expectations
from watchword.reference.interop.records import read_cel, read_pcrlock, write_pcrlock
from watchword.testing.documents import STACK, encode, event, sha
from watchword.wire.tcg_log import EventLog
from watchword.wire.tpm.algorithms import Alg

HEADING = Heading("compute", "1.0", 1)
MEASURE = Path("/usr/lib/systemd/systemd-measure")

names = st.from_regex(r"[A-Za-z][A-Za-z0-9._+-]{0,20}", fullmatch=True)
digests = st.fixed_dictionaries(
    {Alg.SHA256: st.binary(min_size=32, max_size=32)}, optional={Alg.SHA384: st.binary(min_size=48, max_size=48)}
)
events = st.builds(Event, st.sampled_from([0, 4, 7, 11, 14]), digests)
variants = st.dictionaries(names, st.lists(events, max_size=3).map(tuple), min_size=1, max_size=3)


@given(st.lists(st.tuples(names, variants), min_size=1, max_size=4, unique_by=lambda c: c[0]))
def test_pcrlock_round_trip(components: list[tuple[str, dict[str, tuple[Event, ...]]]]) -> None:
    found = read_pcrlock(write_pcrlock(components)).components
    assert [name for name, _ in found] == [name for name, _ in components]
    for (name, before), (_, after) in zip(components, found, strict=True):
        if len(before) == 1:
            assert [*after.values()] == [*before.values()], name
        else:
            assert after == before, name


def record(pcr: int, **found: str) -> dict[str, object]:
    return {"pcr": pcr, "digests": [{"hashAlg": alg, "digest": digits} for alg, digits in found.items()]}


def pcrlock(*records: dict[str, object]) -> bytes:
    return json.dumps({"records": list(records)}).encode()


def test_a_pcrlock_folder_as_systemd_lays_it_out() -> None:
    draft = read_pcrlock(
        {
            "250-firmware.pcrlock": pcrlock(record(0, sha1="0" * 40, sha256=sha("fw"))),
            "700-kernel.pcrlock.d/6.1.pcrlock": pcrlock(record(4, sha256=sha("a")), record(10, sha256=sha("ima"))),
            "700-kernel.pcrlock.d/6.2.pcrlock": pcrlock(record(4, sha256=sha("b"))),
        }
    )
    assert [(name, list(variants)) for name, variants in draft.components] == [
        ("firmware", ["250-firmware"]),
        ("kernel", ["6.1", "6.2"]),
    ]
    assert draft.left_out == (
        "record of PCR 10, which a stack cannot cover: '700-kernel.pcrlock.d/6.1.pcrlock records[1]'",
    )
    stack = CompiledStack.parse(build(draft, HEADING))
    assert stack.pcrs == (0, 4)
    assert stack.banks == {Alg.SHA256}


def test_numbers_stay_where_names_would_collide() -> None:
    one = pcrlock(record(0, sha256=sha("x")))
    assert [n for n, _ in read_pcrlock({"100-a.pcrlock": one, "200-a.pcrlock": one}).components] == ["100-a", "200-a"]


@pytest.mark.parametrize(
    ("name", "data", "place"),
    [
        ("a.pcrlock", pcrlock(record(4, sha1="0" * 40)), r"a.pcrlock: records\[0\].digests: none of"),
        ("a.pcrlock", pcrlock(record(4, sha256="00")), r"records\[0\].digests\[0\].digest: not 64 hex"),
        ("a.pcrlock", pcrlock({"pcr": -1, "digests": []}), "a.pcrlock: records"),
        ("a.pcrlock", b'{"records": [], "records": []}', "appears twice"),
        ("a.pcrlock", b"", "a.pcrlock: line 1"),
        ("a.txt", b"{}", "a.txt: is not NAME.pcrlock"),
        ("a/b.pcrlock", b"{}", "a/b.pcrlock: is not NAME.pcrlock"),
        ("a b.pcrlock", b"{}", "a stack cannot have"),
    ],
)
def test_bad_components(name: str, data: bytes, place: str) -> None:
    with pytest.raises(MalformedError, match=place):
        read_pcrlock({name: data})


def test_one_digest_of_a_kind() -> None:
    twice = {"pcr": 4, "digests": [{"hashAlg": "sha256", "digest": sha("a")}] * 2}
    with pytest.raises(MalformedError, match=r"digests\[1\]: a second sha256"):
        read_pcrlock({"a.pcrlock": pcrlock(twice)})


def test_no_components() -> None:
    with pytest.raises(UsageError) as caught:
        read_pcrlock({})
    assert caught.value.code == "pcrlock-empty"


def test_canonical_event_logs_as_an_array_and_as_a_sequence() -> None:
    records = [
        {**record(11, sha256=sha("phase")), "content_type": "systemd", "content": {"string": "enter-initrd"}},
        {"nv_index": 1, "digests": [{"hashAlg": "sha256", "digest": sha("nv")}]},
    ]
    array = read_cel(json.dumps(records).encode())
    sequence = read_cel(b"".join(b"\x1e" + json.dumps(each).encode() + b"\n" for each in records))
    assert array == sequence
    assert array.components == (
        ("log", {"log": (Event(11, {Alg.SHA256: bytes.fromhex(sha("phase"))}, "enter-initrd"),)}),
    )
    assert array.left_out == ("record of an NV index, not of a PCR: 'CEL records[1]'",)
    for bad in (b"", b"\x1e", b"{}", b"[1]"):
        with pytest.raises(MalformedError, match=r"^CEL"):
            read_cel(bad)


def extend(*found: bytes, start: bytes = bytes(32)) -> bytes:
    for each in found:
        start = hashlib.sha256(start + each).digest()
    return start


def two_images() -> CompiledStack:
    other = {"name": "two", "events": [event(4, "kernel 2"), event(9, "initrd 2")]}
    boot = {**STACK["components"][1], "variants": [*STACK["components"][1]["variants"], other]}
    return CompiledStack.parse(encode({**STACK, "components": [STACK["components"][0], boot]}))


def hashed(text: str) -> bytes:
    return bytes.fromhex(sha(text))


def test_values_of_one_combination_hold_and_of_a_mixture_do_not() -> None:
    stack = two_images()
    good = {4: extend(hashed("kernel 2")), 9: extend(hashed("initrd 2"))}
    found = compare(stack, Expectation("", Alg.SHA256, good))
    assert (found.holds, dict(found.chosen)["boot"]) == ("yes", "two")
    mixed = compare(stack, Expectation("", Alg.SHA256, {**good, 9: extend(hashed("initrd"))}))
    assert mixed.holds == "no"
    assert len(mixed.wrong) == 1


@pytest.mark.parametrize("locality", [0, 3, 4])
def test_pcr_0_may_start_with_a_locality(locality: int) -> None:
    value = extend(hashed("fw a"), start=locality.to_bytes(32, "big"))
    found = compare(two_images(), Expectation("", Alg.SHA256, {0: value}))
    assert (found.holds, found.locality) == ("yes", locality)


def test_what_cannot_be_compared_is_said() -> None:
    assert "does not cover PCRs 7" in compare(two_images(), Expectation("", Alg.SHA256, {7: bytes(32)})).skipped
    assert "no sha384" in compare(two_images(), Expectation("", Alg.SHA384, {4: bytes(48)})).skipped
    many = [
        {"name": f"c{i}", "variants": [{"name": v, "events": [event(4, f"{i}{v}")]} for v in "ab"]} for i in range(12)
    ]
    stack = CompiledStack.parse(encode({**STACK, "pcrs": [4], "components": many}))
    assert "1024 combinations" in compare(stack, Expectation("", Alg.SHA256, {4: bytes(32)})).skipped


@pytest.mark.skipif(not MEASURE.exists(), reason="no systemd-measure here")
def test_the_real_systemd_measure(tmp_path: Path) -> None:
    """A stack with what a unified kernel image and the phases extend leads to the values of every phase."""
    kernel, line = tmp_path / "linux", tmp_path / "cmdline"
    kernel.write_bytes(b"kernel")
    line.write_bytes(b"root=x")
    done = subprocess.run(
        [MEASURE, "calculate", f"--linux={kernel}", f"--cmdline={line}", "--json=short"],
        capture_output=True,
        check=True,
    )
    found = [e for e in read_expectations(done.stdout) if e.bank is Alg.SHA256]
    assert len(found) == 4
    texts = [b".linux\0", b"kernel", b".cmdline\0", b"root=x"]
    for expectation in found:
        phases = [phase.encode() for phase in expectation.label.split(":")]
        chain = tuple(Event(11, {Alg.SHA256: hashlib.sha256(text).digest()}) for text in (*texts, *phases))
        stack = CompiledStack.parse(build(Draft((("uki", {"one": chain}),)), HEADING))
        assert [compare(stack, other).holds == "yes" for other in found] == [other == expectation for other in found]


def result(*texts: str, pcr: int = 4, value: bytes | None = None) -> dict[str, object]:
    parts = [{"name": "EV_IPL", "pcr": pcr, "hash": sha(text), "id": text} for text in texts]
    return {"id": pcr, "value": (value or extend(*map(hashed, texts))).hex(), "events": parts}


@pytest.mark.parametrize(
    ("document", "place"),
    [
        (result("a", value=bytes(32)), r"pcrs\[0\].value: is not what the events lead to"),
        ({**result("a"), "events": []}, "has no events"),
        ({**result("a"), "id": 7}, "event of another PCR"),
        ({"pcrs": []}, "expectation"),
        ({"id": 4, "value": "zz", "events": result("a")["events"]}, r"value: not 64 hex"),
    ],
)
def test_bad_results(document: dict[str, object], place: str) -> None:
    with pytest.raises(MalformedError, match=place):
        read_compute_pcrs(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{}", "has no values"),
        ('{"sha1": {"4": "00"}}', "has no values"),
        ('{"sha256": {"04": "00"}}', "is no PCR"),
        ('{"sha256": {"24": "00"}}', "is no PCR"),
        ('{"sha256": {"4": 1}}', "no text of hex"),
        ('{"sha256": [{"pcr": 11}]}', "sha256"),
        ('{"md4": {}}', "md4: is no bank"),
        ("[]", "expectation"),
    ],
)
def test_bad_expectations(text: str, place: str) -> None:
    with pytest.raises(MalformedError, match=place):
        read_expectations(text.encode())


def test_other_peoples_expectations_lead_to_their_values(corpus: Path) -> None:
    files = sorted((corpus / "trusted-execution-clusters+compute-pcrs" / "expected").glob("*.json"))
    assert len(files) == 6
    for file in files:
        stack = CompiledStack.parse(build(read_compute_pcrs(file.read_bytes()), HEADING))
        (expectation,) = read_expectations(file.read_bytes())
        assert compare(stack, expectation).holds == "yes", file.name
    (on,) = [f for f in files if f.name.endswith("42.20250929.3.0__pcr7-sb-enabled.json")]
    (off,) = [f for f in files if f.name.endswith("pcr7-sb-disabled.json")]
    stack = CompiledStack.parse(build(read_compute_pcrs(on.read_bytes()), HEADING))
    assert compare(stack, read_expectations(off.read_bytes())[0]).holds == "no"


def test_stacks_captured_from_real_logs_lead_to_the_values_their_sources_state(corpus: Path) -> None:
    """Our computation of a PCR from a stack, beside values that somebody else's TPM had."""
    compared = 0
    for name, stated in json.loads((corpus / "expected_pcrs.json").read_text()).items():
        bank = {pcr: value for pcr, value in stated["banks"].get("sha256", {}).items() if int(pcr) in (2, 3, 4, 7, 14)}
        if not bank or not (corpus / name).is_file():
            continue
        try:
            log = EventLog.parse((corpus / name).read_bytes())
            stack = CompiledStack.parse(
                capture_stack(name="x", version="1", serial=1, events=captured_events(log), files=None,
                              components={"all": [2, 3, 4, 7, 14]})
            )  # fmt: skip
        except (MalformedError, UsageError):
            continue  # kinds of logs that other tests are about
        for expectation in read_expectations(json.dumps({"sha256": bank}).encode()):
            found = compare(stack, expectation)
            assert found.holds == "yes", (name, found.wrong)
            compared += 1
    assert compared >= 8


def test_components_of_a_stack_are_those_of_the_draft() -> None:
    stack = two_images()
    assert CompiledStack.parse(build(Draft(components_of(stack)), HEADING)).components == stack.components
