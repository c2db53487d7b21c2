"""Distinguished names of certificates: their text for people, and whether they are encoded as DER wants.

Names are compared by their bytes, never by their text: a maker's certificates agree in them, and two names that only
look alike are two names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from watchword.verify.der import SEQUENCE, SET, Der

__all__ = ["Attribute", "attributes", "is_ordered", "name_text"]

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
_BMP_STRING: Final = 0x1E


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


def name_text(parts: tuple[tuple[Attribute, ...], ...]) -> str:
    """A name as RFC 4514 writes it, last part first; for people."""
    return ",".join("+".join(f"{_SHORT.get(oid, oid)}={_escaped(text)}" for oid, text in part) for part in parts[::-1])


def _escaped(text: str) -> str:
    return "".join(f"\\{each}" if each in _SPECIAL else each for each in text)
