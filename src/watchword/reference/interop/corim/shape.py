"""Taking decoded CBOR apart: each function returns its value, or raises MalformedError with the place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

from watchword.crypto.cbor import Tag, load
from watchword.policy.document import fail as fail_in

__all__ = ["MAX_CORIM", "WHAT", "array", "embedded", "fail", "identifier", "mapping", "octets", "tagged", "text",
           "time", "uint"]  # fmt: skip

MAX_CORIM = 16 * 1024 * 1024  # bytes
WHAT = "CoRIM"
_MAX_TEXT = 4096  # characters
_MAX_TIME = 2**53


def fail(place: str, why: str) -> NoReturn:
    """Raise the error for ``place``."""
    fail_in(WHAT, place, why)


def mapping(value: Any, place: str, *required: int) -> Mapping[int | str, Any]:
    """A map with at least one member and all of ``required``."""
    if not isinstance(value, dict) or not value:
        fail(place, "is not a map, or has no members")
    for key in required:
        if key not in value:
            fail(place, f"has no member {key}")
    return value


def array(value: Any, place: str) -> tuple[Any, ...]:
    """An array with at least one element."""
    if not isinstance(value, tuple) or not value:
        fail(place, "is not an array, or is empty")
    return value


def text(value: Any, place: str) -> str:
    """A text of at most 4096 characters."""
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        fail(place, f"is not a text of at most {_MAX_TEXT} characters")
    return value


def octets(value: Any, place: str) -> bytes:
    """A byte string."""
    if not isinstance(value, bytes):
        fail(place, "is not a byte string")
    return value


def uint(value: Any, place: str) -> int:
    """An unsigned integer."""
    if type(value) is not int or value < 0:
        fail(place, "is not an unsigned integer")
    return value


def tagged(value: Any, place: str, *numbers: int) -> Any:
    """What is inside of a tag, which must be one of ``numbers``."""
    if not isinstance(value, Tag) or value.tag not in numbers:
        fail(place, f"does not have tag {' or '.join(map(str, numbers))}")
    return value.value


def embedded(value: Any, place: str) -> Any:
    """CBOR in a byte string, decoded."""
    return load(octets(value, place), f"{WHAT}: {place}", MAX_CORIM)


def identifier(value: Any, place: str) -> str:
    """A tag or document id: a text, or the 16 bytes of a UUID in hex digits."""
    if isinstance(value, bytes):
        if len(value) != 16:
            fail(place, "is not the 16 bytes of a UUID")
        return value.hex()
    return text(value, place)


def time(value: Any, place: str, *, up: bool) -> int:
    """Whole Unix seconds of a time with tag 1; fractions are rounded ``up`` or down."""
    number = tagged(value, place, 1)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= _MAX_TIME:
        fail(place, "is not a time between 1970 and the far future")
    return math.ceil(number) if up else math.floor(number)
