"""An audit of a log whose every answer may be wrong by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from watchword.crypto.keylist import KeyList
from watchword.errors import MalformedError, Rejected, Unavailable
from watchword.launch.receipt import launch_key
from watchword.tenant.audit import Audited, audit
from watchword.tenant.log_state import Seen
from watchword.testing.memory_log import MemoryLog
from watchword.wire.log_leaf import LogLeaf
from watchword.wire.note import Note
from watchword.wire.tile import ENTRIES, Tile


@dataclass
class Scene:
    log: MemoryLog = field(default_factory=lambda: MemoryLog("auditor"))
    change: Callable[[Tile, bytes], bytes] = lambda tile, data: data
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        root = Ed25519PrivateKey.generate().public_key()
        sealing = X25519PrivateKey.generate().public_key()
        self.keys = KeyList("auditor", 1, 0, root, (root,), (sealing,), "", (), (self.log.key.public_key(),))

    def fill(self, count: int) -> None:
        for number in range(count):
            self.log.append(b"%d" % number)

    def checkpoint(self) -> bytes:
        return self.log.checkpoint()

    def tile(self, tile: Tile) -> bytes:
        self.asked.append(tile.path)
        return self.change(tile, self.log.tile(tile))

    def audit(self, seen: Seen | None = None, *, full: bool = False) -> Audited:
        return audit(self, self.keys, seen, full=full)

    def refused(self, seen: Seen | None = None, *, full: bool = False) -> tuple[str, str]:
        with pytest.raises(Rejected) as caught:
            self.audit(seen, full=full)
        return caught.value.clause, caught.value.code


@pytest.fixture
def scene() -> Scene:
    return Scene()


def flipped(data: bytes, at: int = 0) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 513])
def test_every_size_passes_from_every_earlier_size(size: int) -> None:
    scene, seen = Scene(), None
    for step in (size // 3, size - size // 3):
        scene.fill(step)
        found = scene.audit(seen)
        seen = found.seen
    assert (found.checkpoint.size, found.frontier.size) == (size, size)


def test_only_what_is_new_is_read(scene: Scene) -> None:
    scene.fill(300)
    seen = scene.audit().seen
    assert sorted(scene.asked) == ["0/000", "0/001.p/44", "1/000.p/1", "entries/000", "entries/001.p/44"]
    scene.asked.clear()
    scene.fill(1)
    scene.audit(seen)
    assert sorted(scene.asked) == ["0/001.p/45", "entries/001.p/45"]


def test_an_entry_that_is_not_the_one_in_its_tile(scene: Scene) -> None:
    scene.fill(3)
    scene.change = lambda tile, data: flipped(data, 70) if tile.level == ENTRIES else data
    assert scene.refused() == ("T6", "log-entry")


@pytest.mark.parametrize("level", [0, 1])
def test_a_tile_that_does_not_lead_to_the_root(scene: Scene, level: int) -> None:
    scene.fill(256)

    def change(tile: Tile, data: bytes) -> bytes:
        return flipped(data) if tile.level == level else data

    scene.change = change
    assert scene.refused()[0] == "T6"


def test_a_tile_and_its_entry_altered_together(scene: Scene) -> None:
    """Both agree with each other; the checkpoint does not."""
    scene.fill(3)
    signed = scene.log.checkpoint()
    scene.log.leaves[1] = LogLeaf(bytes(32), bytes(32)).encode()
    scene.checkpoint = lambda: signed  # type: ignore[method-assign]
    assert scene.refused() == ("T6", "log-tile")


def test_tiles_that_are_gone(scene: Scene) -> None:
    def change(tile: Tile, data: bytes) -> bytes:
        raise Unavailable("tile-unknown", "gone")

    scene.fill(3)
    scene.change = change
    assert scene.refused() == ("T6", "log-tile")


def test_a_service_that_fails_is_not_accused(scene: Scene) -> None:
    def change(tile: Tile, data: bytes) -> bytes:
        raise Unavailable("http-timeout", "slow")

    scene.fill(3)
    scene.change = change
    with pytest.raises(Unavailable):
        scene.audit()


def test_a_tile_of_another_size_is_malformed(scene: Scene) -> None:
    scene.fill(3)
    scene.change = lambda tile, data: data + b"x"
    with pytest.raises(MalformedError):
        scene.audit()


def test_a_fork_that_goes_on(scene: Scene) -> None:
    scene.fill(7)
    seen = scene.audit().seen
    scene.log.leaves[2] = LogLeaf(bytes(32), bytes(32)).encode()
    scene.fill(300)
    assert scene.refused(seen) == ("T3", "log-fork")
    assert scene.refused(seen, full=True) == ("T3", "log-fork")


def test_a_fork_of_the_same_size_and_a_rollback(scene: Scene) -> None:
    scene.fill(7)
    seen = scene.audit().seen
    last = scene.log.leaves.pop()
    assert scene.refused(seen) == ("T4", "log-rollback")
    scene.fill(1)
    assert scene.refused(seen) == ("T3", "log-fork")
    scene.log.leaves[-1] = last
    assert scene.audit(seen).start == 7


def test_two_checkpoints_of_one_size_are_a_fork_whatever_the_tiles_say(scene: Scene) -> None:
    scene.fill(7)
    seen = scene.audit().seen
    tiles = list(scene.log.leaves)
    scene.log.leaves[2] = LogLeaf(bytes(32), bytes(32)).encode()
    signed = scene.log.checkpoint()
    scene.log.leaves = tiles
    scene.checkpoint = lambda: signed  # type: ignore[method-assign]
    assert scene.refused(seen) == ("T3", "log-fork")


def test_an_unsigned_and_a_wrongly_signed_checkpoint(scene: Scene) -> None:
    note = Note.parse(scene.log.checkpoint())
    scene.checkpoint = note.text.encode  # type: ignore[method-assign]
    with pytest.raises(MalformedError):
        scene.audit()
    other = MemoryLog("auditor").checkpoint()
    scene.checkpoint = lambda: other  # type: ignore[method-assign]
    assert scene.refused() == ("T1", "checkpoint-signature")
    wrong = replace(note.signatures[0], signature=flipped(note.signatures[0].signature))
    scene.checkpoint = lambda: Note(note.text, (wrong,)).encode()  # type: ignore[method-assign]
    assert scene.refused() == ("T1", "checkpoint-signature")


def test_what_is_remembered_gives_the_root() -> None:
    scene = Scene()
    scene.log.append(b"x", launch_key(b"L" * 16))
    found = scene.audit()
    assert found.seen.frontier.root() == found.seen.checkpoint.root == scene.log.root()
