"""Bounds of messages: refused by the message itself, before anything that it holds is looked at."""

from __future__ import annotations

import pytest

from watchword.errors import MalformedError
from watchword.wire import messages as m
from watchword.wire.reader import Writer
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.pcr import PcrSelection, encode_selections

CERTIFICATE = bytes(8192)


def introduction(*intermediates: bytes) -> m.EnrolBegin:
    return m.EnrolBegin(2, b"certificate", b"ek", intermediates, b"ak")


def test_an_introduction_has_eight_intermediates_at_most() -> None:
    eight = introduction(*[b"i"] * 8)
    assert m.parse_request(m.encode_request(eight)) == eight
    with pytest.raises(MalformedError, match="9 intermediate certificates, at most 8"):
        m.parse_request(m.encode_request(introduction(*[b"i"] * 9)))


def test_the_intermediates_of_an_introduction_have_a_size_together() -> None:
    full = introduction(*[CERTIFICATE] * 4)
    assert m.parse_request(m.encode_request(full)) == full
    with pytest.raises(MalformedError, match="more than 32768 bytes together"):
        m.parse_request(m.encode_request(introduction(*[CERTIFICATE] * 4, b"i")))


def test_a_flag_is_zero_or_one() -> None:
    data = m.encode_reply(m.Refusal("code", "B1", "text", retry=True))
    assert data[-1] == 1
    with pytest.raises(MalformedError, match="retry"):
        m.parse_reply(data[:-1] + b"\2")


def test_nothing_may_follow_a_selection() -> None:
    selections = (PcrSelection(Alg.SHA256, (0, 4, 10)),)
    block = encode_selections(selections)
    data = m.encode_reply(m.Challenge(b"n" * 48, selections, 99, 7, 3, True))
    exact, longer = Writer().sized16(block).done(), Writer().sized16(block + b"\0").done()
    assert data.count(exact) == 1
    with pytest.raises(MalformedError, match="PCR selection: 1 trailing bytes"):
        m.parse_reply(data.replace(exact, longer))
