from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.errors import MalformedError
from watchword.policy.document import load, parse_digest, parse_hex
from watchword.wire.tpm.algorithms import Alg


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    n: int


class Outer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    items: tuple[Inner, ...]
    names: dict[str, str] = {}


def test_a_good_document() -> None:
    assert load(b'{"items": [{"n": 1}]}', Outer, "thing", 100) == Outer((Inner(1),))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"items": [{"n": 1, "n": 1}]}', "thing: the key 'n' appears twice"),
        (b'{"items": [{"n": 1}], "names": {"a": "", "b": "", "a": ""}}', "the key 'a' appears twice"),
        (b'{"items": [{"n": 1.0}]}', "1.0 is not an integer"),
        (b'{"items": [{"n": 1e3}]}', "1e3 is not an integer"),
        (b'{"items": [{"n": NaN}]}', "NaN is not an integer"),
        (b'{"items": [{"n": -Infinity}]}', "-Infinity is not an integer"),
        (b'{"items": [{"n": true}]}', "thing: items[0].n: "),
        (b'{"items": [{"n": 1}, {"n": "x"}]}', "thing: items[1].n: Expected `int`, got `str`"),
        (b'{"items": [{"n": 1, "m": 2}]}', "thing: items[0]: Object contains unknown field `m`"),
        (b'{"items": [{}]}', "thing: items[0]: Object missing required field `n`"),
        (b"{}", "thing: Object missing required field `items`"),
        (b'{"items": []} x', "thing: line 1 column 15: Extra data"),
        (b'{"items":\n [}', "thing: line 2 column 3: "),
        (b'\xef\xbb\xbf{"items": []}', "thing: line 1 column 1: "),
        (b'{"items": [], "names": {"a": "\xff"}}', "not valid UTF-8"),
        (b'{"items": [], "names": {"a": "\\ud800"}}', "not valid UTF-8"),
        (b'{"items": [{"n": ' + b"9" * 5000 + b"}]}", "number that is too large"),
        (b"[" * 100_000, "nested too deeply"),
        (b"", "thing: line 1 column 1: "),
    ],
)
def test_what_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(MalformedError) as caught:
        load(data, Outer, "thing", 1_000_000)
    assert says in str(caught.value)


def test_size_limit_is_exact() -> None:
    data = b'{"items": []}'
    load(data, Outer, "thing", len(data))
    with pytest.raises(MalformedError, match="is 13 bytes long, 12 are allowed"):
        load(data, Outer, "thing", len(data) - 1)


def test_errors_carry_no_control_characters() -> None:
    with pytest.raises(MalformedError) as caught:
        load(b'{"items": [], "\\u001b[31m": 1}', Outer, "thing", 100)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["00", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 63 + "\n", "٠" * 64])
def test_hex_is_exact(text: str) -> None:
    with pytest.raises(MalformedError, match=r"at\.here: not 64 hex digits"):
        parse_hex("thing", "at.here", text, 32)


def test_digest_names_its_algorithm() -> None:
    assert parse_digest("thing", "", "sha384:" + "ab" * 48) == (Alg.SHA384, b"\xab" * 48)
    for text in ("sha1:" + "ab" * 20, "ab" * 32, "sha256", "sha256:", "SHA256:" + "ab" * 32):
        with pytest.raises(MalformedError):
            parse_digest("thing", "x", text)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_load_or_are_malformed(data: bytes) -> None:
    try:
        load(data, Outer, "thing", 100)
    except MalformedError:
        pass
