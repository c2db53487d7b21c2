"""Texts of a split secret: the launch set, and tokens and set together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchword.errors import MalformedError
from watchword.wire.share import Bundle, SealedSet, check_numbers

SET = SealedSet(2, 3, bytes(64))
LARGEST = SealedSet(8, 8, bytes(144))


def test_a_set_fits_one_metadata_value() -> None:
    for each in (SET, LARGEST):
        assert SealedSet.parse(each.text()) == each
    assert len(LARGEST.text()) == 199
    assert SET.text().startswith("WWS1")


@pytest.mark.parametrize(
    "text",
    ["", "WWS1", "WWT1" + SET.text()[4:], SET.text()[:-4], SET.text() + "AAAA", SET.text() + "=", SET.text() + "\n",
     "WWS1" + "A" * 300, SealedSet(1, 2, bytes(48)).text(), SealedSet(2, 4, bytes(80)).text(), "WWS1é"],
)  # fmt: skip
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        SealedSet.parse(text)


def test_one_set_has_one_text() -> None:
    text = SealedSet(2, 2, bytes(48)).text()
    last = chr(ord(text[-1]) + 1)
    with pytest.raises(MalformedError, match="unused bits"):
        SealedSet.parse(text[:-1] + last)


@pytest.mark.parametrize(("threshold", "count"), [(2, 2), (2, 3), (3, 4), (3, 5), (5, 8), (8, 8)])
def test_numbers_that_make_a_set(threshold: int, count: int) -> None:
    assert check_numbers(threshold, count) == ""


@pytest.mark.parametrize(("threshold", "count"), [(1, 1), (1, 2), (2, 4), (4, 8), (3, 2), (0, 0), (5, 9), (9, 9)])
def test_numbers_that_make_none(threshold: int, count: int) -> None:
    """Half of the shares or fewer: two machines could have enough of them at the same time."""
    assert check_numbers(threshold, count)


def test_one_token_is_a_bundle() -> None:
    assert Bundle.parse(" WWT1abc\n") == Bundle(("WWT1abc",))
    assert Bundle.parse("") == Bundle(("",))
    assert Bundle.parse("no token") == Bundle(("no token",))


def test_tokens_and_set_in_any_order() -> None:
    found = Bundle.parse(f"WWT1a\n{SET.text()}\n\nWWT1b WWT1c\n")
    assert found == Bundle(("WWT1a", "WWT1b", "WWT1c"), SET.text())
    assert Bundle.parse(found.text()) == found


@pytest.mark.parametrize(
    "text", ["WWT1a WWT1b", "WWS1x", "a WWS1x", "a b WWS1x WWS1y", " ".join("abcdefghi") + " WWS1x"]
)
def test_tokens_that_do_not_go_together(text: str) -> None:
    with pytest.raises(MalformedError) as caught:
        Bundle.parse(text)
    assert caught.value.code == "bundle"


def test_a_bundle_is_bounded() -> None:
    with pytest.raises(MalformedError, match="more than"):
        Bundle.parse("a " * 2000)


@given(st.text(max_size=300) | st.binary(max_size=190).map(lambda data: SealedSet(2, 3, data).text()))
def test_any_text_parses_or_is_malformed(text: str) -> None:
    try:
        assert SealedSet.parse(text).text() == text
    except MalformedError:
        pass
