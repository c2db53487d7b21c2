from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchword.errors import MalformedError
from watchword.wire import messages as m
from watchword.wire.evidence import Evidence, Purpose, binding
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.pcr import PcrSelection

SELECTIONS = (PcrSelection(Alg.SHA256, (0, 4, 10)),)
EVIDENCE = Evidence(
    host_id=b"h" * 32,
    nonce=b"n" * 48,
    purpose=Purpose.LAUNCH,
    token="WWT1token",
    instance="instance-1",
    attest=b"attest",
    signature=b"signature",
    pcrs={Alg.SHA1: {0: b"1" * 20}, Alg.SHA256: {0: b"a" * 32, 4: b"b" * 32}},
    event_log=b"log",
    ima_from=0,
    ima_log=b"ima",
)
REQUESTS: list[m.Request] = [
    m.EnrolBegin(2, b"cert", b"ek", (b"i1", b"i2"), b"ak"),
    m.EnrolFinish(b"cookie", b"p" * 32),
    m.ChallengeRequest(b"h" * 32, Purpose.ATTEST, ""),
    m.ReleaseRequest(EVIDENCE),
]
REPLIES: list[m.Reply] = [
    m.EnrolChallenge(b"cookie", b"id", b"seed"),
    m.Enrolled(b"h" * 32),
    m.Challenge(b"n" * 48, SELECTIONS, 99, 7, 3),
    m.Challenge(b"n" * 48, SELECTIONS, 99, 0, 3, True),
    m.Attested("degraded", "boot", 1, 99, "runtime-file", "why"),
    m.Attested("trusted", "full", 2, 99, next=m.Challenge(b"n" * 48, SELECTIONS, 99, 7, 3)),
    m.Release(b"pub", b"dup", b"seed", SELECTIONS, 3, 1 << 40, b"payload"),
    m.Refusal("quote-signature", "B4", "no", retry=True),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: type(r).__name__)
def test_requests_round_trip(request_: m.Request) -> None:
    assert m.parse_request(m.encode_request(request_)) == request_


@pytest.mark.parametrize("reply", REPLIES, ids=lambda r: type(r).__name__)
def test_replies_round_trip(reply: m.Reply) -> None:
    assert m.parse_reply(m.encode_reply(reply)) == reply


@pytest.mark.parametrize("message", [*REQUESTS, *REPLIES], ids=lambda r: type(r).__name__)
def test_no_byte_may_be_missing_or_left_over(message: m.Request | m.Reply) -> None:
    data = m._encode(message)
    parse = m.parse_request if message in REQUESTS else m.parse_reply
    for cut in range(len(data)):
        with pytest.raises(MalformedError):
            parse(data[:cut])
    with pytest.raises(MalformedError, match="trailing"):
        parse(data + b"\0")


def test_a_reply_is_not_a_request() -> None:
    with pytest.raises(MalformedError, match="not expected here"):
        m.parse_request(m.encode_reply(REPLIES[1]))


def test_a_next_challenge_is_there_or_not() -> None:
    data = m.encode_reply(m.Attested("trusted", "full", 2, 99))
    with pytest.raises(MalformedError, match="neither 0 nor 1"):
        m.parse_reply(data[:-1] + b"\2" + m.encode_reply(m.Challenge(b"n" * 48, SELECTIONS, 99))[1:])


def test_the_boot_log_is_on_file_or_not() -> None:
    data = m.encode_reply(m.Challenge(b"n" * 48, SELECTIONS, 99))
    with pytest.raises(MalformedError, match="neither 0 nor 1"):
        m.parse_reply(data[:-1] + b"\2")


def test_pcr_values_have_one_encoding() -> None:
    data = EVIDENCE.encode()
    swapped = data.replace(b"\0" + b"a" * 32 + b"\4" + b"b" * 32, b"\4" + b"b" * 32 + b"\0" + b"a" * 32)
    assert swapped != data
    with pytest.raises(MalformedError, match="ascending"):
        Evidence.parse(swapped)


def test_a_refusal_clips_what_it_quotes() -> None:
    reply = m.parse_reply(m.encode_reply(m.Refusal("c", "B1", "é" * 5000)))
    assert isinstance(reply, m.Refusal)
    assert reply.message == "é" * 1000


@pytest.mark.parametrize("field", ["host_id", "nonce", "purpose", "token", "instance", "reply_key", "run"])
def test_the_binding_covers_every_field(field: str) -> None:
    good: dict[str, Any] = {
        "host_id": b"h" * 32,
        "nonce": b"n" * 48,
        "purpose": Purpose.LAUNCH,
        "token": "t",
        "instance": "i",
        "reply_key": b"r" * 32,
        "run": b"u" * 16,
    }
    other = {**good, field: Purpose.ATTEST if field == "purpose" else good[field] + good[field]}
    assert binding(**good) != binding(**other)
    assert len(binding(**good)) == 32


@given(st.binary(max_size=400))
def test_any_bytes_parse_or_are_malformed(data: bytes) -> None:
    for parse, encode in ((m.parse_request, m.encode_request), (m.parse_reply, m.encode_reply)):
        try:
            assert encode(parse(data)) == data  # type: ignore[operator]
        except MalformedError:
            pass


@given(st.integers(0, 2000), st.integers(0, 255))
def test_evidence_with_one_byte_changed_parses_to_itself_or_is_malformed(position: int, value: int) -> None:
    data = bytearray(EVIDENCE.encode())
    data[position % len(data)] = value
    try:
        assert Evidence.parse(bytes(data)).encode() == data
    except MalformedError:
        pass


def test_evidence_is_bounded() -> None:
    with pytest.raises(MalformedError, match="instance"):
        Evidence.parse(dataclasses.replace(EVIDENCE, instance="x" * 256).encode())
