"""What a session and a frame refuse, without a TPM: the other side holds the key and still breaks a rule."""

from __future__ import annotations

import hmac

import pytest

from watchword.agent.tpm.commands import Channel, Code, Entity
from watchword.agent.tpm.errors import TpmError
from watchword.agent.tpm.salt import protect_salt
from watchword.agent.tpm.sessions import Password, Session
from watchword.errors import MalformedError
from watchword.wire.reader import Reader
from watchword.wire.tpm.algorithms import Alg, digest
from watchword.wire.tpm.templates import AK_TEMPLATE, EkKind, ek_template

KEY, HANDLE = b"k" * 32, 0x03000000
CODE = Code.UNSEAL


def answer(session: Session, nonce: bytes, attributes: int = 1, key: bytes = KEY) -> tuple[bytes, int, bytes]:
    """What a TPM that knows the session key answers to the command that ``session`` sent last."""
    reader = Reader(session.command(CODE, b"name", b""), "TPMS_AUTH_COMMAND")
    assert reader.u32() == HANDLE
    nonce_caller = reader.sized16(64, "nonce")
    rp_hash = digest(Alg.SHA256, bytes(4), CODE.to_bytes(4, "big"), b"parameters")
    return nonce, attributes, hmac.digest(key, rp_hash + nonce + nonce_caller + bytes([attributes]), "sha256")


def test_the_right_answer_is_accepted_once() -> None:
    session = Session(HANDLE, KEY, b"n" * 32, Alg.SHA256)
    good = answer(session, b"m" * 32)
    session.check(CODE, b"parameters", *good)
    session.command(CODE, b"name", b"")  # the next command has another nonce: the old answer is worth nothing
    with pytest.raises(TpmError):
        session.check(CODE, b"parameters", *good)


@pytest.mark.parametrize(
    ("nonce", "attributes", "key"),
    [(b"m" * 15, 1, KEY), (b"m" * 32, 0x41, KEY), (b"m" * 32, 0, KEY), (b"m" * 32, 1, b"x" * 32)],
    ids=["short nonce", "says it encrypted", "says it ended", "another key"],
)
def test_a_response_that_breaks_one_rule(nonce: bytes, attributes: int, key: bytes) -> None:
    session = Session(HANDLE, KEY, b"n" * 32, Alg.SHA256)
    with pytest.raises(TpmError) as caught:
        session.check(CODE, b"parameters", *answer(session, nonce, attributes, key))
    assert caught.value.code == "tpm-response-forged"


@pytest.mark.parametrize(("nonce", "proof"), [(b"n" * 16, b""), (b"", b"h" * 32)])
def test_a_password_is_answered_with_nothing(nonce: bytes, proof: bytes) -> None:
    with pytest.raises(TpmError):
        Password(b"word").check(CODE, b"", nonce, 1, proof)
    assert "opensesame" not in repr(Password(b"opensesame"))


def test_no_salt_goes_to_a_key_that_is_none() -> None:
    for template in (AK_TEMPLATE, ek_template(EkKind.P256), ek_template(EkKind.RSA2048)):
        with pytest.raises(MalformedError):
            protect_salt(template)  # the unique field of a template is no key


class Canned:
    """A transport that has one answer."""

    def __init__(self, response: bytes) -> None:
        self.response = response

    def send(self, command: bytes) -> bytes:
        return self.response

    def close(self) -> None:
        """Nothing to close."""


SUCCESS = "00000000"


@pytest.mark.parametrize(
    ("response", "auths"),
    [
        ("80010000000b" + SUCCESS, ()),
        ("80020000000a" + SUCCESS, ()),
        ("80010000000a" + SUCCESS, (Password(),)),
        ("800200000014" + SUCCESS + "000000000000010000ff", (Password(),)),
        ("80020000000e" + SUCCESS + "00000005", (Password(),)),
    ],
    ids=["size", "sessions unasked", "sessions dropped", "trailing byte", "parameters too long"],
)
def test_a_frame_that_breaks_one_rule(response: str, auths: tuple[Password, ...]) -> None:
    with pytest.raises(MalformedError):
        Channel(Canned(bytes.fromhex(response))).run(Code.QUOTE, (Entity.of(0x80000000),), b"", auths)
