from __future__ import annotations

import hashlib

import pytest

from watchword.errors import MalformedError
from watchword.wire.inputs import inputs_digest, parse_names

A, B = hashlib.sha256(b"a").digest(), hashlib.sha256(b"b").digest()


def test_the_digest_is_a_function_of_names_and_contents() -> None:
    first = inputs_digest({"disk": A, "user-data": B})
    assert first == inputs_digest({"user-data": B, "disk": A})
    others = [{"disk": B, "user-data": A}, {"disk": A}, {"user-data": B}, {"disk": A, "user-data": B, "kernel": A}]
    assert len({first, *map(inputs_digest, others)}) == 1 + len(others)


def test_the_digest_has_not_moved() -> None:
    """Computed once by hand from the specification: domain, count, then length, name and digest of each."""
    expected = hashlib.sha256(b"watchword/inputs/1\0" + b"\0\1" + b"\0\4disk" + A).digest()
    assert inputs_digest({"disk": A}) == expected


@pytest.mark.parametrize(
    "inputs", [{}, {"Disk": A}, {"": A}, {"a b": A}, {"disk": A[:31]}, {"disk\n": A}, {f"x{i}": A for i in range(17)}]
)
def test_bad_inputs_are_refused(inputs: dict[str, bytes]) -> None:
    with pytest.raises(MalformedError):
        inputs_digest(inputs)


def test_names() -> None:
    assert parse_names("user-data,disk") == ("disk", "user-data")
    for bad in ("", "disk,", "disk,disk", "x" * 1000, "disk;rm"):
        with pytest.raises(MalformedError):
            parse_names(bad)


def test_a_list_of_names_is_bounded() -> None:
    sixteen = ",".join(f"a{number:031}" for number in range(16))
    assert len(parse_names(sixteen)) == 16
    with pytest.raises(MalformedError, match="too many"):
        parse_names(",".join(f"a{number}" for number in range(17)))
    with pytest.raises(MalformedError, match="too long"):
        parse_names(sixteen + ",b")
