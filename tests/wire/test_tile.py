from __future__ import annotations

import pytest

from watchword.errors import MalformedError
from watchword.wire.log_leaf import MAX_PUBLIC, LogLeaf, commitment, index_key, tag
from watchword.wire.tile import ENTRIES, Tile, encode_entries, parse_entries, parse_tile


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "0/000"),
        (Tile(1, 5, 7), "1/005.p/7"),
        (Tile(0, 1234067), "0/x001/x234/067"),
        (Tile(ENTRIES, 999, 255), "entries/999.p/255"),
        (Tile(ENTRIES, 1000), "entries/x001/000"),
    ],
)
def test_a_tile_has_one_path(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert Tile.parse(path) == tile


@pytest.mark.parametrize(
    "path",
    ["", "0", "0/0", "0/1000", "0/x000/001", "8/000", "00/000", "0/000.p/0", "0/000.p/256", "0/000.p/257", "0/000.p/01",
     "0/001/002", "0/x001", "0/x001/x002", "../0/000", "0/000/", "-1/000", "0/x999/x999/x999/x999/x999/999",
     "0/" + "x999/" * 6 + "999", "data/000"],
)  # fmt: skip
def test_anything_else_is_no_path(path: str) -> None:
    with pytest.raises(MalformedError):
        Tile.parse(path)


@pytest.mark.parametrize(
    ("level", "index", "width"), [(-2, 0, 1), (8, 0, 1), (0, -1, 1), (0, 1 << 54, 1), (0, 0, 0), (0, 0, 257)]
)
def test_there_is_no_such_tile(level: int, index: int, width: int) -> None:
    Tile(7, (1 << 54) - 1, 256)
    with pytest.raises(MalformedError):
        Tile(level, index, width)


def test_which_tiles_a_log_has() -> None:
    assert Tile(0, 0, 5).complete(5)
    assert not Tile(0, 0, 6).complete(5)
    assert Tile(1, 0, 1).complete(256)
    assert not Tile(1, 0, 1).complete(255)
    assert Tile(ENTRIES, 1, 2).complete(258)


def test_entry_bundles() -> None:
    entries = [b"", b"a", b"x" * 65535]
    tile = Tile(ENTRIES, 0, 3)
    assert parse_entries(tile, encode_entries(entries)) == entries
    for wrong in (b"", encode_entries(entries[:2]), encode_entries([*entries, b""]), b"\0\5abc"):
        with pytest.raises(MalformedError):
            parse_entries(tile, wrong)


def test_a_tile_is_as_wide_as_it_says() -> None:
    assert parse_tile(Tile(0, 0, 2), b"a" * 32 + b"b" * 32) == [b"a" * 32, b"b" * 32]
    with pytest.raises(MalformedError):
        parse_tile(Tile(0, 0, 2), bytes(65))


def test_a_leaf_hides_the_entry() -> None:
    leaf = LogLeaf(tag(index_key(b"launch"), 1), commitment(b"s" * 32, b"entry"))
    assert LogLeaf.parse(leaf.encode()) == leaf
    assert b"entry" not in leaf.encode()
    assert commitment(b"s" * 32, b"entry") != commitment(b"t" * 32, b"entry")
    assert tag(index_key(b"launch"), 1) != tag(index_key(b"launch"), 2) != tag(index_key(b"other"), 2)


@pytest.mark.parametrize("data", [b"", b"\1" + bytes(63), b"\2" + bytes(64), b"\1" + bytes(65 + MAX_PUBLIC)])
def test_no_leaf(data: bytes) -> None:
    with pytest.raises(MalformedError):
        LogLeaf.parse(data)
