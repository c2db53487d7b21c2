"""Clauses K2 and K6: what a root that is kept elsewhere signs, and what an authority installs."""

from __future__ import annotations

from .mutation import Mutation

_REQUEST, _RECORD, _RING = "crypto/root_request.py", "crypto/root_record.py", "authority/keys/rotations.py"
_ROOT_TESTS = ("tests/authority/test_offline_root.py",)

_WATER, _LAUNCHES, _WITNESS, _TOKEN = (
    "authority/keys/high_water.py",
    "authority/deciding/launches.py",
    "authority/publishing/witness.py",
    "crypto/token.py",
)
_BACKUP, _RECOVERY = "authority/upkeep/backup.py", "authority/upkeep/recovery.py"
_BACKUP_TESTS = ("tests/authority/test_backup.py",)


def _recovery(name: str) -> tuple[str, ...]:
    return (f"tests/authority/test_recovery.py::{name}",)


MUTATIONS = (
    Mutation(
        "F1",
        _TOKEN,
        "    if token.key_id in void:",
        "    if False:",
        _recovery("test_a_backup_does_not_give_a_release_back"),
    ),
    Mutation(
        "F4",
        _WATER,
        "        if then is None or then.root != mark.root:",
        "        if False:",
        _recovery("test_a_store_copied_back_by_hand"),
    ),
    Mutation(
        "F4",
        _LAUNCHES,
        "            self._water.advance(keys, entry)",
        "            pass",
        _recovery("test_a_store_copied_back_by_hand"),
    ),
    Mutation(
        "F4",
        "cli/authority.py",
        "        HighWater(store).check(directory.keyring)\n",
        "",
        _recovery("test_a_backup_does_not_give_a_release_back"),
    ),
    Mutation("F4", _BACKUP, '        put_hold(ring.directory, Hold("restored", now, detail))\n', "", _BACKUP_TESTS),
    Mutation(
        "F4",
        _WITNESS,
        "        if told and int(told[1]) > self._store.head().seq:",
        "        if False:",
        _recovery("test_everything_copied_back_by_hand_is_seen_by_a_witness"),
    ),
    Mutation(
        "F4",
        _RECOVERY,
        "        if then is None or then.root != known.root:",
        "        if False:",
        _recovery("test_everything_copied_back_by_hand_is_seen_by_a_witness"),
    ),
    Mutation("F5", _BACKUP, "    if _digest(file) != unpacked.contents.store:", "    if False:", _BACKUP_TESTS),
    Mutation(
        "F5",
        _BACKUP,
        "    if (head.seq, head.root.hex()) != (unpacked.contents.entries, unpacked.contents.root):",
        "    if False:",
        _BACKUP_TESTS,
    ),
    Mutation("K2", _REQUEST, "            if proposed.version != 1:", "            if False:", _ROOT_TESTS),
    Mutation("K2", _REQUEST, "        keylist.check_next(previous, proposed)\n", "", _ROOT_TESTS),
    Mutation(
        "K2",
        _REQUEST,
        "        keylist.verify_chain([self.before], keylist.root_fingerprint(previous.root))\n",
        "",
        _ROOT_TESTS,
    ),
    Mutation(
        "K2",
        _RING,
        "    keylist.verify_chain([text.encode() for text in lists], manifest.fingerprint)\n",
        "",
        _ROOT_TESTS,
    ),
    Mutation("K6", _REQUEST, " or keylist.root_fingerprint(public) not in roots:", ":", _ROOT_TESTS),
    Mutation("K6", _RECORD, "        if keys.version > version or", "        if True or", _ROOT_TESTS),
    Mutation(
        "K6",
        _RECORD,
        "        if keys.version > version or (keys.version == version and (",
        "        if keys.version > version or ((",
        _ROOT_TESTS,
    ),
    Mutation("K6", _RING, "    if request.lists()[1].encode() != asked.encode():", "    if False:", _ROOT_TESTS),
)
