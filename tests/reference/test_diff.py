"""What ``stack diff`` says: between two documents, and between a stack and a host's logs."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchword.cli.main import run
from watchword.policy.capture import capture_stack, captured_events, captured_files
from watchword.policy.stack import CompiledStack
from watchword.reference.diff import diff_stacks
from watchword.reference.host_diff import compare_boot, compare_files
from watchword.testing.documents import STACK, encode, event, sha
from watchword.wire.ima_log import ImaLog
from watchword.wire.tcg_log import EventLog


def changed(**top: Any) -> dict[str, Any]:
    return {**copy.deepcopy(STACK), **top}


def test_the_same_in_bytes_and_in_meaning() -> None:
    assert diff_stacks(encode(STACK), encode(STACK)).equal == "bytes"
    assert diff_stacks(encode(STACK), json.dumps(STACK, indent=2).encode()).equal == "meaning"


@pytest.mark.parametrize(
    ("field", "value"),
    [("version", "1.1"), ("serial", 6), ("origin", "captured"), ("not_after", 9), ("pcrs", [0, 4, 7, 9])],
)
def test_fields(field: str, value: Any) -> None:
    found = diff_stacks(encode(STACK), encode(changed(**{field: value})))
    assert dict(found.fields) == {field: (STACK.get(field), value)}
    assert not found.equal


def test_a_missing_runtime_part_is_not_an_empty_one() -> None:
    with_none, empty = changed(), changed(runtime={})
    del with_none["runtime"]
    assert dict(diff_stacks(encode(with_none), encode(empty)).fields) == {"runtime": (False, True)}


def test_components_variants_and_events() -> None:
    new = changed()
    firmware, boot = new["components"]
    firmware["variants"].append({"name": "b", "events": [event(0, "fw b")]})
    boot["variants"][0]["events"] = [event(4, "kernel"), event(4, "extra"), event(9, "initrd 2")]
    new["components"].append({"name": "late", "variants": [{"name": "x", "events": [event(9, "late")]}]})
    found = diff_stacks(encode(STACK), encode(new))
    assert [(c.name, c.kind, [(v.name, v.kind) for v in c.variants]) for c in found.components] == [
        ("firmware", "changed", [("b", "added")]),
        ("boot", "changed", [("one", "changed")]),
        ("late", "added", []),
    ]
    told = [
        (e.pcr, e.position, e.old and e.old.note, e.new and e.new.note) for e in found.components[1].variants[0].events
    ]
    assert told == [(4, 1, None, "extra"), (9, 0, "initrd", "initrd 2")]


def test_another_name_another_order_another_note() -> None:
    renamed, swapped, noted = changed(), changed(), changed()
    renamed["components"][0]["variants"][0]["name"] = "z"
    swapped["components"].reverse()
    noted["components"][0]["variants"][0]["events"][0]["note"] = "other words"
    (variant,) = diff_stacks(encode(STACK), encode(renamed)).components[0].variants
    assert (variant.kind, variant.old_name, variant.name) == ("renamed", "a", "z")
    assert diff_stacks(encode(STACK), encode(swapped)).reordered
    (only,) = diff_stacks(encode(STACK), encode(noted)).components[0].variants[0].events
    assert only.old is not None
    assert only.new is not None
    assert only.old.digests == only.new.digests


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_the_changes_of_a_variant_lead_from_one_to_the_other(old: list[str], new: list[str]) -> None:
    def stack(texts: list[str]) -> bytes:
        events = [event(4, "first"), *(event(9, text) for text in texts)]
        return encode(changed(components=[{"name": "boot", "variants": [{"name": "one", "events": events}]}]))

    found = diff_stacks(stack(old), stack(new))
    changes = found.components[0].variants[0].events if found.components else ()
    assert (not changes) == (old == new)
    assert len(new) - len(old) == sum(c.old is None for c in changes) - sum(c.new is None for c in changes)


def test_files() -> None:
    new = changed()
    new["runtime"] = {"files": {"/bin/sh": ["sha256:" + sha("sh 2")], "/bin/ls": ["sha256:" + sha("ls")]}}
    found = diff_stacks(encode(STACK), encode(new)).files
    assert [(f.path, f.kind) for f in found] == [(b"", "removed"), (b"/bin/ls", "added"), (b"/bin/sh", "changed")]


def recorded(boots: Path) -> tuple[EventLog, ImaLog, bytes]:
    log = EventLog.parse((boots / "good" / "eventlog.bin").read_bytes())
    ima = ImaLog.parse((boots / "good" / "ima.bin").read_bytes())
    document = capture_stack(
        name="compute", version="1.0", serial=1, events=captured_events(log), files=captured_files(ima)
    )
    return log, ima, document


def test_a_host_beside_the_stack_that_was_captured_from_it(boots: Path) -> None:
    log, ima, document = recorded(boots)
    stack = CompiledStack.parse(document)
    boot, files = compare_boot(stack, captured_events(log)), compare_files(stack, ima)
    assert boot.deviations == ()
    assert [component for component, _ in boot.chosen] == ["firmware", "secure-boot", "boot"]
    assert (files.unlisted, files.violations) == ((), 0)


def test_the_first_event_that_differs_and_what_was_expected_there(boots: Path) -> None:
    log, _, document = recorded(boots)
    stack = json.loads(document)
    events = stack["components"][2]["variants"][0]["events"]
    at = next(i for i, each in enumerate(events) if each["pcr"] == 9)
    wanted = events[at] = {**events[at], "digests": {a: "0" * len(d) for a, d in events[at]["digests"].items()}}
    found = compare_boot(CompiledStack.parse(encode(stack)), captured_events(log))
    (miss,) = found.deviations
    assert (miss.component, miss.pcr, miss.position) == ("boot", 9, 0)
    assert miss.expected is not None
    assert miss.expected.note == wanted["note"]
    assert miss.actual is not None
    assert [component for component, _ in found.chosen] == ["firmware", "secure-boot"]


def test_a_log_with_more_and_with_less_than_the_stack(boots: Path) -> None:
    log, _, document = recorded(boots)
    stack, events = CompiledStack.parse(document), captured_events(log)
    last = max(i for i, each in enumerate(events) if each[0] == 4)
    (more,) = compare_boot(stack, [*events, events[last]]).deviations
    assert (more.pcr, more.expected) == (4, None)
    (less,) = compare_boot(stack, events[:last] + events[last + 1 :]).deviations
    assert (less.pcr, less.actual) == (4, None)


def test_a_violation_and_a_file_that_is_not_listed(boots: Path) -> None:
    _, ima, document = recorded(boots)
    thin = json.loads(document)
    path = next(iter(thin["runtime"]["files"]))
    del thin["runtime"]["files"][path]
    found = compare_files(CompiledStack.parse(encode(thin)), ima)
    assert [file.path.decode() for file in found.unlisted] == [path]
    violated = ImaLog.parse((boots / "violation" / "ima.bin").read_bytes())
    assert compare_files(CompiledStack.parse(document), violated).violations > 0


def test_the_command(boots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, host = tmp_path / "old.json", tmp_path / "new.json", tmp_path / "host.json"
    many = {f"/lib/modules/6.1/m{i}.ko": ["sha256:" + sha(str(i))] for i in range(30)}
    old.write_bytes(encode(STACK))
    new.write_bytes(
        encode(changed(serial=6, runtime={**STACK["runtime"], "files": {**STACK["runtime"]["files"], **many}}))
    )
    assert run(["stack", "diff", str(old), str(old)]) == 0
    assert capsys.readouterr().out == "The same document.\n"
    assert run(["stack", "diff", str(old), str(new)]) == 3
    told = capsys.readouterr().out
    assert "serial: 5 -> 6" in told
    assert "/lib/modules/6.1: 30" in told
    assert "m7.ko" not in told
    assert run(["stack", "diff", str(old), str(new), "--all"]) == 3
    assert "/lib/modules/6.1/m7.ko" in capsys.readouterr().out
    assert run(["stack", "diff", str(old), str(new), "--json"]) == 3
    assert len(json.loads(capsys.readouterr().out)["files"]) == 30
    assert run(["stack", "diff", str(old)]) == 1
    host.write_bytes(recorded(boots)[2])
    logs = ["--eventlog", str(boots / "good" / "eventlog.bin"), "--ima", str(boots / "good" / "ima.bin")]
    assert run(["stack", "diff", str(host), *logs]) == 0
    assert "the stack explains the whole log" in capsys.readouterr().out
    assert run(["stack", "diff", str(old), *logs, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["boot"]["explained"] is False


def test_import_export_and_expectations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack, folder, back, policy = (tmp_path / name for name in ("s.json", "p.d", "back.json", "policy.json"))
    stack.write_bytes(encode(STACK))
    heading = ["--name", "compute", "--version", "1.0", "--serial", "5", "--origin", "computed"]
    assert run(["stack", "export", "pcrlock", str(stack), "-o", str(folder)]) == 0
    assert "left out: notes of events" in capsys.readouterr().err
    assert run(["stack", "export", "pcrlock", str(stack), "-o", str(folder)]) == 1
    assert run(["stack", "import", "pcrlock", str(folder), *heading, "-o", str(back)]) == 0
    assert [c["name"] for c in json.loads(back.read_bytes())["components"]] == ["firmware", "boot"]
    policy.write_text(json.dumps({"digests": {"/bin/ls": [sha("ls")]}, "excludes": ["/tmp"]}))
    assert run(["stack", "import", "keylime", str(policy), *heading, "-o", str(tmp_path / "none")]) == 1
    assert not (tmp_path / "none").exists()
    capsys.readouterr()
    assert (
        run(["stack", "import", "keylime", str(policy), "--base", str(stack), *heading, "-o", str(back), "--json"]) == 0
    )
    told = capsys.readouterr()
    assert "1 excludes" in told.err
    assert len(json.loads(told.out)["left_out"]) == 1
    assert set(json.loads(back.read_bytes())["runtime"]["files"]) == {"/bin/sh", "/bin/ls"}
    policy.write_text(json.dumps({"sha256": {"4": "0" * 64}}))
    assert run(["stack", "check", str(stack), "--expect", str(policy)]) == 3
    assert "expected 0000" in capsys.readouterr().out
