"""Attacks on the firmware's log: clauses C1 to C6.

What is only written into the log leaves the quote as it was (thing "event-log"); what the attacker's machine really
measured is in the log, in the PCRs and under the quote (thing "boot").
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from functools import partial

from watchword.conformance.scenario import Inputs
from watchword.testing.attack_suite.bench import Bench, changed, edited
from watchword.testing.logs import boot_event, note
from watchword.wire.tcg_log import Event, EventLog, EventType
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.uefi import GLOBAL_VARIABLE, UefiVariable

__all__ = ["add_boot"]

_OF, _OFF, _ON, _PLACE = "good-boot", "good-secure-boot-off", "good-secure-boot-on", "good-locality"
_BANKS = (Alg.SHA1, Alg.SHA256, Alg.SHA384, Alg.SHA512)
_SECURE_BOOT_ON = UefiVariable(GLOBAL_VARIABLE, "SecureBoot", b"\1").encode()
_DRIVER_CONFIG = EventType.EFI_VARIABLE_DRIVER_CONFIG
_DATA = "event data that does not match its digest"
_TYPE = "event type rewritten"
_AFTER = "events after the separator"
_TWICE = "duplicate separator"
_SHORT = "log cut short"

Change = Callable[[list[Event]], object]


def add_boot(bench: Bench) -> None:
    _bytes(bench)
    _replay(bench)
    _start(bench)
    _data(bench)
    _types(bench)
    _measured(bench)


def _events(inputs: Inputs) -> EventLog:
    assert inputs.evidence is not None
    assert isinstance(inputs.evidence.event_log, bytes)
    return EventLog.parse(inputs.evidence.event_log)


def _find(events: list[Event], pcr: int, kind: int) -> int:
    return next(place for place, event in enumerate(events) if event.pcr == pcr and event.type == kind)


def _bytes(bench: Bench) -> None:
    """C1."""
    good = bench[_OF].inputs
    raw = _events(good).encode()
    # The size of the last event's data, which 40 bytes follow, and its data.
    huge = raw[:-44] + struct.pack("<I", 0xFFFFFFF0) + raw[-40:]
    for name, text, broken in (
        ("cut-in-event", "the log ends inside an event", raw[:-10]),
        ("empty", "there is no log", b""),
        ("cut-in-header", "the log ends inside its header", raw[:40]),
        ("huge-event", "an event says that it has four gigabytes of data", huge),
    ):
        lie = changed(good, event_log=broken)
        bench.attack(f"boot-{name}", _SHORT, _OF, ("event-log", text), lie, "C1 evidence-malformed !")
    log = _events(good)
    assert log.spec is not None
    other = dataclasses.replace(log, spec=dataclasses.replace(log.spec, header_pcr=1)).encode()
    text = "the header calls it the log of a confidential machine, to which other rules apply"
    bench.attack(
        "boot-header", _TYPE, _OF, ("event-log", text), changed(good, event_log=other), "C1 boot-log-registers"
    )


def _written(bench: Bench, name: str, what: str, of: str, text: str, change: Change, stopped_by: str) -> None:
    """An attack on the log as it is written down."""
    log = _events(bench[of].inputs)
    lie = dataclasses.replace(log, events=tuple(edited(log.events, change))).encode()
    inputs = changed(bench[of].inputs, event_log=lie)
    bench.attack(f"boot-{name}", what, of, ("event-log", text), inputs, stopped_by)


def _replay(bench: Bench) -> None:
    """C2."""
    stop = "C2 boot-log-replay !"
    text = "the last event is missing"
    _written(bench, "event-dropped", _SHORT, _OF, text, lambda events: events.pop(), stop)
    more = boot_event(11, EventType.IPL, b"one more", banks=_BANKS)
    text = "an event that was never measured"
    _written(bench, "event-added", "untrusted-host launch", _OF, text, lambda events: events.append(more), stop)

    def swap(events: list[Event]) -> None:
        events[23], events[25] = events[25], events[23]

    _written(bench, "events-reordered", "untrusted-host launch", _OF, "two events changed places", swap, stop)

    def move(events: list[Event]) -> None:
        events[33] = dataclasses.replace(events[33], pcr=8)

    _written(bench, "event-moved", "untrusted-host launch", _OF, "an event is listed under another PCR", move, stop)
    good = bench[_OF].inputs
    other = bench.recorded("kernel").events.encode()
    broken = ("event-log", "the log of a machine with another kernel")
    lie = changed(good, event_log=other)
    bench.attack("boot-other-log", "untrusted-host launch", _OF, broken, lie, stop)
    log = _events(good)
    assert log.spec is not None
    weak = EventLog(
        dataclasses.replace(log.spec, algorithms=((Alg.SHA1, 20),)),
        tuple(dataclasses.replace(event, digests=event.digests[:1]) for event in log.events),
    ).encode()
    broken = ("event-log", "the log has only SHA-1 digests, the quote is of the SHA-256 bank")
    bench.attack("boot-bank", _SHORT, _OF, broken, changed(good, event_log=weak), "C2 boot-log-bank !")


def _start(bench: Bench) -> None:
    """C2: the value that PCR 0 begins with is written in a note that is not measured."""
    what, stop = "StartupLocality forged", "C2 boot-log-replay !"

    def start(locality: int) -> Event:
        return note(b"StartupLocality\0" + bytes([locality]), banks=_BANKS)

    text = "a note claims that the TPM was started from locality 3"
    _written(bench, "locality-added", what, _OF, text, lambda events: events.insert(0, start(3)), stop)
    text = "the note says locality 0 instead of 3"
    _written(bench, "locality-changed", what, _PLACE, text, lambda events: events.__setitem__(0, start(0)), stop)
    text = "the note about locality 3 is missing"
    _written(bench, "locality-dropped", what, _PLACE, text, lambda events: events.pop(0), stop)


def _data(bench: Bench) -> None:
    """C3: the digests are those that were measured, the data beside them is not."""
    for name, of, text, pcr, kind, data in (
        ("secure-boot-data", _OFF, "Secure Boot is on, says the data", 7, _DRIVER_CONFIG, _SECURE_BOOT_ON),
        ("separator-data", _OF, "the separator's data is another", 7, EventType.SEPARATOR, b"\xff" * 4),
        ("action-data", _OF, "the text of an action is another", 5, EventType.EFI_ACTION, b"Nothing happened"),
        ("gpt-data", _OF, "the partition table is another", 5, EventType.EFI_GPT_EVENT, bytes(356)),
        ("authority-data", _ON, "the key that let the image run is another", 7, EventType.EFI_VARIABLE_AUTHORITY, b""),
    ):

        def lie(events: list[Event], pcr: int = pcr, kind: int = kind, data: bytes = data) -> None:
            place = _find(events, pcr, kind)
            events[place] = dataclasses.replace(events[place], data=data or events[place].data[:-400] + bytes(400))

        _written(bench, name, _DATA, of, text, lie, "C3 boot-log-data !")


def _types(bench: Bench) -> None:
    """C4, and C2 where the type says that nothing was measured."""
    for name, text, pcr, kind, other, stop in (
        ("type-in-pcr7", "SecureBoot is called an IPL event", 7, _DRIVER_CONFIG, EventType.IPL, "C4 boot-log-pcr-type"),
        (
            "type-of-other-pcr", "the initrd is called a program of the firmware",
            9, EventType.EVENT_TAG, EventType.EFI_BOOT_SERVICES_APPLICATION, "C4 boot-log-pcr-type",
        ),
        (
            "type-variable-elsewhere", "a boot action is called the key of a Secure Boot signature",
            5, EventType.EFI_ACTION, EventType.EFI_VARIABLE_AUTHORITY, "C4 boot-log-pcr-type",
        ),
        ("type-no-action", "SecureBoot is called a mere note", 7, _DRIVER_CONFIG, EventType.NO_ACTION,
         "C2 boot-log-replay !"),
    ):  # fmt: skip

        def rename(events: list[Event], pcr: int = pcr, kind: int = kind, other: int = other) -> None:
            place = _find(events, pcr, kind)
            events[place] = dataclasses.replace(events[place], type=other)

        _written(bench, name, _TYPE, _OF, text, rename, stop)


def _measured(bench: Bench) -> None:
    """C5 and C6: the digests are true, and somebody measured them who had no business to."""
    on = boot_event(7, _DRIVER_CONFIG, _SECURE_BOOT_ON, banks=_BANKS)
    zero = boot_event(7, EventType.SEPARATOR, bytes(4), banks=_BANKS)
    renamed = dataclasses.replace(zero, type=EventType.EFI_ACTION)
    firmware = boot_event(0, EventType.EFI_PLATFORM_FIRMWARE_BLOB, bytes(16), banks=_BANKS)
    last = len(_events(bench[_OFF].inputs).events)
    after, one = "C5 boot-log-after-separator", "C5 boot-log-separator"
    add: dict[str, tuple[str, str, int, Event, str]] = {
        "after-separator": (_AFTER, "who was loaded measured that Secure Boot is on", last, on, after),
        "firmware-after-separator": (_AFTER, "who was loaded measured firmware into PCR 0", last, firmware, after),
        "separator-twice": (_TWICE, "a second separator in PCR 7", last, zero, one),
        "separator-renamed": (_TWICE, "a second separator in PCR 7, called an action", last, renamed, one),
        "variable-twice": (
            "SecureBoot measured twice",
            "on and off, before the separator",
            3,
            on,
            "C6 boot-log-variable",
        ),
    }
    for name, (what, text, place, event, stop) in add.items():
        _booted(bench, name, what, text, partial(_insert, place, event), stop)
    text = "PCR 7 has no separator, so nothing says where the firmware's word ends"
    _booted(bench, "separator-missing", _TWICE, text, lambda events: events.pop(8), one)


def _insert(place: int, event: Event, events: list[Event]) -> None:
    events.insert(place, event)


def _booted(bench: Bench, name: str, what: str, text: str, change: Change, stopped_by: str) -> None:
    """An attack that a machine really measures."""
    boot = bench.recorded("secure-boot-off").without_runtime()
    lie = bench.again(_OFF, boot.with_events(edited(boot.events.events, change)))
    bench.attack(f"boot-{name}", what, _OFF, ("boot", text), lie, stopped_by)
