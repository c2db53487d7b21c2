"""The log: what an entry costs when it is added, and a receipt when it is made and checked."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Figure, measure
from watchword.authority.publishing.log import PublicLog
from watchword.authority.store import Store
from watchword.authority.store.record import Place, next_decision
from watchword.crypto.note import sign
from watchword.launch.receipt import make_receipt, verify_receipt
from watchword.testing.world import World
from watchword.wire.merkle import Frontier, leaf_hash

__all__ = ["run"]

ENTRIES = 20_000
_KEY = b"k" * 32


def run(world: World) -> Iterator[Figure]:
    """All figures; ``world`` has one decision to make receipts of."""
    with tempfile.TemporaryDirectory(prefix="ww-bench-") as folder, Store.open(Path(folder) / "log.sqlite") as store:
        [decision] = list(world.store.decisions())[-1:]
        with store.transaction() as tx:
            for number in range(ENTRIES):
                tx.append_decision(0, b"%032d" % number, decision.entry)
            yield measure(
                "log append", lambda: tx.append_decision(0, _KEY, decision.entry), note="one row, in a transaction"
            )
        tree = Frontier()
        for leaf in store.leaves(0, ENTRIES):
            tree, _ = tree.append(leaf_hash(leaf))
        place = Place(tree, 1, bytes(64))
        note = f"commitment, tag, leaf and frontier after {ENTRIES} entries"
        yield measure("log hashing", lambda: next_decision(place, 0, _KEY, decision.entry, b""), note=note)
        log = PublicLog(store)
        text = log.newest(world.keys).text
        yield measure("checkpoint sign", lambda: sign(text, "log", world.keys.log_key))
        [entry] = list(world.store.decisions())[-1:]
        found = PublicLog(world.store)
        [position] = found.positions(world.keys, [entry])
        receipt = make_receipt(world.keys.key_list.authority, entry.entry, position, world.keys.signing_key)
        last = next(iter(store.decisions(after=ENTRIES - 1)))
        yield measure("inclusion proof", lambda: log.positions(world.keys, [last]), note=f"out of {ENTRIES} entries")
        yield measure("receipt verify", lambda: verify_receipt(receipt, world.keys.key_list), note="two signatures")
