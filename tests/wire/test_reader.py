from __future__ import annotations

import pytest

from watchword.errors import MalformedError
from watchword.wire.reader import Reader, Writer, parse_whole


def test_reads_what_the_writer_wrote() -> None:
    data = Writer().u8(1).u16(2).u32(3).u64(4).sized16(b"ab").sized32(b"cde").raw(b"!").done()
    r = Reader(data, "thing")
    assert (r.u8(), r.u16(), r.u32(), r.u64()) == (1, 2, 3, 4)
    assert (r.sized16(2, "a"), r.sized32(3, "b"), r.rest()) == (b"ab", b"cde", b"!")
    r.finish()


def test_little_endian() -> None:
    r = Reader(bytes.fromhex("0100 02000000 0300000000000000"), "thing")
    assert (r.le16(), r.le32(), r.le64()) == (1, 2, 3)


@pytest.mark.parametrize("method", ["u8", "u16", "u32", "u64", "le16", "le32", "le64"])
def test_an_integer_that_is_cut_is_refused(method: str) -> None:
    with pytest.raises(MalformedError, match="needs"):
        getattr(Reader(b"", "thing"), method)()


def test_a_size_beyond_the_data_allocates_nothing() -> None:
    with pytest.raises(MalformedError, match="needs 4294967295 more bytes, has 0"):
        Reader(b"\xff\xff\xff\xff", "thing").sized32(1 << 40, "blob")


def test_a_size_beyond_its_limit_is_refused() -> None:
    with pytest.raises(MalformedError, match="blob is 3 bytes long, 2 are allowed"):
        Reader(b"\0\3abc", "thing").sized16(2, "blob")


def test_a_view_is_of_what_is_there() -> None:
    r = Reader(b"abc", "thing")
    assert (bytes(r.view(2)), r.left) == (b"ab", 1)
    with pytest.raises(MalformedError, match="needs 2 more bytes, has 1"):
        r.view(2)
    assert (bytes(r.view(1)), r.left) == (b"c", 0)


@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_what_is_taken_are_bytes(kind: type) -> None:
    r = Reader(kind(b"ab\0\1"), "thing")
    assert (r.take(1), r.u8(), r.u16()) == (b"a", ord("b"), 1)
    with pytest.raises(MalformedError, match="needs 1 more bytes, has 0"):
        r.take(1)


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(MalformedError, match="1 trailing bytes"):
        parse_whole(b"\0\0", "thing", lambda r: r.u8())
