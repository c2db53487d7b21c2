"""Run as a program: releases against a store, or rotates keys, and is killed at a named point on the way.

    child.py release STORE ALLOWED TRIES POINT
    child.py rotate KEYRING KIND

A point is where SIGKILL strikes: "after_begin", "after_use_nonce", "after_count_release", "after_append_decision",
"before_commit", "after_commit", or "" for none. A rotation is tried in a forked process that is killed at its first
rename, fsync or unlink, then at its second, and so on until one runs to its end; each line tells what was left.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from watchword.authority.keys.keyring import Keyring
from watchword.authority.store import DatabaseUrl, Decision, Store, Transaction

NOW = 1_800_000_000
TOKEN = b"t" * 32


def die(point: str) -> None:
    """Be killed here, if this is the point: no clean-up, no flush, as when the power goes."""
    if point == sys.argv[-1]:
        os.kill(os.getpid(), signal.SIGKILL)


class DyingTransaction(Transaction):
    def use_nonce(self, nonce_id: bytes, expires: int, era: bytes = b"") -> bool:
        fresh = super().use_nonce(nonce_id, expires, era)
        die("after_use_nonce")
        return fresh

    def count_release(self, token_id: bytes) -> int:
        count = super().count_release(token_id)
        die("after_count_release")
        return count

    def append_decision(self, time: int, launch_key: bytes, entry: bytes) -> Decision:
        decision = super().append_decision(time, launch_key, entry)
        die("after_append_decision")
        return decision


class DyingStore(Store):
    def _make_transaction(self, connection: Connection) -> Transaction:
        die("after_begin")
        return DyingTransaction(connection)

    def _before_commit(self) -> None:
        die("before_commit")

    def _after_commit(self) -> None:
        die("after_commit")


def release_once(store: Store, allowed: int) -> int:
    """One release as the service does it; the number of the release, or 0 when none is left."""
    with store.transaction() as tx:
        if not tx.use_nonce(os.urandom(32), NOW + 120) or tx.releases(TOKEN) >= allowed:
            return 0
        number = tx.count_release(TOKEN)
        tx.append_decision(NOW, b"", json.dumps({"time": NOW, "release": number}).encode())
    return number


def release(where: str, allowed: str, tries: str, _point: str) -> None:
    with DyingStore.open(DatabaseUrl(where) if "://" in where else Path(where)) as store:
        for _ in range(int(tries)):
            number = release_once(store, int(allowed))
            if number:
                print("released", number, flush=True)  # what leaves, leaves after the transaction


def rotate(directory: str, kind: str) -> None:
    for number in range(1, 100):
        pid = os.fork()
        if pid == 0:
            rotate_and_die(Path(directory), kind, number)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        ring = Keyring.load(Path(directory))  # old or new, but whole
        seen = [status, ring.key_list.version, ring.fingerprint, [name.hex() for name in ring.sealing_keys]]
        print(json.dumps(seen), flush=True)
        if status == 0:
            return


def rotate_and_die(directory: Path, kind: str, number: int) -> None:
    ring = Keyring.load(directory)
    left = number

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return wrapper

    for name in ("rename", "fsync", "unlink"):
        setattr(os, name, counted(getattr(os, name)))
    getattr(ring, f"rotate_{kind}")(NOW + 1)


if __name__ == "__main__":
    {"release": release, "rotate": rotate}[sys.argv[1]](*sys.argv[2:])
