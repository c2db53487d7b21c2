from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.errors import MalformedError
from watchword.policy.document import load, parse_digest, parse_hex
from watchword.policy.profile import Profile
from watchword.policy.stack import CompiledStack
from watchword.testing.documents import PROFILE, STACK, changed, encode
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
        (b'{"items": [{"n": 1, "m": 2}]}', "thing: items[0].m: unknown field 'm'; known here: n"),
        (b'{"item": [{"n": 1}]}', "thing: item: unknown field 'item', did you mean 'items'?"),
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


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("levels", 1, "rules", "endorserz"), {}, "levels[1].rules.endorserz: unknown field 'endorserz', did you mean"),
        (("levels", 0, "rules", "covers"), [9, 4], "levels[0].rules.covers: must be ascending"),
        (("levels", 1, "rules", "endorsers", "keyz"), [], "keyz: unknown field 'keyz', did you mean 'keys'?"),
        (("bank",), "md5", "bank: is not one of"),
        (("levels", 1, "rules", "min_serial"), {"compute": "x"}, "levels[1].rules.min_serial[...]: Expected"),
    ],
)
def test_the_line_of_a_mistake_is_told(path: tuple[Any, ...], value: Any, says: str) -> None:
    text = json.dumps(json.loads(changed(PROFILE, *path, value=value)), indent=1)
    with pytest.raises(MalformedError) as caught:
        Profile.parse(text.encode())
    found = re.search(r"\(line (\d+)\)$", str(caught.value))
    assert says in str(caught.value)
    assert found is not None
    assert f'"{path[-1]}"' in text.splitlines()[int(found[1]) - 1]


def test_the_line_of_a_path_with_dots() -> None:
    document = json.loads(encode(STACK))
    document["runtime"]["files"] = {"/a.b/c": ["sha256:" + "0" * 64], "/x.y": ["sha256:00"]}
    with pytest.raises(MalformedError) as caught:
        CompiledStack.parse(json.dumps(document, indent=1).encode())
    line = json.dumps(document, indent=1).splitlines().index('   "/x.y": [') + 1
    assert str(caught.value) == f"stack: runtime.files['/x.y']: not 64 hex digits (lower case) (line {line})"
