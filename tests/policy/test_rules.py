"""Rules about pools, variants, firmware, keys, command line and IMA: each test breaks one, only its check sees it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from watchword.errors import MalformedError
from watchword.policy.command_line import known_command_line
from watchword.policy.match import StackMatch, match
from watchword.policy.stack import CompiledStack
from watchword.testing.documents import encode
from watchword.verify.boot_log import BootFacts, VerifiedBootLog
from watchword.verify.host import VerifiedHost
from watchword.wire.uefi import parse_signatures

from .test_appraise import judge, profile, refused, release

Host = Callable[..., VerifiedHost]
Stack = Callable[..., dict[str, Any]]
BootLog = Callable[..., VerifiedBootLog]
LINE = "console=ttyS0 quiet loglevel=1 panic=1 ima_policy=tcb ima_hash=sha256 ima_template=ima-ng"


@pytest.fixture
def stating(stack: Stack, boots: Path) -> Stack:
    """A stack whose measured load options say which command line they are of."""

    def make(boot: str = "good") -> dict[str, Any]:
        document = stack(boot)
        text = json.loads((boots / boot / "about.json").read_text())["cmdline"]
        measured = hashlib.sha256(f"{text}\0".encode("utf-16-le")).hexdigest()
        events = [e for c in document["components"] for v in c["variants"] for e in v["events"]]
        (event,) = [e for e in events if e["pcr"] == 9 and e["digests"]["sha256"] == measured]
        event["command_line"] = text
        return document

    return make


@pytest.mark.parametrize("text", ["quiet\n", "quiet\t", "na\u00efve"])
def test_a_command_line_that_is_not_one(stating: Stack, text: str) -> None:
    """Its digest is right: that is not what is wrong with it."""
    document = stating()
    events = [e for c in document["components"] for v in c["variants"] for e in v["events"]]
    (event,) = [e for e in events if "command_line" in e]
    event["command_line"] = text
    event["digests"] = {"sha256": hashlib.sha256(f"{text}\0".encode("utf-16-le")).hexdigest()}
    with pytest.raises(MalformedError, match="is not one line of printable ASCII"):
        CompiledStack.parse(encode(document))
    event["command_line"] = "quiet"
    event["digests"] = {"sha256": hashlib.sha256("quiet\0".encode("utf-16-le")).hexdigest()}
    CompiledStack.parse(encode(document))


# pools, channels, variants


def test_a_release_of_another_pool(host: Host, stack: Stack) -> None:
    known = release({**stack("good"), "pool": "special"})
    refused(judge(host("good"), profile(), known), "E2", "stack-pool")
    assert judge(host("good"), profile(pools=["default", "special"]), known).rank == 1
    refused(judge(host("good"), profile(pools=["special"]), release(stack("good"))), "E2", "stack-pool")


def test_a_release_of_another_channel(host: Host, stack: Stack) -> None:
    known = release({**stack("good"), "channel": "testing"})
    refused(judge(host("good"), profile(), known), "E2", "stack-channel")
    assert judge(host("good"), profile(channels=["testing"]), known).rank == 1


def test_a_stack_that_was_captured(host: Host, stack: Stack) -> None:
    captured = release({**stack("good"), "origin": "captured"})
    refused(judge(host("good"), profile(origin=["computed"]), captured), "E2", "stack-origin")
    assert judge(host("good"), profile(origin=["computed", "captured"]), captured).rank == 1
    assert judge(host("good"), profile(), captured).rank == 1
    computed = release({**stack("good"), "origin": "computed"})
    assert judge(host("good"), profile(origin=["computed"]), computed).rank == 1


def test_releases_of_two_pools_live_side_by_side(host: Host, stack: Stack) -> None:
    both = (release({**stack("good"), "pool": "special", "serial": 9}), release(stack("good")))
    for wanted, pool in ((profile(), "default"), (profile(pools=["special"]), "special")):
        found = judge(host("good"), wanted, *both)
        assert (found.rank, found.release and found.release.stack.pool) == (1, pool)


def test_firmware_variants(host: Host, stack: Stack) -> None:
    document = stack("good")
    firmware = document["components"][0]
    other = {"pcr": 0, "digests": {"sha256": "00" * 32, "sha384": "00" * 48, "sha512": "00" * 64}}
    firmware["variants"].insert(0, {"name": "model-b", "events": [other]})
    firmware["variants"][1]["name"] = "model-a"
    known = release(document)
    assert judge(host("good"), profile(variants={"firmware": ["model-a", "x"]}), known).rank == 1
    refused(judge(host("good"), profile(variants={"firmware": ["model-b"]}), known), "E2", "stack-variant")
    refused(judge(host("good"), profile(variants={"initrd": ["model-a"]}), known), "E2", "stack-variant")


# TPM firmware and Secure Boot keys


def test_tpm_firmware_of_a_level(host: Host, stack: Stack) -> None:
    version = host("good").pcrs.firmware_version
    known = release(stack("good"))
    assert judge(host("good"), profile(tpm_firmware=[f"{version:016x}"]), known).rank == 1
    refused(judge(host("good"), profile(tpm_firmware=[f"{version + 1:016x}"]), known), "B10", "quote-firmware")
    above = profile(second={"tpm_firmware": [f"{version + 1:016x}"]})
    assert judge(host("good"), above, known).level == "base"


def test_secure_boot_keys(host: Host, stack: Stack) -> None:
    good, known = host("secure-boot-on"), release(stack("secure-boot-on"))
    facts = good.boot.facts
    prints = {
        name: [hashlib.sha256(entry.data).hexdigest() for entry in parse_signatures(facts.databases[name].data)]
        for name in ("PK", "KEK", "db")
    }
    prints["authorities"] = [hashlib.sha256(each.data[16:]).hexdigest() for each in facts.authorities]
    assert all(prints.values())
    assert judge(good, profile(secure_boot=True, secure_boot_keys=prints), known).rank == 1
    for name in prints:
        wanted = profile(secure_boot=True, secure_boot_keys={**prints, name: ["11" * 32]})
        refused(judge(good, wanted, known), "E5", "secure-boot-keys")


@pytest.mark.parametrize("name", ["PK", "KEK", "db", "authorities"])
def test_secure_boot_keys_that_are_not_known(host: Host, stack: Stack, name: str) -> None:
    good = host("secure-boot-on")
    silent = replace(good.boot.facts, databases={}, authorities=())
    wanted = profile(secure_boot=True, secure_boot_keys={name: ["11" * 32]})
    refused(judge(with_facts(good, silent), wanted, release(stack("secure-boot-on"))), "E5", "secure-boot-keys")


# the command line


def test_the_command_line_that_the_stack_states(host: Host, stating: Stack) -> None:
    known, found = (
        release(stating()),
        judge(host("good"), profile(command_line={"require": ["quiet"]}), release(stating())),
    )
    assert found.rank == 1
    assert match(known.stack, host("good").boot) == StackMatch(known.stack, found.variants)
    line = known_command_line(host("good").boot, StackMatch(known.stack, found.variants))
    assert line is not None
    assert line.text == LINE


@pytest.mark.parametrize(
    ("rule", "good"),
    [
        ({"require": ["ima_policy=tcb", "quiet"]}, True),
        ({"require": ["ima-policy=tcb"]}, True),
        ({"require": ["ima_policy"]}, False),
        ({"require": ["panic=2"]}, False),
        ({"require": ["nosuch"]}, False),
        ({"forbid": ["mitigations=off", "init"]}, True),
        ({"forbid": ["panic=2"]}, True),
        ({"forbid": ["panic=1"]}, False),
        ({"forbid": ["loglevel"]}, False),
        ({"forbid": ["quiet"]}, False),
    ],
)
def test_words(host: Host, stating: Stack, rule: dict[str, list[str]], good: bool) -> None:
    found = judge(host("good"), profile(command_line=rule), release(stating()))
    if good:
        assert found.rank == 1
    else:
        refused(found, "E5", "command-line")


def test_a_command_line_that_nobody_states_is_not_known(host: Host, stack: Stack) -> None:
    refused(
        judge(host("good"), profile(command_line={"forbid": ["init"]}), release(stack("good"))), "E5", "command-line"
    )


def test_a_stated_command_line_must_be_what_is_measured(stating: Stack) -> None:
    document = stating()
    events = [e for c in document["components"] for v in c["variants"] for e in v["events"]]
    event = next(e for e in events if "command_line" in e)
    event["command_line"] += " lockdown=confidentiality"
    with pytest.raises(MalformedError, match="is not what the sha256 digest is of"):
        CompiledStack.parse(encode(document))


def test_what_the_log_itself_proves(boot_log: BootLog) -> None:
    quoted = (8, 9, 11, 12)
    grub = (8, "/vmlinuz ro quiet")
    line = known_command_line(boot_log([grub], quoted), None)
    assert line is not None
    assert line.text == "ro quiet"
    same = known_command_line(boot_log([grub, (12, "BOOT_IMAGE=/vmlinuz ro quiet")], quoted), None)
    assert same == line
    assert known_command_line(boot_log([grub, (12, "ro")], quoted), None) is None, "two texts"
    assert known_command_line(boot_log([], quoted), None) is None, "no text"
    assert known_command_line(boot_log([grub], (8, 9, 11)), None) is None, "a PCR that was not quoted"


def test_an_event_that_is_not_tied_leaves_it_unknown(boot_log: BootLog) -> None:
    log = boot_log([(8, "/vmlinuz ro")], (8, 9, 11, 12))
    for unclear, known in ((frozenset(), True), (frozenset({12}), False)):
        text = replace(log.facts.command_line, unclear=unclear)
        found = known_command_line(replace_facts(log, text), None)
        assert (found is not None) is known


def replace_facts(log: VerifiedBootLog, text: Any) -> VerifiedBootLog:
    """The same log with another text; by the back door, since only verify_boot_log makes one."""
    return log_with_facts(log, replace(log.facts, command_line=text))


def log_with_facts(log: VerifiedBootLog, facts: BootFacts) -> VerifiedBootLog:
    changed = object.__new__(VerifiedBootLog)
    for name in ("_proof", "bank", "pcrs", "events", "findings"):
        object.__setattr__(changed, name, getattr(log, name))
    object.__setattr__(changed, "facts", facts)
    return changed


def with_facts(host: VerifiedHost, facts: BootFacts) -> VerifiedHost:
    """``host`` as if its log proved other ``facts``: its quote cannot be made again."""
    changed = object.__new__(VerifiedHost)
    for name in ("ak", "pcrs", "runtime"):
        object.__setattr__(changed, name, getattr(host, name))
    object.__setattr__(changed, "boot", log_with_facts(host.boot, facts))
    return changed


# lockdown and IMA


@pytest.mark.parametrize(
    ("words", "integrity", "confidentiality"),
    [
        ("lockdown=integrity", True, False),
        ("lockdown=confidentiality", True, True),
        ("lockdown=confidentiality lockdown=integrity", True, False),
        ("lockdown=none", False, False),
        ("lockdown=integrity lockdown=none", False, False),
        ("ro", False, False),
        ("ro -- lockdown=integrity", False, False),
        ("lockdown=integrity lsm=lockdown,yama", True, False),
        ("lockdown=integrity lsm=yama", False, False),
        ("lockdown=integrity security=selinux", False, False),
    ],
)
def test_lockdown(host: Host, stack: Stack, words: str, integrity: bool, confidentiality: bool) -> None:
    known = release(with_line(stack("good"), words))
    for mode, good in (("integrity", integrity), ("confidentiality", confidentiality)):
        found = judge(showing(host("good"), words), profile(lockdown=mode), known)
        if good:
            assert found.rank == 1, mode
        else:
            refused(found, "E5", "lockdown")


@pytest.mark.parametrize(
    ("words", "good"),
    [
        ("ima_policy=tcb", True),
        ("ima_policy=critical_data|tcb", True),
        ("ima_policy=critical_data ima_policy=tcb", True),
        ("ima_policy=critical_data", False),
        ("quiet", False),
    ],
)
def test_ima_policy(host: Host, stack: Stack, words: str, good: bool) -> None:
    found = judge(showing(host("good"), words), profile(ima_policy=["tcb"]), release(with_line(stack("good"), words)))
    if good:
        assert found.rank == 1
    else:
        refused(found, "E5", "ima-policy")


def test_ima_policy_needs_a_log_that_belongs_to_this_boot(host: Host, stack: Stack) -> None:
    good = showing(host("good"), "ima_policy=tcb")
    with_runtime(good, "boot_aggregate", "unchecked")
    wanted = profile(ima_policy=["tcb"])
    refused(judge(good, wanted, release(with_line(stack("good"), "ima_policy=tcb"))), "E5", "ima-policy")


def with_runtime(host: VerifiedHost, field: str, value: object) -> None:
    """``host``, which nobody else has, gets a runtime log with another ``field``."""
    assert host.runtime is not None
    other = object.__new__(type(host.runtime))
    for name in type(host.runtime).__dataclass_fields__:
        object.__setattr__(other, name, getattr(host.runtime, name))
    object.__setattr__(other, field, value)
    object.__setattr__(host, "runtime", other)


def test_each_profile_bounds_how_far_a_log_may_run_ahead(host: Host, stack: Stack) -> None:
    """Several profiles judge one host: its log was verified by the bound of the most patient one."""
    good, wanted = showing(host("good"), "quiet"), replace(profile(), max_log_ahead=2)
    known = release(with_line(stack("good"), "quiet"))
    assert good.runtime is not None
    end = good.runtime.end
    with_runtime(good, "end", end - 2)
    assert judge(good, wanted, known).rank == 1
    with_runtime(good, "end", end - 3)
    refused(judge(good, wanted, known), "D3", "runtime-log-ahead")
    ignored = replace(profile(runtime="ignored"), max_log_ahead=2)
    assert judge(good, ignored, known).rank == 1


def with_line(document: dict[str, Any], _words: str) -> dict[str, Any]:
    """The stack does not cover PCR 8, where :func:`showing` puts the words."""
    document["pcrs"] = [pcr for pcr in document["pcrs"] if pcr != 8]
    return document


def showing(host: VerifiedHost, words: str) -> VerifiedHost:
    """``host`` as if GRUB had measured these words."""
    facts = host.boot.facts
    return with_facts(host, replace(facts, command_line=replace(facts.command_line, texts=(words,))))


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"secure_boot_keys": {"db": ["11" * 32]}}, 'means nothing without "secure_boot": true'),
        ({"secure_boot": True, "secure_boot_keys": {"db": ["11"]}}, "not 64 hex digits"),
        ({"secure_boot": True, "secure_boot_keys": {"dbx": ["11" * 32]}}, "secure_boot_keys"),
        ({"command_line": {}}, "requires and forbids nothing"),
        ({"command_line": {"require": ["a b"]}}, "is not one word"),
        ({"command_line": {"forbid": ['"a"']}}, "is not one word"),
        ({"lockdown": "none"}, "lockdown"),
        ({"tpm_firmware": ["1"]}, "tpm_firmware[0]: not 16 hex digits"),
        ({"pools": []}, "pools"),
        ({"variants": {"firmware": []}}, "variants"),
    ],
)
def test_rules_that_make_no_sense(rules: dict[str, Any], says: str) -> None:
    with pytest.raises(MalformedError) as caught:
        profile(**rules)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "rules", [{"command_line": {"forbid": ["init"]}}, {"lockdown": "integrity"}, {"ima_policy": ["tcb"]}]
)
@pytest.mark.parametrize("missing", [8, 9, 12])
def test_the_command_line_needs_its_pcrs(monkeypatch: pytest.MonkeyPatch, rules: dict[str, Any], missing: int) -> None:
    profile(**rules)
    quoted = [pcr for pcr in (0, 4, 7, 8, 9, 10, 12) if pcr != missing]
    monkeypatch.setattr("tests.policy.test_appraise.QUOTED", quoted)
    with pytest.raises(MalformedError, match="PCRs 8, 9, 12 must all be quoted"):
        profile(covers=[4], **rules)


def test_ima_policy_needs_the_runtime_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.policy.test_appraise.QUOTED", [0, 4, 7, 8, 9, 12])
    with pytest.raises(MalformedError, match="PCR 10 must be quoted to know what IMA measured"):
        profile(runtime="ignored", ima_policy=["tcb"])
