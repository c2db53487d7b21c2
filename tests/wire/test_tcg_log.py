"""The firmware event log: both formats, bounds, replay."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.errors import MalformedError
from watchword.testing.logs import BANKS, boot_event, event_log, good_boot, note
from watchword.wire.tcg_log import MAX_LOG, EventLog, EventType, SpecId, pcr0_start, replay
from watchword.wire.tpm.algorithms import Alg

GOOD = event_log(good_boot())
DATA = GOOD.encode()


def sha1_event(pcr: int, type_: int, digest: bytes, data: bytes) -> bytes:
    return struct.pack("<II20sI", pcr, type_, digest, len(data)) + data


def test_good_log_round_trips() -> None:
    log = EventLog.parse(DATA)
    assert log == GOOD
    assert log.encode() == DATA
    assert (log.format, log.banks) == ("crypto-agile", BANKS)


def test_sha1_log_round_trips() -> None:
    data = sha1_event(0, 8, hashlib.sha1(b"v").digest(), b"v") + sha1_event(4, 5, bytes(20), b"")
    log = EventLog.parse(data)
    assert log.encode() == data
    assert (log.format, log.banks, len(log.events)) == ("sha1", (Alg.SHA1,), 2)
    assert replay(log, Alg.SHA1)[0] == hashlib.sha1(bytes(20) + hashlib.sha1(b"v").digest()).digest()


def test_replay_is_the_hash_chain_of_each_bank() -> None:
    for alg in BANKS:
        expected: dict[int, bytes] = {}
        for event in GOOD.events:
            old = expected.get(event.pcr, bytes(hashlib.new(alg.name.lower()).digest_size))
            expected[event.pcr] = hashlib.new(alg.name.lower(), old + (event.digest(alg) or b"")).digest()
        assert replay(GOOD, alg) == expected


@pytest.mark.parametrize("alg", [Alg.SHA384, Alg.SHA512, Alg.SM3_256])
def test_other_banks(alg: Alg) -> None:
    log = EventLog.parse(event_log(good_boot(banks=(alg,)), (alg,)).encode())
    assert log.banks == (alg,)
    assert set(replay(log, alg)) == {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}


def test_no_action_is_not_extended_whatever_its_pcr() -> None:
    trust_point = note(b"TrustPoint", pcr=0xFFFFFFFF)
    log = EventLog.parse(event_log([*good_boot(), note(b"SP800-155 Event3"), trust_point]).encode())
    assert replay(log, Alg.SHA256) == replay(GOOD, Alg.SHA256)


@pytest.mark.parametrize("locality", [0, 3, 4])
def test_startup_locality_is_the_first_value_of_pcr_0(locality: int) -> None:
    log = event_log([note(b"StartupLocality\0" + bytes([locality])), boot_event(0, 8, b"v")])
    start = bytes(31) + bytes([locality])
    assert replay(log, Alg.SHA256) == {0: hashlib.sha256(start + hashlib.sha256(b"v").digest()).digest()}


def test_hcrtm_starts_pcr_0_at_four() -> None:
    hcrtm = boot_event(0, EventType.EFI_HCRTM_EVENT, b"HCRTM")
    assert pcr0_start(event_log([hcrtm])) == 4
    assert pcr0_start(event_log([note(b"StartupLocality\0\3"), hcrtm])) == 3
    assert pcr0_start(event_log([boot_event(0, 8, b"v"), hcrtm])) == 0


@pytest.mark.parametrize("data", [b"StartupLocality\0\x05", b"StartupLocality\0", b"StartupLocality\0\3\3"])
def test_startup_locality_that_no_tpm_has_is_ignored(data: bytes) -> None:
    assert pcr0_start(event_log([note(data)])) == 0


def test_an_event_without_a_digest_does_not_extend_that_bank() -> None:
    log = event_log([boot_event(4, 5, b"x", banks=(Alg.SHA256,))])
    assert replay(log, Alg.SHA1) == {}
    assert set(replay(EventLog.parse(log.encode()), Alg.SHA256)) == {4}


@pytest.mark.parametrize("byte", [b"\0", b"\xff"])
@pytest.mark.parametrize("size", [1, 5, 4096])
def test_padding_up_to_the_end_is_kept(byte: bytes, size: int) -> None:
    log = EventLog.parse(DATA + byte * size)
    assert log.events == GOOD.events
    assert log.padding == byte * size
    assert log.encode() == DATA + byte * size


def test_sha1_padding() -> None:
    data = sha1_event(0, 8, bytes(20), b"v")
    assert len(EventLog.parse(data + bytes(100)).events) == 1


def test_something_after_padding_is_refused() -> None:
    with pytest.raises(MalformedError):
        EventLog.parse(DATA + bytes(64) + b"\1")


def test_vendor_information_inside_and_outside_of_the_header() -> None:
    spec = SpecId(0, (0, 2, 0), 2, ((4, 20), (11, 32)), b"\xde\xad\xbe\xef")
    for outside in (False, True):
        data = EventLog(replace(spec, vendor_outside=outside), GOOD.events).encode()
        log = EventLog.parse(data)
        assert log.spec == replace(spec, vendor_outside=outside)
        assert (log.events, log.encode()) == (GOOD.events, data)


def test_unknown_algorithms_are_carried_along() -> None:
    spec = SpecId(0, (0, 2, 0), 2, ((11, 32), (0x7777, 5)), b"")
    event = replace(boot_event(4, 5, b"x", banks=(Alg.SHA256,)))
    both = replace(event, digests=(*event.digests, (0x7777, b"12345")))
    log = EventLog.parse(EventLog(spec, (both,)).encode())
    assert log.banks == (Alg.SHA256,)
    assert log.events[0].digest(0x7777) == b"12345"


def header(count: int = 2, algorithms: bytes = b"\4\0\x14\0\x0b\0\x20\0", tail: bytes = b"\0", type_: int = 3) -> bytes:
    body = b"Spec ID Event03\0" + struct.pack("<I4BI", 0, 0, 2, 0, 2, count) + algorithms + tail
    return struct.pack("<II20sI", 0, type_, bytes(20), len(body)) + body


EVENT = struct.pack("<III", 4, 5, 1)
BROKEN = {
    "empty": b"",
    "only zeros": bytes(4096),
    "only 0xFF": b"\xff" * 4096,
    "text": b"this is not a log of anything at all, only text",
    "3 GB in 36 bytes": struct.pack("<II20sI", 4, 5, bytes(20), 3_000_000_000) + b"abcd",
    "no algorithms": header(0, b""),
    "2^32 algorithms": header(0xFFFFFFFF),
    "algorithm twice": header(2, b"\4\0\x14\0\4\0\x14\0"),
    "wrong digest size": header(1, b"\x0b\0\x14\0"),
    "digest of nothing": header(1, b"\x77\x77\0\0"),
    "digests of 65 bytes": header(1, b"\x77\x77\x41\0"),
    "header of another type": header(type_=4),
    "bytes after the header's vendor information": header(tail=b"\0\0"),
    "vendor information cut short": header(tail=b"\x09abc"),
    "2^32 digests": header() + struct.pack("<III", 4, 5, 0xFFFFFFFF) + bytes(50),
    "no digests": header() + struct.pack("<III", 4, 5, 0) + struct.pack("<I", 1) + b"x",
    "undeclared algorithm": header() + EVENT + b"\x0c\0" + bytes(48) + bytes(4),
    "one algorithm twice": header() + struct.pack("<III", 4, 5, 2) + (b"\4\0" + bytes(20)) * 2 + bytes(4),
    "data of 4 GB": header() + EVENT + b"\4\0" + bytes(20) + b"\xff\xff\xff\xff",
    "pcr 24": header() + struct.pack("<III", 24, 5, 1) + b"\4\0" + bytes(20) + bytes(4),
    "too large": bytes(MAX_LOG + 1),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_logs_are_refused(name: str) -> None:
    with pytest.raises(MalformedError):
        EventLog.parse(BROKEN[name])


def test_every_cut_is_refused_or_whole() -> None:
    """Only a cut between two events leaves a log, and that one is shorter: the replay tells."""
    ends = {len(event_log(GOOD.events[:n]).encode()) for n in range(len(GOOD.events) + 1)}
    for size in range(len(DATA)):
        try:
            log = EventLog.parse(DATA[:size])
        except MalformedError:
            assert size not in ends
        else:
            assert size in ends or log.padding
            assert len(log.events) < len(GOOD.events)


def test_too_many_events_are_refused() -> None:
    with pytest.raises(MalformedError, match="more than"):
        EventLog.parse(sha1_event(4, 5, b"\1" * 20, b"") * 70_000)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, len(DATA)), st.integers(0, 3))
def test_any_bytes_parse_or_are_malformed(junk: bytes, at: int, kind: int) -> None:
    data = [junk, DATA[:at] + junk, DATA[:at] + junk + DATA[at:], DATA[:at] + junk + DATA[at + len(junk) :]][kind]
    try:
        log = EventLog.parse(data)
    except MalformedError:
        return
    assert log.encode() == data
    for bank in log.banks:
        replay(log, bank)


def test_a_log_that_is_too_long_is_refused_whatever_it_holds() -> None:
    data = event_log(good_boot()).encode()
    EventLog.parse(data.ljust(MAX_LOG, b"\0"))
    with pytest.raises(MalformedError, match=f"{MAX_LOG} are allowed"):
        EventLog.parse(data.ljust(MAX_LOG + 1, b"\0"))


def test_a_header_that_declares_too_many_algorithms() -> None:
    def header(count: int) -> bytes:
        return SpecId(0, (0, 2, 0), 2, tuple((0x7000 + number, 8) for number in range(count)), b"").encode()

    assert EventLog.parse(header(16)).events == ()
    with pytest.raises(MalformedError, match="17 digest algorithms"):
        EventLog.parse(header(17))


def test_more_digests_than_declared_are_not_even_read() -> None:
    with pytest.raises(MalformedError, match="3 digests, the header declares 2"):
        EventLog.parse(header() + struct.pack("<III", 4, 5, 3) + (b"\4\0" + bytes(20)) * 3 + bytes(4))


def test_a_digest_that_is_cut_short() -> None:
    with pytest.raises(MalformedError, match="cut short in a digest"):
        EventLog.parse(header() + EVENT + b"\4\0" + b"\1" * 19)
