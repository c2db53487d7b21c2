"""Coverage-guided fuzzing of the log's formats: ``python fuzz/fuzz_log.py [corpus folder]``.

Any bytes must give a note, key, checkpoint, leaf, path or bundle that encodes to the same bytes, or MalformedError; any
proof must give a root or MalformedError. Needs the package ``atheris``, which the test suite does not.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports():
    from watchword.errors import MalformedError
    from watchword.wire.log_leaf import LogLeaf
    from watchword.wire.merkle import Frontier, consistency_roots, inclusion_root
    from watchword.wire.note import Checkpoint, Note, NoteKey
    from watchword.wire.tile import ENTRIES, Tile, encode_entries, parse_entries


def hashes(data: bytes) -> list[bytes]:
    return [data[at : at + 32] for at in range(0, len(data), 32)]


def one_input(data: bytes) -> None:
    """The first byte chooses the parser, the rest is what it gets."""
    choice, data = data[:1], data[1:]
    index = choice[0] % 8 if choice else 0
    try:
        if index == 0:
            assert Note.parse(data).encode() == data
        elif index == 1:
            text = data.decode("latin-1")
            assert NoteKey.parse(text).encode() == text.strip()
        elif index == 2:
            text = data.decode("latin-1")
            assert Checkpoint.parse(text).encode() == text
        elif index == 3:
            assert LogLeaf.parse(data).encode() == data
        elif index == 4:
            text = data.decode("latin-1")
            assert Tile.parse(text).path == text
        elif index == 5:
            tile = Tile(ENTRIES, 0, max(1, data[0] if data else 1))
            assert encode_entries(parse_entries(tile, data[1:])) == data[1:]
        elif index == 6:
            leaf, number = int.from_bytes(data[:8], "big"), int.from_bytes(data[8:16], "big")
            assert len(inclusion_root(leaf, number, data[16:48], hashes(data[48:]))) == 32
            consistency_roots(leaf, number, data[16:48], hashes(data[48:]))
        else:
            size = int.from_bytes(data[:8], "big")
            tree = Frontier.parse(size, data[8:])
            assert tree.encode() == data[8:]
            assert tree.append(bytes(32))[0].size == size + 1
    except MalformedError:
        pass


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
