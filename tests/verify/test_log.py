"""What a checkpoint and a proof must lead to: each refusal alone, with nothing else wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from watchword.crypto.keylist import KeyList
from watchword.crypto.note import COSIGNS, cosign, note_key, sign
from watchword.errors import Rejected
from watchword.verify import log
from watchword.wire.merkle import EMPTY_ROOT, leaf_hash, node_hash
from watchword.wire.note import Checkpoint, Note

KEY, WITNESS, SECOND = (Ed25519PrivateKey.generate() for _ in range(3))
PUBLIC = KEY.public_key()
KEYS = KeyList("a", 1, 0, PUBLIC, (PUBLIC,), (X25519PrivateKey.generate().public_key(),), "", (), (PUBLIC,))
ORIGIN = log.log_origin("a")
ONE, TWO = leaf_hash(b"one"), leaf_hash(b"two")
SMALL, LARGE = Checkpoint(ORIGIN, 1, ONE), Checkpoint(ORIGIN, 2, node_hash(ONE, TWO))


def refused(check: Callable[[], object]) -> str:
    with pytest.raises(Rejected) as caught:
        check()
    (finding,) = caught.value.findings
    return f"{finding.clause} {finding.code}"


def test_a_checkpoint_is_of_the_log_of_its_key() -> None:
    assert log.verify_checkpoint(sign(SMALL.encode(), ORIGIN, KEY).encode(), KEYS).checkpoint == SMALL
    other = Checkpoint("b/watchword-log", 1, ONE)
    assert refused(lambda: log.verify_checkpoint(sign(other.encode(), ORIGIN, KEY).encode(), KEYS)) == (
        "T1 checkpoint-origin"
    )
    assert refused(lambda: log.verify_checkpoint(sign(SMALL.encode(), ORIGIN, WITNESS).encode(), KEYS)) == (
        "T1 checkpoint-signature"
    )


def test_enough_witnesses() -> None:
    text = SMALL.encode()
    note = Note(text, (*sign(text, ORIGIN, KEY).signatures, cosign(text, "w", WITNESS, 7)))
    known = [note_key("w", WITNESS.public_key(), COSIGNS), note_key("v", SECOND.public_key(), COSIGNS)]
    assert [(each.witness.name, each.time) for each in log.check_witnesses(note, known, 1)] == [("w", 7)]
    assert refused(lambda: log.check_witnesses(note, known, 2)) == "T5 log-witnesses"
    assert log.check_witnesses(note, known[1:], 0) == []


def test_an_entry_is_where_it_is_said_to_be() -> None:
    log.check_inclusion(1, b"two", [ONE], LARGE)
    assert refused(lambda: log.check_inclusion(0, b"two", [ONE], LARGE)) == "T2 log-inclusion"


def test_a_log_only_grows() -> None:
    log.check_growth(SMALL, LARGE)
    log.check_growth(SMALL, SMALL)
    assert refused(lambda: log.check_growth(LARGE, SMALL)) == "T4 log-rollback"
    assert refused(lambda: log.check_growth(SMALL, Checkpoint(ORIGIN, 1, TWO))) == "T3 log-fork"


def test_a_log_grows_out_of_what_it_was() -> None:
    log.check_consistency(SMALL, LARGE, [TWO])
    log.check_consistency(Checkpoint(ORIGIN, 0, EMPTY_ROOT), LARGE, [])
    assert refused(lambda: log.check_consistency(SMALL, LARGE, [ONE])) == "T3 log-fork"
    assert refused(lambda: log.check_consistency(Checkpoint(ORIGIN, 1, TWO), LARGE, [TWO])) == "T3 log-fork"
    assert refused(lambda: log.check_consistency(LARGE, SMALL, [TWO])) == "T4 log-rollback"
    assert refused(lambda: log.check_consistency(SMALL, Checkpoint(ORIGIN, 1, TWO), [])) == "T3 log-fork"
    empty = Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    assert refused(lambda: log.check_consistency(empty, Checkpoint(ORIGIN, 0, ONE), [])) == "T3 log-fork"
