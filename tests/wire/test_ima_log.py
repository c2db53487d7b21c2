"""The runtime log: binary and readable, templates, violations, replay."""

from __future__ import annotations

import hashlib
import mmap
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.errors import MalformedError
from watchword.testing.logs import boot_aggregate, ima_entry, ima_log, measured, violation
from watchword.wire.ima_ascii import looks_ascii, parse_ascii
from watchword.wire.ima_log import MAX_ENTRY, MAX_LOG, ImaEntry, ImaLog, MeasuredFile, replay, template_digest
from watchword.wire.tpm.algorithms import Alg

D = b"sha256:\0" + bytes(range(32))
OLD = ImaEntry(0, 10, b"", "ima", bytes(range(20)) + b"/bin/old".ljust(256, b"\0"))
OLD = OLD._replace(digest=hashlib.sha1(OLD.data).digest())
SIGNATURE = b"\x03\x02\x04" + bytes(70)

ENTRIES = {
    "ima": OLD,
    "ima-ng": ima_entry("ima-ng", D, b"/a\0"),
    "ima-ngv2": ima_entry("ima-ngv2", b"verity:" + D, b"/a\0"),
    "ima-sig": ima_entry("ima-sig", D, b"/a\0", SIGNATURE),
    "ima-sigv2": ima_entry("ima-sigv2", b"ima:" + D, b"/a\0", SIGNATURE),
    "ima-buf": ima_entry("ima-buf", D, b"kexec-cmdline\0", b"root=/dev/vda"),
    "ima-modsig": ima_entry("ima-modsig", D, b"/m.ko\0", b"", b"sha512:\0" + bytes(64), b"\x30\x82modsig"),
    "evm-sig": ima_entry(
        "evm-sig", D, b"/a\0", SIGNATURE, b"security.ima\0", b"\1\0\0\0", b"x", bytes(4), bytes(4), b"\xed\x81"
    ),
    "d-ng|n-ng|sig": ima_entry("d-ng|n-ng|sig", D, b"/a\0", b""),
}
ALL = ima_log([boot_aggregate({}), *ENTRIES.values(), violation(b"/v"), measured(b"/b", b"b")])


def test_every_template_round_trips() -> None:
    log = ImaLog.parse(ALL.encode())
    assert log == ALL
    assert log.encode() == ALL.encode()
    for entry in log.entries:
        assert entry.file().path.startswith((b"/", b"boot_aggregate", b"kexec"))


def test_what_the_templates_say() -> None:
    files = {name: entry.file() for name, entry in ENTRIES.items()}
    digest = bytes(range(32))
    assert files["ima"] == MeasuredFile(b"/bin/old", "sha1", bytes(range(20)))
    assert files["ima-ng"] == MeasuredFile(b"/a", "sha256", digest)
    assert files["ima-ngv2"].kind == "verity"
    assert files["ima-sig"].signature == SIGNATURE
    assert (files["ima-sigv2"].kind, files["ima-sigv2"].signature) == ("ima", SIGNATURE)
    assert files["ima-buf"].buffer == b"root=/dev/vda"
    assert files["ima-modsig"].signature is None
    assert files["evm-sig"].signature == SIGNATURE
    assert files["d-ng|n-ng|sig"].signature is None


def test_replay_in_every_bank() -> None:
    for alg, name in ((Alg.SHA1, "sha1"), (Alg.SHA256, "sha256"), (Alg.SHA512, "sha512")):
        value = bytes(hashlib.new(name).digest_size)
        for entry in ALL.entries:
            part = b"\xff" * len(value) if entry.violation else hashlib.new(name, entry.data).digest()
            value = hashlib.new(name, value + part).digest()
            assert template_digest(entry, alg) == part
        assert replay(ALL, alg) == {10: value}


def test_padded_replay_is_that_of_old_kernels() -> None:
    value = bytes(32)
    for entry in ALL.entries:
        part = b"\xff" * 20 if entry.violation else entry.digest
        value = hashlib.sha256(value + part + bytes(12)).digest()
    assert replay(ALL, Alg.SHA256, padded=True) == {10: value}


def test_entries_of_other_pcrs() -> None:
    log = ImaLog.parse(ima_log([boot_aggregate({}), ENTRIES["ima-ng"]._replace(pcr=11)]).encode())
    assert set(replay(log, Alg.SHA256)) == {10, 11}


@pytest.mark.parametrize(("name", "size"), [("sha256", 32), ("sha384", 48), ("sha512", 64)])
def test_the_log_of_another_bank_is_recognised(name: str, size: int) -> None:
    entries = tuple(e._replace(digest=hashlib.new(name, e.data).digest()) for e in ALL.entries if not e.violation)
    log = ImaLog.parse(ImaLog(size, entries).encode())
    assert (log.digest_size, len(log.entries)) == (size, len(entries))
    assert replay(log, Alg[name.upper()]) == replay(ImaLog(20, entries), Alg[name.upper()])


def test_unknown_templates_are_kept_and_counted() -> None:
    entry = ima_entry("secret-ng", b"what")
    log = ImaLog.parse(ima_log([boot_aggregate({}), entry]).encode())
    assert template_digest(log.entries[1], Alg.SHA1) == entry.digest
    with pytest.raises(MalformedError, match="unknown template"):
        log.entries[1].file()


@pytest.mark.parametrize(
    "entry",
    [
        ima_entry("ima-ng", D),
        ima_entry("ima-ng", D, b"/a\0", b"more"),
        ima_entry("ima-ng", b"sha256:\0short", b"/a\0"),
        ima_entry("ima-ng", b"sha1:\0" + bytes(32), b"/a\0"),
        ima_entry("ima-ng", b"ima:" + D, b"/a\0"),
        ima_entry("ima-ngv2", D, b"/a\0"),
        ima_entry("ima-ngv2", b"other:" + D, b"/a\0"),
        ima_entry("ima-ng", D, b"/a\0/etc/passwd\0"),
        ima_entry("ima-ng", D, b"/a\0")._replace(data=b"\xff\xff\xff\xff"),
        ima_entry("d-ng|d-ng", D, D),
        ima_entry("d-ng|", D, b""),
        ima_entry("ima-ng", b"sha256", b"/a\0"),
        ima_entry("d|n", bytes(19), b"/a\0"),
        ima_entry("d|n", b"", b"/a\0"),
    ],
)
def test_content_that_is_not_understood(entry: ImaEntry) -> None:
    log = ImaLog.parse(ima_log([entry]).encode())
    with pytest.raises(MalformedError):
        log.entries[0].file()


def test_a_field_that_is_cut_short_is_told_from_one_too_many() -> None:
    entry = ima_entry("ima-ng", D, b"/a\0")
    with pytest.raises(MalformedError, match="'n-ng' is cut short"):
        entry._replace(data=entry.data[:-1]).fields()
    with pytest.raises(MalformedError, match="bytes after the last field"):
        entry._replace(data=entry.data + b"\0").fields()


def test_a_log_beyond_the_limit_is_refused_before_it_is_copied() -> None:
    with mmap.mmap(-1, MAX_LOG + 1) as pages, memoryview(pages) as view:
        for parse in (ImaLog.parse, lambda data: ImaLog.parse_part(data, 20)):
            with pytest.raises(MalformedError, match=f"{MAX_LOG + 1} bytes long, {MAX_LOG} are allowed"):
                parse(view)


def raw(pcr: int = 10, name: bytes = b"ima-ng", size: int = 4, data: bytes = b"data") -> bytes:
    return struct.pack("<I20sI", pcr, b"\1" * 20, len(name)) + name + struct.pack("<I", size) + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"this-is-an-invalid-ima-log-file\n",
        raw()[:-1],
        raw()[:20],
        raw()[:33],
        raw()[:34],
        raw()[:37],
        raw() + b"\n",
        raw(pcr=24),
        raw(name=b""),
        raw(name=b"a\0b"),
        raw(name=b"x" * 256),
        raw(size=0xFFFFFFFF),
        raw(size=MAX_ENTRY + 1, data=bytes(MAX_ENTRY + 1)),
        struct.pack("<I20sI", 10, b"\1" * 20, 0xFFFFFFFF) + b"ima-ng",
        struct.pack("<I20sI", 10, b"\1" * 20, 3) + b"ima" + bytes(20) + struct.pack("<I", 3) + b"a\0b",
        struct.pack("<I20sI", 10, b"\1" * 20, 3) + b"ima" + bytes(20) + struct.pack("<I", 256) + b"a" * 256,
        struct.pack("<I20sI", 10, b"\1" * 20, 3) + b"ima" + bytes(20) + struct.pack("<I", 9) + b"cut",
        struct.pack("<I20sI", 10, b"\1" * 20, 3) + b"ima" + bytes(23),
    ],
)
def test_broken_logs_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        ImaLog.parse(data)


@pytest.mark.parametrize(
    "data",
    [
        raw(size=0, data=b""),
        raw(size=MAX_ENTRY, data=bytes(MAX_ENTRY)),
        struct.pack("<I20sI", 10, b"\1" * 20, 3) + b"ima" + bytes(24),
    ],
    ids=["empty", "largest", "old and without a name"],
)
def test_the_smallest_and_the_largest_entry(data: bytes) -> None:
    assert ImaLog.parse(data * 2).encode() == data * 2


def test_a_name_that_is_cut_short_is_said_so() -> None:
    with pytest.raises(MalformedError, match="the name of a template is 6 bytes long"):
        ImaLog.parse(raw() + raw()[:33])


def readable(entry: ImaEntry, *fields: str) -> bytes:
    return " ".join(["10", entry.digest.hex(), entry.template, *fields]).encode() + b"\n"


HEX = "sha256:" + bytes(range(32)).hex()
READABLE = {
    "ima": readable(ENTRIES["ima"], bytes(range(20)).hex(), "/bin/old"),
    "ima-ng": readable(ENTRIES["ima-ng"], HEX, "/a"),
    "ima-ngv2": readable(ENTRIES["ima-ngv2"], "verity:" + HEX, "/a"),
    "ima-sig": readable(ENTRIES["ima-sig"], HEX, "/a", SIGNATURE.hex()),
    "ima-buf": readable(ENTRIES["ima-buf"], HEX, "kexec-cmdline", b"root=/dev/vda".hex()),
    "ima-modsig": readable(
        ENTRIES["ima-modsig"], HEX, "/m.ko", "", "sha512:" + bytes(64).hex(), b"\x30\x82modsig".hex()
    ),
    "evm-sig": readable(
        ENTRIES["evm-sig"], HEX, "/a", SIGNATURE.hex(), "security.ima", "01000000", "78", "0", "0", "33261"
    ),
    "d-ng|n-ng|sig": readable(ENTRIES["d-ng|n-ng|sig"], HEX, "/a", ""),
}


@pytest.mark.parametrize("name", READABLE)
def test_readable_lines_give_the_same_entry(name: str) -> None:
    assert looks_ascii(READABLE[name])
    log, unproven = parse_ascii(READABLE[name])
    assert log.entries == (ENTRIES[name]._replace(number=0),)
    assert not unproven


def test_a_readable_name_with_spaces_is_told_by_its_digest() -> None:
    entry = ima_entry("ima-sig", D, b"/a b c0\0", b"")
    for line in (readable(entry, HEX, "/a b c0", ""), readable(entry, HEX, "/a b c0")):
        log, unproven = parse_ascii(line)
        assert log.entries[0].file().path == b"/a b c0"
        assert not unproven


def test_a_readable_line_whose_digest_is_wrong_is_marked() -> None:
    log, unproven = parse_ascii(READABLE["ima-ng"] + READABLE["ima-ng"].replace(b"/a", b"/z"))
    assert (len(log.entries), unproven) == (2, {1})


@pytest.mark.parametrize(
    "line",
    [
        b"10 00 ima-ng",
        READABLE["ima-ng"].replace(b"/a", b"/a\nb"),
        READABLE["ima-ng"].replace(b"ima-ng", b"not-ima"),
        READABLE["ima-ng"].replace(b"sha256:", b""),
        READABLE["ima-ng"].replace(b"sha256:0", b"sha256:g"),
        b"99" + READABLE["ima-ng"][2:],
        b"10 " + bytes(64).hex().encode() + b" ima-ng " + HEX.encode() + b" /a\n" + READABLE["ima-ng"],
        READABLE["evm-sig"].replace(b"33261", b"999999"),
    ],
)
def test_broken_readable_logs_are_refused(line: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_ascii(line)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 2000), st.booleans())
def test_any_bytes_parse_or_are_malformed(junk: bytes, at: int, whole: bool) -> None:
    good = ALL.encode()
    data = junk if whole else good[:at] + junk + good[at + len(junk) :]
    try:
        log = ImaLog.parse(data)
    except MalformedError:
        return
    assert log.encode() == data
    for entry in log.entries:
        try:
            entry.file()
        except MalformedError:
            continue


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="0123456789abcdef :/imang-sig\n", max_size=120))
def test_any_text_parses_or_is_malformed(text: str) -> None:
    for start in (b"", READABLE["ima-ng"], READABLE["evm-sig"][:60]):
        try:
            parse_ascii(start + text.encode())
        except MalformedError:
            continue
