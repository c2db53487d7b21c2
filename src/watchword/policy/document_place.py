"""Where in a JSON document something is wrong, for messages: the line of a place, and the field that was meant.

Only documents that were refused get here. Nothing in this module decides, so a place that cannot be found is no error.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import Any

import msgspec

__all__ = ["line_of", "suggestion"]

_STEP = re.compile(r"\[(\d+)\]|\['((?:[^'\\]|\\.)*)'\]|\[(\.\.\.)\]|([^.\[\]]+)")
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def line_of(data: bytes, path: str) -> int | None:
    """The line (from 1) of the innermost step of ``path`` ("levels[0].rules.stacks") that the text has.

    None when the text is a single line, or cannot be followed.
    """
    try:
        text = data.decode("utf-8")
        if "\n" not in text.strip():
            return None
        return text.count("\n", 0, _find(text, _steps(path))) + 1
    except (ValueError, IndexError, RecursionError):
        return None


def _steps(path: str) -> list[str | int]:
    return [int(number) if number else quoted or dots or name for number, quoted, dots, name in _STEP.findall(path)]


def _find(text: str, steps: list[str | int]) -> int:
    """The position of the deepest place that can be found: of its key, or of its value in a list."""
    value = found = _skip(text, 0)
    for step in steps:
        place = _member(text, value, step)
        if place is None:
            break
        found, value = place
    return found


def _member(text: str, at: int, step: str | int) -> tuple[int, int] | None:
    """Where the key and the value of member ``step`` begin, of the object or list that begins at ``at``."""
    if text[at] not in "{[":
        return None
    is_object, number, at = text[at] == "{", 0, _skip(text, at + 1)
    while text[at] not in "}]":
        key: str | int = number
        start = value = at
        if is_object:
            key, end = _DECODER.raw_decode(text, at)
            value = _skip(text, _skip(text, end) + 1)
        if key == step:
            return start, value
        at = _skip(text, _DECODER.raw_decode(text, value)[1])
        if text[at] == ",":
            at = _skip(text, at + 1)
        number += 1
    return None


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def suggestion(kind: Any, path: str, name: str) -> str:
    """What may have been meant by the unknown field ``name`` of the structure at ``path``: ", did you mean 'x'?"."""
    fields = _fields(msgspec.inspect.type_info(kind), _steps(path))
    close = difflib.get_close_matches(name, fields, 1)
    return f", did you mean {close[0]!r}?" if close else f"; known here: {', '.join(fields)}" if fields else ""


def _fields(kind: msgspec.inspect.Type, steps: list[str | int]) -> list[str]:
    """The names of the fields at ``steps``; none where the place has no fixed ones."""
    if isinstance(kind, msgspec.inspect.Metadata):
        return _fields(kind.type, steps)
    if isinstance(kind, msgspec.inspect.UnionType):
        return next((found for each in kind.types if (found := _fields(each, steps))), [])
    if isinstance(kind, msgspec.inspect.StructType):
        if not steps:
            return [field.encode_name for field in kind.fields]
        return next((_fields(field.type, steps[1:]) for field in kind.fields if field.encode_name == steps[0]), [])
    if isinstance(kind, msgspec.inspect.DictType) and steps:
        return _fields(kind.value_type, steps[1:])
    if isinstance(kind, msgspec.inspect.VarTupleType) and steps:
        return _fields(kind.item_type, steps[1:])
    return []
