from __future__ import annotations

import json

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from watchword.crypto import dsse
from watchword.crypto.keylist import KeyList
from watchword.errors import Finding, MalformedError, Rejected
from watchword.launch import receipt as r

SIGNER, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
KEYS = KeyList(
    authority="authority.example",
    version=1,
    issued=0,
    root=OTHER.public_key(),
    signing=(SIGNER.public_key(),),
    sealing=(X25519PrivateKey.generate().public_key(),),
    tls_ca="",
)
DECISION = r.Decision(
    outcome="released", time=1, launch="aa", token="bb", instance="vm", profile="cc", inputs="dd", level="gold", rank=2,
    required=2, stack=r.StackRecord("s", "1", "ee"), host="ff", releases=1, allowed=1, lease=120, evidence="00",
)  # fmt: skip


def make(entry: bytes = DECISION.encode(), authority: str = KEYS.authority, key: Ed25519PrivateKey = SIGNER) -> bytes:
    return r.make_receipt(authority, entry, 7, b"p" * 32, key)


def test_a_receipt_verifies_offline() -> None:
    receipt = r.verify_receipt(make(), KEYS)
    assert receipt.decision == DECISION
    assert receipt.log.seq == 7
    assert receipt.key_ids == {dsse.key_id(SIGNER.public_key())}


def test_a_retired_key_still_vouches_for_old_receipts() -> None:
    rotated = KeyList(KEYS.authority, 2, 0, KEYS.root, (OTHER.public_key(),), KEYS.sealing, "", (SIGNER.public_key(),))
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


def test_the_entry_must_be_the_one_in_the_log() -> None:
    other = msgspec.structs.replace(DECISION, rank=9).encode().decode()
    with pytest.raises(Rejected) as caught:
        r.verify_receipt(resigned({"entry": other}), KEYS)
    assert caught.value.code == "receipt-log"


@pytest.mark.parametrize(
    "log",
    [
        {"seq": 0, "previous": "00" * 32, "hash": ""},
        {"seq": 1 << 64, "previous": "00" * 32, "hash": ""},
        {"seq": 1, "previous": "zz", "hash": ""},
        {"seq": 1, "previous": "00", "hash": ""},
        {"seq": 1, "previous": "00" * 32, "hash": "", "more": 1},
    ],
)
def test_an_impossible_place_in_the_log_is_malformed(log: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        r.verify_receipt(resigned({"log": log}), KEYS)


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


def test_a_chain_hash_depends_on_everything() -> None:
    assert len({r.chain_hash(1, b"a" * 32, b"x"), r.chain_hash(2, b"a" * 32, b"x"), r.chain_hash(1, b"b" * 32, b"x"),
                r.chain_hash(1, b"a" * 32, b"y")}) == 4  # fmt: skip


def test_findings_in_a_decision_are_clipped() -> None:
    record = r.FindingRecord.of(Finding("D5", "runtime-file", "m", actual="x" * 100_000))
    assert len(record.actual) == 400


def test_a_receipt_does_not_name_the_host() -> None:
    record = r.FindingRecord.of(Finding("A5", "host-revoked", "revoked", "x", "host id", "host id"))
    assert (record.clause, record.code) == ("A5", "host-revoked")
    assert (record.expected, record.actual, record.subject) == ("", "", "")
