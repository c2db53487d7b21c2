"""Strict JSON: how stacks and profiles are read.

The documents decide whom a tenant trusts, so there is exactly one way to read them: no duplicate keys (two readers
would pick different ones), no unknown fields (a typo would silently switch a rule off), no fractions, no NaN, no lone
surrogates, no more bytes than the kind of document may have. Errors name the place inside the document, and its line.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import msgspec

from watchword.errors import MalformedError
from watchword.policy.document_place import line_of, suggestion
from watchword.wire.tpm.algorithms import Alg, digest_size

__all__ = ["DIGEST_NAMES", "digest_name", "fail", "load", "located", "parse_digest", "parse_hex"]

_T = TypeVar("_T")

# SHA-1 is missing on purpose: a reference value that can be collided proves nothing.
DIGEST_NAMES: dict[str, Alg] = {
    "sha256": Alg.SHA256,
    "sha384": Alg.SHA384,
    "sha512": Alg.SHA512,
    "sm3_256": Alg.SM3_256,
}
_NAME_OF = {alg: name for name, alg in DIGEST_NAMES.items()}
_AT = re.compile(r"^(?P<why>.*?) - at `(?:key in )?\$\.?(?P<path>.*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_HEX = re.compile(r"[0-9a-f]*")


class _PlaceError(MalformedError):
    """An error at ``path`` of a document whose lines the one who raised it does not know."""

    def __init__(self, what: str, path: str, why: str, line: int | None = None) -> None:
        text = (f"{path}: " if path else "") + why + (f" (line {line})" if line else "")
        super().__init__(f"{what}: " + "".join(c if c.isprintable() else "?" for c in text))
        self.parts = (what, path, why)


def fail(what: str, path: str, why: str) -> NoReturn:
    """Raise the error for the place ``path`` inside the document ``what``; never shows control characters."""
    raise _PlaceError(what, path, why)


@contextmanager
def located(data: bytes) -> Iterator[None]:
    """Add the line of the JSON text ``data`` to what :func:`fail` raises inside, as far as it can be told."""
    try:
        yield
    except _PlaceError as error:
        what, path, why = error.parts
        line = line_of(data, path) if path and not path.startswith("line ") else None
        raise _PlaceError(what, path, why, line) from None


def load(data: bytes, kind: type[_T], what: str, limit: int) -> _T:
    """Read one JSON document into the msgspec structure ``kind``.

    ``what`` names the document in errors, ``limit`` is its largest size in bytes.
    Raises MalformedError for everything that is not exactly such a document.
    """
    if len(data) > limit:
        fail(what, "", f"is {len(data)} bytes long, {limit} are allowed")
    with located(data):
        value = _json(data, what)
        try:
            return msgspec.convert(value, kind, strict=True)
        except msgspec.ValidationError as error:
            at = _AT.match(str(error))
            _refuse(what, kind, at["path"] if at else "", at["why"] if at else str(error))


def _refuse(what: str, kind: Any, path: str, why: str) -> NoReturn:
    unknown = _UNKNOWN.match(why)
    if unknown is None:
        fail(what, path, why)
    name = unknown["name"]
    fail(what, f"{path}.{name}" if path else name, f"unknown field {name!r}{suggestion(kind, path, name)}")


def _json(data: bytes, what: str) -> Any:
    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            fail(what, "", f"the key {twice!r} appears twice in one object")
        return found

    def no_number(text: str) -> NoReturn:
        fail(what, "", f"{text[:40]} is not an integer")

    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=members, parse_float=no_number, parse_constant=no_number
        )
        if _SURROGATE.search(data):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        fail(what, f"line {error.lineno} column {error.colno}", error.msg)
    except UnicodeError:
        fail(what, "", "is not valid UTF-8")
    except ValueError:  # Python refuses integers of more than 4300 digits
        fail(what, "", "has a number that is too large")
    except RecursionError:
        fail(what, "", "is nested too deeply")
    return value


def parse_hex(what: str, path: str, text: str, size: int) -> bytes:
    """``size`` bytes from lower-case hexadecimal digits, or MalformedError naming ``path``."""
    if len(text) != 2 * size or not _HEX.fullmatch(text):
        fail(what, path, f"not {2 * size} hex digits (lower case)")
    return bytes.fromhex(text)


def parse_digest(what: str, path: str, text: str, *, only: str = "") -> tuple[Alg, bytes]:
    """A digest written ``"sha256:<hex>"``, of algorithm ``only`` if given. Raises MalformedError naming ``path``."""
    name, colon, digits = text.partition(":")
    alg = DIGEST_NAMES.get(name)
    if alg is None or not colon:
        fail(what, path, f"does not start with one of {', '.join(DIGEST_NAMES)} and a colon")
    if only and name != only:
        fail(what, path, f"is not a {only} digest")
    return alg, parse_hex(what, path, digits, digest_size(alg))


def digest_name(alg: Alg) -> str:
    """The name that documents use for ``alg``; the TPM name for one that documents do not allow."""
    return _NAME_OF.get(alg, alg.name.lower())
