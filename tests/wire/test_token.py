from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchword.errors import MalformedError
from watchword.wire.share import SharePlace
from watchword.wire.token import MAX_TEXT, Token, TokenBody, token_id

BODY = TokenBody(b"s" * 32, b"l" * 16, b"i" * 32, b"p" * 32, expires=1 << 40, releases=3, level=2)
SHARE = dataclasses.replace(BODY, place=SharePlace(1, 2, 3))
TOKEN = Token(1, b"kkkk", bytes(48 + len(BODY.encode())))


def test_body_round_trip() -> None:
    assert TokenBody.parse(BODY.encode()) == BODY


def test_a_whole_token_fits_one_metadata_value() -> None:
    text = TOKEN.text()
    assert len(text) == 244 <= MAX_TEXT
    assert text.startswith("WWT1")
    assert Token.parse(text) == TOKEN


def test_a_body_never_shows_its_secret() -> None:
    secret = bytes(range(32))
    assert secret.hex() not in repr(dataclasses.replace(BODY, secret=secret))
    assert "ssss" not in repr(BODY)


@pytest.mark.parametrize("change", [{"releases": 0}, {"level": 0}, {"flags": 1}], ids=lambda c: next(iter(c)))
def test_a_body_that_means_nothing_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(MalformedError):
        TokenBody.parse(dataclasses.replace(BODY, **change).encode())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "WWT1",
        "WWT2" + TOKEN.text()[4:],
        TOKEN.text() + "A" * 12,
        TOKEN.text() + "\n",
        TOKEN.text().replace("A", "+", 1),
        TOKEN.text() + "=",
        "WWT1" + "A" * 20,
        " " + TOKEN.text(),
        "W" * 10_000,
        "WWT1é",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        Token.parse(text)


def test_a_text_that_is_no_token_is_told_so() -> None:
    with pytest.raises(MalformedError, match="does not start with WWT1"):
        Token.parse("WWT2" + TOKEN.text()[4:])


def test_nothing_may_follow_a_body() -> None:
    with pytest.raises(MalformedError):
        TokenBody.parse(BODY.encode() + b"\0")
    with pytest.raises(MalformedError, match="1 trailing bytes"):
        TokenBody.parse(SHARE.encode() + b"\0")


def test_a_share_says_which_it_is_and_fits_too() -> None:
    assert TokenBody.parse(SHARE.encode()) == SHARE
    assert len(Token(2, b"kkkk", bytes(48 + len(SHARE.encode()))).text()) == 246 <= MAX_TEXT


@pytest.mark.parametrize("place", [b"\0\2\3", b"\4\2\3", b"\1\1\1", b"\1\1\2", b"\1\2\4", b"\1\4\3", b"\1\5\11"])
def test_a_share_of_no_possible_set_is_refused(place: bytes) -> None:
    with pytest.raises(MalformedError):
        TokenBody.parse(SHARE.encode()[:-3] + place)


@pytest.mark.parametrize("ending", [b"\1\0", b"\0\2", b"\1\2"])
def test_a_body_is_a_whole_secret_or_says_which_share_it_is(ending: bytes) -> None:
    with pytest.raises(MalformedError, match="neither"):
        TokenBody.parse(BODY.encode()[:-2] + ending)


def test_one_token_has_one_text() -> None:
    """The last character has unused bits: if they counted, one token had several ids and could be released again."""
    text = Token(1, b"kkkk", bytes(50)).text()
    last = chr(ord(text[-1]) + 1)
    with pytest.raises(MalformedError, match="unused bits"):
        Token.parse(text[:-1] + last)
    assert token_id(text) != token_id(text[:-1] + last)


@given(st.text(max_size=300) | st.binary(max_size=190).map(lambda b: Token(1, b"abcd", b).text()))
def test_any_text_parses_or_is_malformed(text: str) -> None:
    try:
        assert Token.parse(text).text() == text
    except MalformedError:
        pass


@given(st.binary(max_size=200))
def test_any_body_parses_or_is_malformed(data: bytes) -> None:
    try:
        assert TokenBody.parse(data).encode() == data
    except MalformedError:
        pass
