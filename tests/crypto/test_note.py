"""Signed notes against other people's, and cosignatures."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.conftest import ROOT

from watchword.crypto import note as n
from watchword.errors import MalformedError, Rejected
from watchword.wire.note import Checkpoint, Note, NoteKey, NoteSignature

CASES = ROOT.parent / "shared" / "corpus" / "golang+mod" / "note" / "signed_note_cases.json"
KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
TEXT = Checkpoint("log.example", 7, b"r" * 32).encode()


def test_other_peoples_notes() -> None:
    if not CASES.exists():
        pytest.skip("the shared corpus (../shared/corpus) is not here")
    cases = json.loads(CASES.read_text())
    key = n.parse_key(cases["vkey"], n.SIGNS)
    note = Note.parse(cases["valid"].encode())
    assert n.verify(note, [key]) == key
    assert note.encode().decode() == cases["valid"]
    for text in cases["malformed"]:
        with pytest.raises(MalformedError):
            Note.parse(text.encode())
    with pytest.raises(Rejected):
        n.verify(Note.parse(cases["valid"].replace("cryptography", "magic").encode()), [key])


def test_a_note_is_signed_by_whom_we_know() -> None:
    note = Note.parse(n.sign(TEXT, "log.example", KEY).encode())
    key = n.note_key("log.example", KEY.public_key())
    assert n.verify(note, [n.note_key("x", OTHER.public_key()), key]) == key
    assert NoteKey.parse(key.encode()) == key
    for stranger in (n.note_key("log.example", OTHER.public_key()), n.note_key("other", KEY.public_key())):
        with pytest.raises(Rejected) as caught:
            n.verify(note, [stranger])
        assert (caught.value.clause, caught.value.code) == ("T1", "checkpoint-signature")


def test_a_signature_that_does_not_fit() -> None:
    note = n.sign(TEXT, "log.example", KEY)
    key = n.note_key("log.example", KEY.public_key())
    with pytest.raises(Rejected, match="does not fit"):
        n.verify(Note(TEXT.replace("7", "8"), note.signatures), [key])


def test_cosignatures() -> None:
    note = n.sign(TEXT, "log.example", KEY)
    line = n.cosign(TEXT, "witness.example", OTHER, 1234)
    both = Note.parse(Note(TEXT, (*note.signatures, line, line)).encode())
    witness = n.note_key("witness.example", OTHER.public_key(), n.COSIGNS)
    assert [(each.witness, each.time) for each in n.cosigned_by(both, [witness])] == [(witness, 1234)]
    assert n.cosigned_by(note, [witness]) == []
    late = NoteSignature(line.name, line.key_id, (1235).to_bytes(8, "big") + line.signature[8:])
    for wrong, error in ((late, Rejected), (NoteSignature(line.name, line.key_id, b"short"), MalformedError)):
        with pytest.raises(error):
            n.cosigned_by(Note(TEXT, (wrong,)), [witness])


@pytest.mark.parametrize("text", ["", "a+b", "a b+00000000+AQ==", "a+0000000g+AQ==", "a+00000000+AQ==", "a+00000000+!"])
def test_no_key(text: str) -> None:
    with pytest.raises(MalformedError):
        NoteKey.parse(text)


def test_a_key_has_its_own_id_and_kind() -> None:
    good = n.note_key("a", KEY.public_key())
    assert n.parse_key(good.encode(), n.SIGNS) == good
    for text, kind in ((good.encode(), n.COSIGNS), (good.encode().replace(good.key_id.hex(), "00000000"), n.SIGNS)):
        with pytest.raises(MalformedError):
            n.parse_key(text, kind)


@pytest.mark.parametrize(
    "text",
    ["", "o\n", "o\n1\n", "o\n01\nAA==\n", "o\n-1\n" + "A" * 43 + "=\n", "o\n1\n" + "A" * 44 + "\n", "o\n1\nAAAA\n",
     "o\n1\n" + "A" * 43 + "=", "o\n1\n" + "A" * 43 + "=\n\n", "o\n99999999999999999999\n" + "A" * 43 + "=\n"],
)  # fmt: skip
def test_no_checkpoint(text: str) -> None:
    with pytest.raises(MalformedError):
        Checkpoint.parse(text)


def test_a_checkpoint_may_say_more() -> None:
    text = TEXT + "extension\n"
    assert Checkpoint.parse(text).extensions == ("extension",)
    assert Checkpoint.parse(text).encode() == text


@pytest.mark.parametrize("data", [b"\xff", b"a\n\n", b"a\n\n\xe2\x80\x94 k AAAA\n", b"x" * 70000,
                                  b"a\n\n" + "— k AAAAAAA=\n".encode() * 101])  # fmt: skip
def test_no_note(data: bytes) -> None:
    with pytest.raises(MalformedError):
        Note.parse(data)
