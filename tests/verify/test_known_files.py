"""What is known of entries saves time and changes no verdict."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.errors import MalformedError, Rejected
from watchword.testing.logs import boot_aggregate, ima_entry, ima_log, measured, violation
from watchword.testing.soft_tpm import SoftTpm
from watchword.verify.ima_log import VerifiedRuntimeLog, verify_ima_log
from watchword.verify.known_files import KnownFiles
from watchword.verify.quote import VerifiedPcrs
from watchword.wire.ima_log import ImaEntry, ImaLog, encode_entry, replay
from watchword.wire.tpm.algorithms import Alg, digest

TPM = SoftTpm.create()
BANK = Alg.SHA256
FIRST = boot_aggregate({})
FILES = [measured(b"/bin/%d" % number, b"%d" % number) for number in range(80)]
STACK = bytes(32)


def quoted(entries: list[ImaEntry], bank: Alg = BANK, *, padded: bool = False) -> VerifiedPcrs:
    value = replay(ima_log(entries), bank, padded=padded)[10]
    zero = bytes(len(value))
    return TPM.verified_pcrs(bank, {**dict.fromkeys(range(10), zero), 10: value})


def verify(
    entries: list[ImaEntry], known: KnownFiles | None, proof: VerifiedPcrs | None = None, bank: Alg = BANK
) -> VerifiedRuntimeLog:
    log = ImaLog.parse(ima_log(entries).encode(), known)
    return verify_ima_log(log, proof or quoted(entries, bank), bank, max_ahead=0, seen=None, known=known)


def taught(entries: list[ImaEntry], bank: Alg = BANK) -> KnownFiles:
    known = KnownFiles(bank)
    verify(entries, known, bank=bank)
    return known


def test_a_log_is_learnt_once_and_read_the_same_ever_after() -> None:
    entries = [FIRST, *FILES]
    known = taught(entries)
    assert len(known.entries) == len(FILES)
    again = verify([FIRST, *reversed(FILES)], known)
    assert again.fresh == {}
    assert again == verify([FIRST, *reversed(FILES)], None)
    assert again.measured == verify([FIRST, *reversed(FILES)], None).measured


def test_entries_that_followed_each_other_are_found_together() -> None:
    known = taught([FIRST, *FILES])
    known.join([encode_entry(entry) for entry in FILES])
    assert len(known.runs) == 2  # of 32 entries, and 16 are left over
    for entries in (FILES, FILES[5:], [*FILES[:40], measured(b"/new", b"new"), *FILES[40:]], FILES[:35], FILES[::-1]):
        assert verify([FIRST, *entries], known).measured == verify([FIRST, *entries], None).measured


def test_a_run_with_another_entry_in_it_is_no_run() -> None:
    known = taught([FIRST, *FILES])
    known.join([encode_entry(entry) for entry in (*FILES[:31], measured(b"/never", b"seen"), *FILES[31:])])
    assert len(known.runs) == 1
    assert next(iter(known.runs.values()))[1][0] == encode_entry(FILES[32 - 1])


@pytest.mark.parametrize("join", [False, True])
def test_d2_an_entry_that_looks_like_a_known_one(join: bool) -> None:
    entries = [FIRST, *FILES]
    known = taught(entries)
    if join:
        known.join([encode_entry(entry) for entry in FILES])
    altered = entries[9]._replace(data=entries[9].data.replace(b"/bin/8", b"/bin/9"))
    with pytest.raises(Rejected) as caught:
        verify([*entries[:9], altered, *entries[10:]], known, quoted(entries))
    assert (caught.value.clause, caught.value.code) == ("D2", "runtime-log-digest")


def test_d2_an_altered_digest_is_not_known() -> None:
    entries = [FIRST, *FILES]
    known = taught(entries)
    altered = entries[9]._replace(digest=bytes(19) + b"\1")
    with pytest.raises(Rejected) as caught:
        verify([*entries[:9], altered, *entries[10:]], known, quoted(entries))
    assert caught.value.code == "runtime-log-digest"


@pytest.mark.parametrize("known", [None, taught([FIRST, *FILES])])
def test_d3_known_entries_in_another_order_lead_elsewhere(known: KnownFiles | None) -> None:
    entries = [FIRST, *FILES]
    with pytest.raises(Rejected) as caught:
        verify([FIRST, FILES[1], FILES[0], *FILES[2:]], known, quoted(entries))
    assert caught.value.code == "runtime-log-replay"


def test_the_table_of_another_bank_is_not_used() -> None:
    other = taught([FIRST, *FILES], Alg.SHA384)
    assert len(verify([FIRST, *FILES], other).measured) == len(FILES)
    assert len(other.entries) == len(FILES)
    assert next(iter(other.entries.values()))[1] == digest(Alg.SHA384, FILES[0].data)


def test_padded_digests_are_neither_taken_from_the_table_nor_put_there() -> None:
    entries = [FIRST, *FILES]
    proof = quoted(entries, padded=True)
    known = taught([FIRST, *FILES[:5]])
    assert [f.code for f in verify(entries, known, proof).findings] == ["runtime-log-padded"]
    assert len(known.entries) == 5


def test_a_log_of_larger_digests_is_no_log_of_these() -> None:
    known = taught([FIRST, *FILES])
    entries = tuple(e._replace(number=n, digest=digest(BANK, e.data)) for n, e in enumerate([FIRST, *FILES]))
    log = ImaLog.parse(ImaLog(32, entries).encode(), known)
    assert set(log.columns.extends) == {None}
    found = verify_ima_log(log, quoted([FIRST, *FILES]), BANK, max_ahead=0, seen=None, known=known)
    assert (found.known, len(found.measured)) == (None, len(FILES))


@pytest.mark.parametrize(
    "odd",
    [
        violation(b"/var/log"),
        ima_entry("private", b"x"),
        ima_entry("ima-buf", b"sha256:\0" + bytes(32), b"kexec-cmdline\0", b"not this"),
        measured(b"/" + b"x" * 1024, b"long"),
    ],
)
def test_what_is_not_a_plain_file_is_not_known(odd: ImaEntry) -> None:
    known = taught([FIRST, odd])
    assert known.entries == {}
    again = verify([FIRST, odd], known)
    assert again == verify([FIRST, odd], None)


def test_entries_of_other_pcrs_are_not_known() -> None:
    entries = [FIRST, FILES[0]._replace(pcr=11), FILES[1]]
    known = KnownFiles(BANK)
    for _ in range(2):
        found = verify(entries, known, quoted([FIRST, FILES[1]]))
        assert [f.code for f in found.findings] == ["runtime-log-pcr"]
    assert len(known.entries) == 1


def test_what_the_quote_does_not_cover_is_not_known() -> None:
    known = KnownFiles(BANK)
    log = ImaLog.parse(ima_log([FIRST, *FILES[:2]]).encode(), known)
    verify_ima_log(log, quoted([FIRST, FILES[0]]), BANK, max_ahead=1, seen=None, known=known)
    assert [raw for raw, _, _ in known.entries.values()] == [encode_entry(FILES[0])]


def test_nothing_is_known_of_a_log_that_was_rejected() -> None:
    known = KnownFiles(BANK)
    with pytest.raises(Rejected):
        verify([FIRST, *FILES], known, quoted([FIRST, FILES[0], FILES[1], *FILES]))
    assert known.entries == {}


def test_the_table_is_bounded() -> None:
    known = KnownFiles(BANK, limit=70)
    verify([FIRST, *FILES], known)
    assert len(known.entries) == 70
    for start in range(6):
        known.join([encode_entry(entry) for entry in FILES[start:70]])
    assert len(known.runs) <= 70 // 32 + 3
    assert len(verify([FIRST, *FILES], known).measured) == len(FILES)


def test_marks_say_which_stacks_allow_an_entry() -> None:
    known, raw = taught([FIRST, *FILES[:2]]), encode_entry(FILES[0])
    one, other = b"1" * 32, b"2" * 32
    for stack in (one, other, one):
        known.clear(stack, raw)
    known.clear(b"3" * 32, encode_entry(FILES[5]))  # never seen
    known.clear(b"3" * 32, raw + b"x")  # not the one that is known by this digest
    assert [mark for _, _, mark in known.entries.values()] == [{one, other}, frozenset()]
    log = verify([FIRST, *FILES[:2]], known)
    assert [number for number, _, _ in log.besides(one)] == [2]
    assert [number for number, _, _ in log.besides(bytes(32))] == [1, 2]


def test_marks_count_for_who_has_the_table_only() -> None:
    known = taught([FIRST, *FILES[:2]])
    known.clear(STACK, encode_entry(FILES[0]))
    log = ImaLog.parse(ima_log([FIRST, *FILES[:2]]).encode(), known)
    found = verify_ima_log(log, quoted([FIRST, *FILES[:2]]), BANK, max_ahead=0, seen=None)
    assert [number for number, _, _ in found.besides(STACK)] == [1, 2]


def _damaged(data: bytes, place: int, value: int) -> bytes:
    return data[: place % len(data)] + bytes([value]) + data[place % len(data) + 1 :]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 20), st.integers(0, 255), st.integers(0, 60))
def test_damaged_logs_parse_the_same_with_and_without(place: int, value: int, cut: int) -> None:
    data = _damaged(ima_log([FIRST, *FILES]).encode(), place, value)
    data = data[: len(data) - cut]
    assert _outcome(lambda: ImaLog.parse(data, KNOWN)) == _outcome(lambda: ImaLog.parse(data))


def _outcome(parse: Callable[[], ImaLog]) -> object:
    try:
        return parse().encode()
    except MalformedError as error:
        return str(error)


KNOWN = taught([FIRST, *FILES])
KNOWN.join([encode_entry(entry) for entry in FILES])


def test_an_entry_of_the_same_digest_with_other_bytes_is_not_it() -> None:
    known = KnownFiles(BANK)
    raw = encode_entry(FILES[0])
    known.add(raw[:-3] + b"x" + raw[-2:], bytes(32))  # as if SHA-1 had collided
    assert struct.unpack_from("<I", raw)[0] == 10
    assert ImaLog.parse(raw, known).columns.extends == [None]
    known.add(raw, bytes(32))
    assert len(known.entries) == 1


def test_the_bytes_of_a_known_entry_mean_something_else_in_a_log_of_larger_digests() -> None:
    raw = encode_entry(FILES[0])
    assert len(ImaLog.parse_part(raw, 20, KNOWN).entries) == 1
    with pytest.raises(MalformedError):
        ImaLog.parse_part(raw, 32, KNOWN)
