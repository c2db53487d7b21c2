from __future__ import annotations

import json

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from watchword.crypto import dsse
from watchword.crypto.keylist import KeyList
from watchword.crypto.note import sign
from watchword.errors import Finding, MalformedError, Rejected
from watchword.launch import receipt as r
from watchword.testing.memory_log import MemoryLog
from watchword.verify.log import log_origin
from watchword.wire.note import Checkpoint

SIGNER, OTHER, LOG_KEY = (Ed25519PrivateKey.generate() for _ in range(3))
LAUNCH = r.launch_key(b"L" * 16)
KEYS = KeyList(
    authority="authority.example",
    version=1,
    issued=0,
    root=OTHER.public_key(),
    signing=(SIGNER.public_key(),),
    sealing=(X25519PrivateKey.generate().public_key(),),
    tls_ca="",
    log=(LOG_KEY.public_key(),),
)
DECISION = r.Decision(
    outcome="released", time=1, launch=LAUNCH.hex(), token="bb", instance="vm", profile="cc", inputs="dd", level="gold",
    rank=2, required=2, stack=r.StackRecord("s", "1", "ee"), host="ff", releases=1, allowed=1, lease=120, evidence="00",
)  # fmt: skip


def make(entry: bytes = DECISION.encode(), authority: str = KEYS.authority, key: Ed25519PrivateKey = SIGNER) -> bytes:
    log = MemoryLog(authority, LOG_KEY)
    for number in range(6):
        log.append(b"%d" % number)
    return log.receipt(entry, LAUNCH, key)


def test_a_receipt_verifies_offline() -> None:
    receipt = r.verify_receipt(make(), KEYS)
    assert receipt.decision == DECISION
    assert (receipt.log.seq, receipt.log.number) == (7, 1)
    assert receipt.checkpoint is not None
    assert receipt.checkpoint.size == 7
    assert receipt.key_ids == {dsse.key_id(SIGNER.public_key())}


def test_a_retired_key_still_vouches_for_old_receipts() -> None:
    rotated = KeyList(KEYS.authority, 2, 0, KEYS.root, (OTHER.public_key(),), KEYS.sealing, "", (SIGNER.public_key(),),
                      KEYS.log)  # fmt: skip
    assert r.verify_receipt(make(), rotated).decision.outcome == "released"


def test_forged_receipt() -> None:
    with pytest.raises(Rejected) as caught:
        r.verify_receipt(make(key=OTHER), KEYS)
    assert caught.value.code == "document-signers"


def test_a_receipt_of_another_authority_is_refused() -> None:
    with pytest.raises(Rejected) as caught:
        r.verify_receipt(make(authority="elsewhere.example"), KEYS)
    assert caught.value.code == "receipt-authority"


def resigned(change: dict[str, object]) -> bytes:
    payload = json.loads(dsse.open_unverified(make())[1])
    return dsse.sign(json.dumps({**payload, **change}).encode(), r.PAYLOAD_TYPE, [SIGNER])


def relocated(**change: object) -> bytes:
    """A receipt that the authority's own key signed, with another place in the log."""
    payload = json.loads(dsse.open_unverified(make())[1])
    payload["log"] |= change
    return dsse.sign(json.dumps(payload).encode(), r.PAYLOAD_TYPE, [SIGNER])


def refused(envelope: bytes) -> tuple[str, str]:
    with pytest.raises(Rejected) as caught:
        r.verify_receipt(envelope, KEYS)
    return caught.value.clause, caught.value.code


def test_the_entry_must_be_the_one_in_the_log() -> None:
    other = msgspec.structs.replace(DECISION, rank=9).encode().decode()
    assert refused(resigned({"entry": other})) == ("R2", "receipt-commitment")
    assert refused(relocated(salt="00" * 32)) == ("R2", "receipt-commitment")


def test_the_entry_must_be_where_its_launch_looks() -> None:
    assert refused(relocated(number=2)) == ("R3", "receipt-tag")


def test_the_proof_must_lead_to_the_checkpoint() -> None:
    proof = json.loads(dsse.open_unverified(make())[1])["log"]["proof"]
    assert refused(relocated(proof=["00" * 32, *proof[1:]])) == ("T2", "log-inclusion")


def test_the_checkpoint_must_be_that_of_the_authoritys_log() -> None:
    log = MemoryLog(KEYS.authority, OTHER)
    assert refused(relocated(checkpoint=log.checkpoint().decode())) == ("T1", "checkpoint-signature")
    origin = log_origin(KEYS.authority)
    elsewhere = sign(Checkpoint("elsewhere", 1, bytes(32)).encode(), origin, LOG_KEY).encode().decode()
    assert refused(relocated(checkpoint=elsewhere)) == ("T1", "checkpoint-origin")


@pytest.mark.parametrize(
    "change",
    [
        {"index": -1},
        {"index": 1 << 63},
        {"index": 7},
        {"number": 0},
        {"salt": "zz"},
        {"salt": "00"},
        {"leaf": "00"},
        {"proof": []},
        {"proof": ["00" * 32] * 65},
        {"proof": ["00"] * 3},
        {"checkpoint": "x"},
        {"more": 1},
    ],
)
def test_an_impossible_place_in_the_log_is_malformed(change: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        r.verify_receipt(relocated(**change), KEYS)


@pytest.mark.parametrize("change", [{"format": "x"}, {"entry": "{}"}, {"entry": "["}, {"extra": 1}])
def test_a_signed_document_that_is_no_receipt_is_malformed(change: dict[str, object]) -> None:
    if "entry" in change:
        entry = str(change["entry"]).encode()
        with pytest.raises(MalformedError):
            r.verify_receipt(make(entry), KEYS)
    else:
        with pytest.raises(MalformedError):
            r.verify_receipt(resigned(change), KEYS)


@pytest.mark.parametrize("change", [{"outcome": "maybe"}, {"format": "watchword-decision/2"}])
def test_a_decision_of_another_kind_is_malformed(change: dict[str, str]) -> None:
    with pytest.raises(MalformedError):
        r.Decision.parse(msgspec.structs.replace(DECISION, **change).encode())


def test_findings_in_a_decision_are_clipped() -> None:
    record = r.FindingRecord.of(Finding("D5", "runtime-file", "m", actual="x" * 100_000))
    assert len(record.actual) == 400


def test_a_receipt_does_not_name_the_host() -> None:
    record = r.FindingRecord.of(Finding("A5", "host-revoked", "revoked", "x", "host id", "host id"))
    assert (record.clause, record.code) == ("A5", "host-revoked")
    assert (record.expected, record.actual, record.subject) == ("", "", "")
