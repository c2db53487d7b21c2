"""Clauses D1 to D4 and D6, each broken alone in a good log with a good quote over what it leads to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from watchword.errors import Rejected
from watchword.testing.logs import boot_aggregate, event_log, good_boot, ima_entry, ima_log, measured, violation
from watchword.testing.soft_tpm import SoftTpm
from watchword.verify.ima_log import RuntimeFile, RuntimeSeen, VerifiedRuntimeLog, verify_ima_log
from watchword.verify.quote import VerifiedPcrs, verify_quote
from watchword.wire import ima_log as wire
from watchword.wire import tcg_log
from watchword.wire.ima_log import ImaEntry, ImaLog
from watchword.wire.tpm.algorithms import Alg, digest
from watchword.wire.tpm.attest import ClockInfo
from watchword.wire.tpm.pcr import PcrSelection

TPM = SoftTpm.create()
BANK = Alg.SHA256
BOOT = {pcr: bytes(32) for pcr in range(10)} | tcg_log.replay(event_log(good_boot()), BANK)
FIRST = boot_aggregate(BOOT)
FILES = [measured(b"/init", b"init"), measured(b"/bin/a", b"a", signature=b"\x03sig"), measured(b"/bin/b", b"b")]
D = b"sha256:\0" + bytes(range(32))


def aggregate(entries: list[ImaEntry], *, padded: bool = False) -> bytes:
    return wire.replay(ima_log(entries), BANK, padded=padded)[10]


def quoted(value: bytes, boot: dict[int, bytes] = BOOT, reset_count: int = 1) -> VerifiedPcrs:
    """A verified quote with this PCR 10."""
    values = {BANK: {**boot, 10: value}}
    selections = (PcrSelection(BANK, tuple(sorted(values[BANK]))),)
    clock = ClockInfo(clock=1, reset_count=reset_count, restart_count=0, safe=True)
    attest, signature = TPM.quote(selections, values, bytes(32), clock)
    return verify_quote(
        attest=attest,
        signature=signature,
        pcrs=values,
        ak=TPM.ak,
        binding=bytes(32),
        selections=selections,
        last=None,
    )


def verify(
    entries: list[ImaEntry], proof: VerifiedPcrs | None = None, *, ahead: int = 0, seen: RuntimeSeen | None = None
) -> VerifiedRuntimeLog:
    log = ImaLog.parse(ima_log(entries).encode())
    return verify_ima_log(log, proof or quoted(aggregate(entries)), BANK, max_ahead=ahead, seen=seen)


def reason(
    entries: list[ImaEntry], proof: VerifiedPcrs | None = None, *, ahead: int = 0, seen: RuntimeSeen | None = None
) -> tuple[str, str]:
    with pytest.raises(Rejected) as caught:
        verify(entries, proof, ahead=ahead, seen=seen)
    return caught.value.clause, caught.value.code


def test_a_good_log_is_verified() -> None:
    found = verify([FIRST, *FILES])
    assert found.measured == (
        RuntimeFile(1, b"/init", BANK, digest(BANK, b"init")),
        RuntimeFile(2, b"/bin/a", BANK, digest(BANK, b"a"), b"\x03sig"),
        RuntimeFile(3, b"/bin/b", BANK, digest(BANK, b"b")),
    )
    assert (found.violations, found.findings, found.boot_aggregate) == ((), (), "0-9")
    assert found.seen == RuntimeSeen(1, 4, aggregate([FIRST, *FILES]))


def test_only_the_check_makes_a_verified_log() -> None:
    with pytest.raises(TypeError):
        replace(verify([FIRST]), _proof=object())


def test_d2_an_entry_whose_content_was_altered() -> None:
    entries = [FIRST, *FILES]
    altered = entries[3]._replace(data=entries[3].data.replace(b"/bin/b", b"/bin/c"))
    assert reason([*entries[:3], altered], quoted(aggregate(entries))) == ("D2", "runtime-log-digest")


def test_d2_a_digest_that_was_altered_where_only_the_content_is_extended() -> None:
    entries = [FIRST, *FILES]
    altered = entries[2]._replace(digest=digest(Alg.SHA1, b"else"))
    assert reason([*entries[:2], altered, entries[3]], quoted(aggregate(entries))) == ("D2", "runtime-log-digest")


@pytest.mark.parametrize("change", ["altered", "dropped", "reordered", "added", "violation hidden"])
def test_d3_a_log_that_does_not_lead_to_the_quote(change: str) -> None:
    entries = [FIRST, *FILES, violation(b"/log")]
    proof = quoted(aggregate(entries))
    changed = {
        "altered": [*entries[:3], measured(b"/bin/b", b"good"), entries[4]],
        "dropped": [*entries[:2], *entries[3:]],
        "reordered": [entries[0], entries[2], entries[1], *entries[3:]],
        "added": [*entries[:2], measured(b"/bin/x", b"x"), *entries[2:]],
        "violation hidden": [*entries[:4], measured(b"/log", b"log")],
    }[change]
    assert reason(changed, proof, ahead=9) == ("D3", "runtime-log-replay")


def test_d3_pcr_10_has_to_be_quoted() -> None:
    log = ima_log([FIRST])
    with pytest.raises(Rejected) as caught:
        verify_ima_log(log, TPM.verified_pcrs(BANK, BOOT), BANK, max_ahead=0, seen=None)
    assert caught.value.code == "runtime-log-replay"


def test_d3_a_log_cut_short() -> None:
    entries = [FIRST, *FILES]
    assert reason(entries[:-1], quoted(aggregate(entries))) == ("D3", "runtime-log-replay")


def test_d3_the_log_may_run_ahead_of_the_quote_but_not_far() -> None:
    proof = quoted(aggregate([FIRST, *FILES[:1]]))
    found = verify([FIRST, *FILES], proof, ahead=2)
    assert [f.path for f in found.measured] == [b"/init"]  # what was not quoted is nobody's word
    assert found.seen.entries == 2
    assert reason([FIRST, *FILES], proof, ahead=1) == ("D3", "runtime-log-ahead")


def test_d3_what_runs_ahead_need_not_even_be_right() -> None:
    wrong = FILES[2]._replace(digest=bytes(19) + b"\1")
    assert len(verify([FIRST, *FILES[:2], wrong], quoted(aggregate([FIRST, *FILES[:2]])), ahead=1).measured) == 2


def test_d3_an_empty_pcr_10_is_no_log() -> None:
    assert reason([FIRST], quoted(bytes(32)), ahead=9) == ("D3", "runtime-log-replay")


def test_d3_kernels_that_pad_sha1_are_named_and_not_trusted_with_content() -> None:
    entries = [FIRST, *FILES, violation(b"/log")]
    found = verify(entries, quoted(aggregate(entries, padded=True)))
    assert [(f.clause, f.code, f.fatal) for f in found.findings] == [("D3", "runtime-log-padded", True)]
    altered = entries[3]._replace(data=entries[3].data.replace(b"/bin/b", b"/bin/c"))
    proof = quoted(aggregate(entries, padded=True))
    assert reason([*entries[:3], altered, entries[4]], proof) == ("D2", "runtime-log-digest")


def test_the_log_of_another_bank() -> None:
    for alg in (Alg.SHA256, Alg.SM3_256):
        entries = tuple(e._replace(number=n, digest=digest(alg, e.data)) for n, e in enumerate([FIRST, *FILES]))
        log = ImaLog.parse(ImaLog(32, entries).encode())
        proof = quoted(aggregate([FIRST, *FILES]))
        assert len(verify_ima_log(log, proof, BANK, max_ahead=0, seen=None).measured) == 3


@pytest.mark.parametrize(
    "first",
    [
        boot_aggregate({}),
        boot_aggregate(BOOT)._replace(pcr=11),
        measured(b"/init", b"init"),
        boot_aggregate(BOOT)._replace(digest=bytes(20)),
        ima_entry("ima-ng", FIRST.data[4:44], b"/init\0"),
        ima_entry("unknown", b"?"),
        boot_aggregate({**BOOT, 9: bytes(31) + b"\1"}),
    ],
)
def test_d4_the_log_of_another_boot(first: ImaEntry) -> None:
    entries = [first, *FILES]
    assert reason(entries, quoted(aggregate(entries)))[0] == "D4"


def test_d4_older_kernels_cover_eight_pcrs() -> None:
    entries = [boot_aggregate(BOOT, pcrs=range(8)), *FILES]
    assert verify(entries).boot_aggregate == "0-7"


def test_d4_pcrs_that_were_not_quoted_leave_it_unchecked() -> None:
    boot = {pcr: BOOT[pcr] for pcr in (0, 4, 7)}
    entries = [boot_aggregate({}), *FILES]
    found = verify(entries, quoted(aggregate(entries), boot))
    assert found.boot_aggregate == "unchecked"
    assert [(f.clause, f.code, f.fatal) for f in found.findings] == [("D4", "runtime-log-aggregate-unchecked", False)]


def test_d4_an_aggregate_of_another_bank_is_unchecked() -> None:
    entries = [boot_aggregate({}, Alg.SHA1, range(8)), *FILES]
    assert verify(entries).boot_aggregate == "unchecked"


def test_d6_the_log_grows_within_a_boot() -> None:
    first = verify([FIRST, *FILES[:1]])
    second = verify([FIRST, *FILES], seen=first.seen)
    assert second.seen.entries == 4
    assert verify([FIRST, *FILES], seen=second.seen).seen == second.seen


def test_d6_a_log_that_lost_entries() -> None:
    seen = verify([FIRST, *FILES]).seen
    assert reason([FIRST, *FILES[:2]], seen=seen) == ("D6", "runtime-log-truncated")


def test_d6_a_log_with_another_past() -> None:
    seen = verify([FIRST, *FILES[:2]]).seen
    assert reason([FIRST, FILES[0], FILES[2], FILES[1]], seen=seen) == ("D6", "runtime-log-truncated")


def test_d6_a_reboot_starts_anew() -> None:
    seen = verify([FIRST, *FILES]).seen
    entries = [FIRST, FILES[2]]
    assert verify(entries, quoted(aggregate(entries), reset_count=2), seen=seen).seen.reset_count == 2


def contents(*entries: ImaEntry) -> VerifiedRuntimeLog:
    return verify([FIRST, *entries])


def test_violations_are_listed_and_are_no_files() -> None:
    found = contents(violation(b"/var/log\n1"), FILES[0])
    assert (found.violations, [f.path for f in found.measured]) == ((b"/var/log\n1",), [b"/init"])


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (ima_entry("private", b"x"), "runtime-log-template"),
        (ima_entry("ima-ng", D), "runtime-log-template"),
        (ima_entry("ima-ng", D, b"/a\0b\0"), "runtime-log-template"),
        (ima_entry("ima-sig", D, b"/a\0"), "runtime-log-template"),
        (ima_entry("ima-ng", D, b"/a\0", b""), "runtime-log-template"),
        (ima_entry("ima-buf", D, b"kexec-cmdline\0", b"not this"), "runtime-log-buffer"),
    ],
)
def test_d1_content_that_is_not_understood_is_a_finding(entry: ImaEntry, code: str) -> None:
    found = contents(entry, FILES[0])
    assert [(f.code, f.fatal, f.subject) for f in found.findings] == [(code, True, "entry 1")]
    assert [f.path for f in found.measured] == [b"/init"]


def test_entries_of_other_pcrs_are_findings_and_do_not_count() -> None:
    entries = [FIRST, FILES[0]._replace(pcr=11), FILES[1]]
    found = verify(entries, quoted(aggregate([FIRST, FILES[1]])))
    assert [f.code for f in found.findings] == ["runtime-log-pcr"]
    assert [f.path for f in found.measured] == [b"/bin/a"]


def test_findings_are_bounded() -> None:
    found = contents(*[ima_entry("private", b"x")] * 250)
    assert len(found.findings) == 101
    assert "150 more" in found.findings[-1].message


def test_the_kinds_of_measurements() -> None:
    buffer = ima_entry("ima-buf", b"sha256:\0" + digest(BANK, b"quiet"), b"kexec-cmdline\0", b"quiet")
    verity = ima_entry("ima-ngv2", b"verity:" + D, b"/v\0")
    md5 = ima_entry("ima-ng", b"md5:\0" + bytes(16), b"/m\0")
    small = measured(b"/s", b"s", alg=Alg.SHA1)
    found = contents(buffer, verity, md5, small, measured(b"/e", b"e", signature=b""))
    assert [(f.kind, f.alg, f.signature) for f in found.measured] == [
        ("buffer", BANK, None),
        ("verity", BANK, None),
        ("ima", Alg.NULL, None),
        ("ima", Alg.SHA1, None),
        ("ima", BANK, None),
    ]


def test_the_quick_way_reads_what_the_long_way_reads() -> None:
    names = [b"", b"/", b"/a b", b"/line\nbreak", b"\xff\xfe", b"/" + b"x" * 4000]
    entries = [
        measured(n, b"c", signature=s, alg=a) for n in names for s in (None, b"", b"\3s") for a in (BANK, Alg.SHA1)
    ]
    found = contents(*entries)
    assert len(found.measured) == len(entries)
    for read, entry in zip(found.measured, entries, strict=True):
        file = entry.file()
        assert (read.path, read.digest, read.signature) == (file.path, file.digest, file.signature)


@pytest.mark.parametrize("name", ["good", "good-again", "ima-sig", "altered-binary", "violation", "kernel"])
def test_recorded_boots(boots: Path, name: str) -> None:
    folder = boots / name
    if not folder.is_dir():
        pytest.skip(f"no recording {name} in vectors/boots")
    values = json.loads((folder / "pcrs.json").read_text())["sha256"]
    proof = TPM.verified_pcrs(BANK, {int(p): bytes.fromhex(v) for p, v in values.items() if int(p) not in (16, 23)})
    log = ImaLog.parse((folder / "ima.bin").read_bytes())
    found = verify_ima_log(log, proof, BANK, max_ahead=64, seen=None)
    assert found.findings == ()
    assert found.boot_aggregate == "0-9"
    assert bool(found.violations) is (name == "violation")
    assert found.measured
