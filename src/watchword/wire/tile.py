"""Where the tiles of a log are, and what an entry bundle holds (C2SP tlog-tiles).

A tile has up to 256 hashes of 32 bytes: those of tile level ``L`` stand ``8 * L`` levels above the leaves. An entry
bundle has the entries of a tile of level 0, each after its length (u16).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from watchword.errors import MalformedError
from watchword.wire.merkle import HASH_SIZE, MAX_SIZE
from watchword.wire.reader import Reader, Writer

__all__ = ["ENTRIES", "HEIGHT", "MAX_ENTRY", "WIDTH", "Tile", "encode_entries", "parse_entries", "parse_tile"]

HEIGHT: Final = 8  # levels of the tree that a tile spans
WIDTH: Final = 1 << HEIGHT
ENTRIES: Final = -1  # instead of a tile level: the entries themselves
MAX_ENTRY: Final = 0xFFFF  # bytes
_MAX_LEVEL: Final = 7  # 256^8 leaves are more than any tree has
_PATH: Final = re.compile(r"(entries|[0-7])((?:/x[0-9]{3}){0,6}/[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile: ``level`` (or :data:`ENTRIES`), ``index`` and ``width``, 1 to 256."""

    level: int
    index: int
    width: int = WIDTH

    def __post_init__(self) -> None:
        placed = ENTRIES <= self.level <= _MAX_LEVEL and 0 <= self.index < MAX_SIZE // WIDTH
        if not placed or not 1 <= self.width <= WIDTH:
            raise MalformedError("log tile: there is no such tile")

    @classmethod
    def parse(cls, path: str) -> Self:
        """The tile at ``path``, what follows "/tile/". Raises :class:`MalformedError`."""
        found = _PATH.fullmatch(path)
        if found is None:
            raise MalformedError("log tile: no path of a tile")
        level, number, width = found.groups()
        digits = number.replace("/", "").replace("x", "")
        tile = cls(ENTRIES if level == "entries" else int(level), int(digits), int(width) if width else WIDTH)
        if tile.path != path:
            raise MalformedError("log tile: a tile has one path, and this is not it")
        return tile

    @property
    def path(self) -> str:
        """What follows "/tile/"."""
        text = str(self.index)
        text = text.zfill(-(-len(text) // 3) * 3)
        parts = [text[at : at + 3] for at in range(0, len(text), 3)]
        number = "/".join([*(f"x{part}" for part in parts[:-1]), parts[-1]])
        kind = "entries" if self.level == ENTRIES else str(self.level)
        return f"{kind}/{number}" + (f".p/{self.width}" if self.width < WIDTH else "")

    @property
    def start(self) -> int:
        """The number of the first node in it, counted at its level."""
        return self.index * WIDTH

    def complete(self, size: int) -> bool:
        """Whether a tree of ``size`` leaves has all of this tile."""
        return self.start + self.width <= size >> (HEIGHT * max(self.level, 0))


def parse_tile(tile: Tile, data: bytes) -> list[bytes]:
    """The hashes in ``tile``. Raises :class:`MalformedError` unless there are as many as it is wide."""
    if len(data) != tile.width * HASH_SIZE:
        raise MalformedError(f"log tile {tile.path}: {len(data)} bytes, not {tile.width * HASH_SIZE}")
    return [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]


def parse_entries(tile: Tile, data: bytes) -> list[bytes]:
    """The entries in a bundle. Raises :class:`MalformedError` unless there are as many as it is wide."""
    reader = Reader(data, f"log entries {tile.path}")
    entries = [reader.sized16(MAX_ENTRY, "entry") for _ in range(tile.width)]
    reader.finish()
    return entries


def encode_entries(entries: Sequence[bytes]) -> bytes:
    """The bundle of ``entries``, at most 65535 bytes each."""
    writer = Writer()
    for entry in entries:
        writer.sized16(entry)
    return writer.done()
