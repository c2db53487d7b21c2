"""Strict CBOR: one data item, definite lengths, no key twice, nothing behind it, bounded, tags kept as tags.

The decoder is cbor2's, with everything switched off that gives one document two meanings: indefinite lengths, repeated
keys, references within a document, and tags that turn into other types. Arrays come out as tuples, maps as dicts.
Source: RFC 8949.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import cbor2

from watchword.errors import MalformedError

__all__ = ["MAX_DEPTH", "Tag", "dump", "load"]

MAX_DEPTH = 24
Tag = cbor2.CBORTag
# Every tag that cbor2 knows how to turn into something else: times, numbers, sets, references within a document.
_BUILT_IN = (*range(6), 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)
_REFERENCES = frozenset({25, 28, 29, 256})  # one part of a document that stands for another one


def load(data: bytes, what: str, limit: int) -> Any:
    """One data item of at most ``limit`` bytes, made of int, float, bool, None, bytes, str, tuple, dict and Tag.

    ``what`` names the document in errors. Raises MalformedError for everything else.
    """
    if len(data) > limit:
        raise MalformedError(f"{what}: is {len(data)} bytes long, {limit} are allowed")
    stream = BytesIO(data)
    decoder = cbor2.CBORDecoder(
        stream,
        semantic_decoders={number: _keep(number) for number in _BUILT_IN},
        max_depth=MAX_DEPTH,
        allow_indefinite=False,
        allow_duplicate_keys=False,
    )
    try:
        value = decoder.decode()
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise MalformedError(f"{what}: is not CBOR of the kind that is read here: {str(error)[:100]!a}") from None
    if stream.tell() != len(data):
        raise MalformedError(f"{what}: byte {stream.tell()}: something follows the document")
    return _checked(value, what)


def dump(value: Any) -> bytes:
    """``value`` in core deterministic encoding (RFC 8949, 4.2.1)."""
    return cbor2.dumps(value, canonical=True)


def _keep(number: int) -> Callable[..., cbor2.CBORTag]:
    return lambda value, *_: Tag(number, value)


def _checked(value: Any, what: str) -> Any:
    """The same value in our types; everything that a later release of the decoder might make of a tag is refused."""
    kind = type(value)
    if value is None or kind in (int, bool, bytes, str):
        return value
    if kind is float and value == value and abs(value) != float("inf"):
        return value
    if kind in (list, tuple):
        return tuple(_checked(each, what) for each in value)
    if kind is Tag and value.tag not in _REFERENCES:
        return Tag(value.tag, _checked(value.value, what))
    if isinstance(value, dict | cbor2.frozendict):
        # 1, 1.0 and true are one key to Python and three to CBOR.
        if any(type(key) not in (int, str) for key in value):
            raise MalformedError(f"{what}: a map has a key that is neither an integer nor a text")
        return {key: _checked(each, what) for key, each in value.items()}
    shown = f"tag {value.tag}" if kind is Tag else kind.__name__
    raise MalformedError(f"{what}: has a {shown}, which is not read here")
