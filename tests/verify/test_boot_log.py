"""Clauses C1 to C6, each broken alone in a good log with a good quote over what it leads to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from watchword.errors import Rejected
from watchword.testing.logs import boot_event, event_log, good_boot, note, separator, signature_list, variable
from watchword.testing.soft_tpm import SoftTpm
from watchword.verify.boot_event import describe
from watchword.verify.boot_log import BootFacts, VerifiedBootLog, examine, verify_boot_log
from watchword.verify.quote import VerifiedPcrs
from watchword.wire.tcg_log import Event, EventLog, EventType, replay
from watchword.wire.tpm.algorithms import Alg, digest
from watchword.wire.uefi import DB

TPM = SoftTpm.create()
BANK = Alg.SHA256
QUOTED = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
T = EventType


def quoted(log: EventLog, pcrs: Iterable[int] = QUOTED, **other: bytes) -> VerifiedPcrs:
    """A verified quote over what the log leads to; keyword pcr4=… puts another value there."""
    values: dict[int, bytes] = {pcr: replay(log, BANK).get(pcr, bytes(32)) for pcr in pcrs}
    values |= {int(name.removeprefix("pcr")): value for name, value in other.items()}
    return TPM.verified_pcrs(BANK, values)


def verify(events: list[Event], pcrs: Iterable[int] = QUOTED) -> VerifiedBootLog:
    log = EventLog.parse(event_log(events).encode())
    return verify_boot_log(log, quoted(log, pcrs), BANK)


def refused(events: list[Event], pcrs: Iterable[int] = QUOTED) -> list[tuple[str, str]]:
    """Clause and code of everything that the log is rejected for."""
    with pytest.raises(Rejected) as caught:
        verify(events, pcrs)
    assert all(finding.fatal for finding in caught.value.findings)
    return [(finding.clause, finding.code) for finding in caught.value.findings]


def find(events: list[Event], type_: int, pcr: int | None = None) -> int:
    return next(i for i, e in enumerate(events) if e.type == type_ and pcr in (None, e.pcr))


def test_a_good_log_is_verified() -> None:
    found = verify(good_boot())
    assert found.facts.secure_boot is True
    assert {name: v.data for name, v in found.facts.databases.items()} == {
        "PK": signature_list(b"platform key"),
        "KEK": signature_list(b"exchange key"),
        "db": signature_list(b"allowed"),
        "dbx": b"",
    }
    assert [v.name for v in found.facts.authorities] == ["db"]
    assert (found.findings, found.pcrs, found.bank) == ((), frozenset(QUOTED), BANK)
    assert [e.tied for e in found.events if e.type == T.EFI_BOOT_SERVICES_APPLICATION] == [False]


def test_only_the_check_makes_a_verified_log() -> None:
    with pytest.raises(TypeError):
        VerifiedBootLog(object(), BANK, frozenset(), (), BootFacts(), ())


@pytest.mark.parametrize("pcr", QUOTED)
def test_c2_a_quoted_value_that_the_log_does_not_reach(pcr: int) -> None:
    log = event_log(good_boot())
    with pytest.raises(Rejected) as caught:
        verify_boot_log(log, quoted(log, **{f"pcr{pcr}": digest(BANK, b"other")}), BANK)
    assert [(f.code, f.subject) for f in caught.value.findings] == [("boot-log-replay", f"pcr {pcr}")]


@pytest.mark.parametrize("change", ["dropped", "doubled", "swapped", "digest"])
def test_c2_events_that_were_not_measured_so(change: str) -> None:
    events = good_boot()
    proof = quoted(event_log(events))
    at = find(events, T.EFI_BOOT_SERVICES_APPLICATION)
    changed = {
        "dropped": events[:at] + events[at + 1 :],
        "doubled": events[: at + 1] + events[at:],
        "swapped": [events[1], events[0], *events[2:]],
        "digest": [*events[:at], boot_event(4, events[at].type, events[at].data, hashed=b"evil"), *events[at + 1 :]],
    }[change]
    with pytest.raises(Rejected) as caught:
        verify_boot_log(event_log(changed), proof, BANK)
    assert {f.code for f in caught.value.findings} == {"boot-log-replay"}


def test_c2_a_quoted_pcr_that_nothing_was_logged_for() -> None:
    assert verify(good_boot(), (*QUOTED, 14)).pcrs >= {14}
    log = event_log(good_boot())
    with pytest.raises(Rejected) as caught:
        verify_boot_log(log, quoted(log, pcr14=digest(BANK, b"secretly")), BANK)
    assert caught.value.code == "boot-log-replay"


def test_c2_the_runtime_pcr_is_not_the_firmwares() -> None:
    log = event_log(good_boot())
    assert 10 not in verify_boot_log(log, quoted(log, pcr10=digest(BANK, b"ima")), BANK).pcrs


def test_c2_a_bank_that_the_log_does_not_have() -> None:
    log = event_log(good_boot(banks=(Alg.SHA1,)), (Alg.SHA1,))
    with pytest.raises(Rejected) as caught:
        verify_boot_log(log, TPM.verified_pcrs(BANK, {4: bytes(32)}), BANK)
    assert caught.value.code == "boot-log-bank"


def test_c2_a_bank_that_was_not_quoted() -> None:
    log = event_log(good_boot())
    with pytest.raises(Rejected) as caught:
        verify_boot_log(log, quoted(log), Alg.SHA1)
    assert caught.value.code == "boot-log-bank"


def test_startup_locality_is_followed() -> None:
    found = verify([note(b"StartupLocality\0\3"), *good_boot()])
    assert found.findings == ()
    assert all(event.type != T.NO_ACTION for event in found.events)  # nobody measured the note itself


def lie_about(type_: int, pcr: int, data: bytes) -> list[Event]:
    """The digest stays what was measured, the data says something else."""
    events = good_boot(secure_boot=False)
    at = find(events, type_, pcr)
    return [*events[:at], replace(events[at], data=data), *events[at + 1 :]]


@pytest.mark.parametrize(
    ("type_", "pcr", "data"),
    [
        (T.EFI_VARIABLE_DRIVER_CONFIG, 7, variable("SecureBoot", b"\1")),
        (T.EFI_VARIABLE_AUTHORITY, 7, variable("db", b"somebody else", DB)),
        (T.EFI_VARIABLE_BOOT, 1, variable("BootOrder", b"\7\0")),
        (T.S_CRTM_VERSION, 0, b"9.9"),
        (T.EFI_ACTION, 4, b"Nothing happened"),
        (T.SEPARATOR, 3, b"\xff\xff\xff\xff"),
        (T.IPL, 8, b"kernel_cmdline: linux lockdown=integrity\0"),
    ],
)
def test_c3_data_that_is_not_what_was_measured(type_: int, pcr: int, data: bytes) -> None:
    assert refused(lie_about(type_, pcr, data)) == [("C3", "boot-log-data")]


def test_c3_untied_data_is_marked_and_kept_out_of_facts() -> None:
    events = good_boot()
    events[1] = replace(events[1], data=variable("SecureBoot", b"\0"))
    found = verify(events)
    assert (found.events[1].tied, found.events[1].measured) == (False, None)
    assert found.facts.secure_boot is True


def test_c3_the_name_of_a_boot_variable_is_not_proven() -> None:
    found = verify(good_boot())
    (event,) = (e for e in found.events if e.type == T.EFI_VARIABLE_BOOT)
    assert event.measured == b"\0\0\1\0"


def test_c3_text_behind_a_label() -> None:
    found = verify(good_boot())
    assert next(e for e in found.events if e.pcr == 8).measured == b"linux\0root=/dev/vda"


def test_c3_authority_of_an_old_shim_with_stray_bytes() -> None:
    whole = variable("Shim", b"certificate", DB)
    event = boot_event(7, T.EFI_VARIABLE_AUTHORITY, whole + b"stray!", hashed=whole + b"stray")
    found = verify([*good_boot(), event])
    assert found.events[-1].measured == whole
    assert found.facts.authorities[-1].name == "Shim"
    assert refused([*good_boot(), replace(event, data=whole + b"strax?")]) == [("C3", "boot-log-data")]
    long = boot_event(7, T.EFI_VARIABLE_AUTHORITY, whole + b"nine more", hashed=whole + b"nine mor")
    assert refused([*good_boot(), long]) == [("C3", "boot-log-data")]


@pytest.mark.parametrize(
    ("type_", "pcr"),
    [
        (T.EFI_VARIABLE_DRIVER_CONFIG, 4),
        (T.EFI_VARIABLE_AUTHORITY, 5),
        (T.S_CRTM_VERSION, 1),
        (T.EFI_BOOT_SERVICES_APPLICATION, 5),
        (T.EFI_GPT_EVENT, 4),
        (T.IPL, 7),
        (T.POST_CODE, 7),
        (0x12345, 7),
    ],
)
def test_c4_types_in_the_wrong_place(type_: int, pcr: int) -> None:
    assert refused([boot_event(pcr, type_, variable("x", b"")), *good_boot()]) == [("C4", "boot-log-pcr-type")]


def test_c4_a_secure_boot_variable_cannot_hide_under_another_type() -> None:
    events = good_boot(secure_boot=False)
    at = find(events, T.EFI_VARIABLE_DRIVER_CONFIG, 7)
    hidden = [*events[:at], replace(events[at], type=T.IPL), *events[at + 1 :]]
    assert refused(hidden) == [("C4", "boot-log-pcr-type")]


@pytest.mark.parametrize("pcr", range(8))
def test_c5_a_missing_separator(pcr: int) -> None:
    events = good_boot()
    events.remove(separator(pcr))
    assert ("C5", "boot-log-separator") in refused(events)


@pytest.mark.parametrize("pcr", range(1, 8))
def test_c5_a_second_separator_under_any_type(pcr: int) -> None:
    twice = separator(pcr, b"\xff\xff\xff\xff")
    assert refused([*good_boot(), twice]) == [("C5", "boot-log-separator")]
    hidden = replace(twice, type=T.EFI_SPDM_DEVICE_POLICY, data=b"?")
    assert refused([*good_boot(), hidden]) == [("C5", "boot-log-separator")]


def test_c5_separators_of_pcrs_that_were_not_quoted_do_not_matter() -> None:
    events = good_boot()
    events.remove(separator(3))
    assert verify(events, (0, 4, 7)).pcrs == {0, 4, 7}


def test_c5_the_firmware_reports_an_error() -> None:
    error = separator(2, b"\1\0\0\0")
    assert refused([error, *good_boot()]) == [("C5", "boot-log-separator")]


def test_c5_a_boot_order_that_looks_like_a_separator() -> None:
    for order in (b"\0\0\0\0", b"\1\0\0\0"):
        event = boot_event(1, T.EFI_VARIABLE_BOOT, variable("BootOrder", order), hashed=order)
        assert verify([*good_boot(), event]).findings == ()


@pytest.mark.parametrize(
    "event",
    [
        boot_event(0, T.POST_CODE, b"late"),
        boot_event(7, T.EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\1")),
        boot_event(7, T.EFI_VARIABLE_DRIVER_CONFIG, variable("db", b"", DB)),
        boot_event(7, T.EFI_VARIABLE_DRIVER_CONFIG, b"not a variable"),
    ],
)
def test_c5_nothing_privileged_after_the_separator(event: Event) -> None:
    assert refused([*good_boot(secure_boot=False), event]) == [("C5", "boot-log-after-separator")]


def test_c5_other_variables_may_follow() -> None:
    event = boot_event(7, T.EFI_VARIABLE_DRIVER_CONFIG, variable("MokList", b"x"))
    assert verify([*good_boot(), event]).findings == ()
    elsewhere = boot_event(5, T.EFI_VARIABLE_DRIVER_CONFIG, variable("db", b"", DB))
    assert verify([*good_boot(), elsewhere]).findings == ()


def facts(events: list[Event], pcrs: Iterable[int] = QUOTED) -> bool | None:
    return verify(events, pcrs).facts.secure_boot


def test_c6_secure_boot_off_and_absent() -> None:
    assert facts(good_boot(secure_boot=False)) is False
    events = good_boot()
    at = find(events, T.EFI_VARIABLE_DRIVER_CONFIG, 7)
    assert facts(events[:at] + events[at + 1 :]) is None
    events[at] = boot_event(7, T.EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b""))
    assert facts(events) is False
    events[at] = boot_event(7, T.EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\2"))
    assert facts(events) is None


def test_c6_another_vendors_variable_of_the_same_name_says_nothing() -> None:
    events = good_boot()
    at = find(events, T.EFI_VARIABLE_DRIVER_CONFIG, 7)
    events[at] = boot_event(7, T.EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\1", DB))
    assert facts(events) is None


def test_c6_two_different_answers_are_refused() -> None:
    other = boot_event(7, T.EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\1"))
    assert refused([other, *good_boot(secure_boot=False)]) == [("C6", "boot-log-variable")]
    same = boot_event(7, T.EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\0"))
    assert facts([same, *good_boot(secure_boot=False)]) is False


def test_c6_nothing_is_known_of_a_pcr_that_was_not_quoted() -> None:
    found = verify(good_boot(), (0, 4))
    assert found.facts.secure_boot is None
    assert not found.facts.databases
    assert {e.pcr for e in found.events} == {0, 4}


def test_c6_data_that_is_not_tied_is_no_fact() -> None:
    log = event_log(lie_about(T.EFI_VARIABLE_DRIVER_CONFIG, 7, variable("SecureBoot", b"\1")))
    assert examine(log, BANK).facts.secure_boot is None


def test_c6_a_pcr_7_without_separator_says_nothing() -> None:
    events = good_boot()
    events.remove(separator(7))
    assert examine(event_log(events), BANK).facts.secure_boot is None


def test_each_bank_is_judged_by_itself() -> None:
    events = good_boot()
    at = find(events, T.S_CRTM_VERSION)
    wrong = replace(events[at], digests=((Alg.SHA1, digest(Alg.SHA1, b"?")), events[at].digests[1]))
    log = event_log([*events[:at], wrong, *events[at + 1 :]])
    assert verify_boot_log(log, quoted(log), BANK).findings == ()
    assert [f.code for f in examine(log, Alg.SHA1).findings] == ["boot-log-data"]


def test_deviations_of_the_format_are_named() -> None:
    log = EventLog.parse(event_log([*good_boot(), boot_event(14, T.IPL, b"x", banks=(Alg.SHA1,))]).encode() + bytes(9))
    assert log.spec is not None
    odd = replace(log, spec=replace(log.spec, vendor_info=b"x", vendor_outside=True))
    found = examine(odd, BANK).findings
    assert [f.code for f in found] == ["boot-log-padding", "boot-log-vendor-info", "boot-log-bank"]
    assert not any(f.fatal for f in found)


def test_confidential_registers_are_no_pcrs() -> None:
    log = event_log([replace(e, pcr=1) for e in good_boot() if e.pcr == 7])
    assert log.spec is not None
    found = examine(replace(log, spec=replace(log.spec, header_pcr=1)), BANK, registers=True)
    assert [(f.code, f.fatal) for f in found.findings] == [("boot-log-registers", False)]
    assert found.facts.secure_boot is True


def test_c1_the_header_is_not_measured_and_cannot_move_the_checks() -> None:
    forged = [boot_event(1, T.EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\1"))]
    log = event_log([*forged, *good_boot(secure_boot=False)])
    assert log.spec is not None
    log = replace(log, spec=replace(log.spec, header_pcr=1))
    with pytest.raises(Rejected) as caught:
        verify_boot_log(log, quoted(log), BANK)
    assert [f.code for f in caught.value.findings] == ["boot-log-registers"]
    assert examine(log, BANK).facts.secure_boot is False


def test_text_never_drives_a_terminal() -> None:
    for type_ in (T.IPL, T.EFI_ACTION, T.S_CRTM_VERSION, T.EFI_VARIABLE_BOOT, T.EFI_GPT_EVENT, 0x99):
        for data in (b"\x1b[2J\n\r\x07\xff", b"\0\xd8" * 9, variable("Boot0001", b"\x1b" * 40), b""):
            assert describe(type_, data).isprintable()


RECORDINGS = ["good", "good-again", "kernel", "initrd", "cmdline", "secure-boot-on", "secure-boot-off", "release-2"]


@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_boots(boots: Path, name: str, recorded: Callable[[Path], Mapping[int, bytes]]) -> None:
    folder = boots / name
    log = EventLog.parse((folder / "eventlog.bin").read_bytes())
    found = verify_boot_log(log, TPM.verified_pcrs(BANK, recorded(folder)), BANK)
    assert found.findings == ()
    assert found.facts.secure_boot is (name == "secure-boot-on")


@pytest.fixture
def recorded() -> Callable[[Path], Mapping[int, bytes]]:
    def read(folder: Path) -> Mapping[int, bytes]:
        if not folder.is_dir():
            pytest.skip(f"no recording {folder.name} in vectors/boots")
        values = json.loads((folder / "pcrs.json").read_text())["sha256"]
        return {int(pcr): bytes.fromhex(value) for pcr, value in values.items() if int(pcr) not in (16, 23)}

    return read
