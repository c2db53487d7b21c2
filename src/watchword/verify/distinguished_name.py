"""Distinguished names of certificates: their text for people, and whether they are encoded as DER wants.

Two names are the same when their parts are, byte for byte. One difference is overlooked, because makers have it
between their own certificates: the same characters as a PrintableString and as a UTF8String. No case is folded, no
space dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from watchword.verify.der import SEQUENCE, SET, Der, whole_sequence

__all__ = ["Attribute", "attributes", "is_ordered", "name_key", "name_text", "same_name"]

Attribute = tuple[str, str]  # object identifier and text

_MAX_ATTRIBUTES: Final = 64
_SHORT: Final = {
    "2.5.4.3": "CN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
}
_SPECIAL: Final = frozenset('\\,+"<>;=')
_UTF8_STRING, _PRINTABLE_STRING, _BMP_STRING = 0x0C, 0x13, 0x1E


def _relative_names(name: Der) -> Iterator[list[bytes]]:
    """The relative distinguished names of the contents of a Name, each a list of encoded attributes."""
    total = 0
    while name.more:
        members, found = name.inside(SET), []
        while members.more:
            found.append(members.take_whole(SEQUENCE))
        total += len(found)
        if not found or total > _MAX_ATTRIBUTES:
            raise name.fail("a name has an empty part or too many attributes")
        yield found


def _attribute(reader: Der, encoded: bytes) -> Attribute:
    inner = reader.of(encoded).inside(SEQUENCE)
    oid = inner.identifier()
    tag, value = inner.any()
    inner.finish()
    return oid, value.decode("utf-16-be" if tag == _BMP_STRING else "utf-8", "replace")


def attributes(name: Der) -> tuple[tuple[Attribute, ...], ...]:
    """The attributes of a name, by relative distinguished name. ``name`` reads its contents; MalformedError."""
    return tuple(tuple(_attribute(name, each) for each in part) for part in _relative_names(name))


def is_ordered(name: Der) -> bool:
    """Whether the parts with several attributes are in the ascending order that DER (X.690, 11.6) demands."""
    return all(part == sorted(part) for part in list(_relative_names(name)))


def same_name(one: bytes, other: bytes) -> bool:
    """Whether two encoded names, which parse, are the same name."""
    return one == other or name_key(one) == name_key(other)


@lru_cache(maxsize=4096)
def name_key(encoded: bytes) -> tuple[tuple[tuple[str, int, bytes], ...], ...]:
    """A value that is equal for two encoded names, which parse, exactly if they are the same name."""
    reader = whole_sequence(encoded, "name", "malformed")
    return tuple(tuple(_comparable(reader.of(each)) for each in part) for part in _relative_names(reader))


def _comparable(attribute: Der) -> tuple[str, int, bytes]:
    inner = attribute.inside(SEQUENCE)
    oid = inner.identifier()
    tag, value = inner.any()
    return oid, _UTF8_STRING if tag == _PRINTABLE_STRING else tag, value


def name_text(parts: tuple[tuple[Attribute, ...], ...]) -> str:
    """A name as RFC 4514 writes it, last part first; for people."""
    return ",".join("+".join(f"{_SHORT.get(oid, oid)}={_escaped(text)}" for oid, text in part) for part in parts[::-1])


def _escaped(text: str) -> str:
    return "".join(f"\\{each}" if each in _SPECIAL else each for each in text)
