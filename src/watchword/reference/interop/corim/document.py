"""A CoRIM as a whole: its envelope, its profile, its tags. What the tags say: ``foreign.py`` and ``own.py``.

Source: draft-ietf-rats-corim, 4 (CoRIM) and 5.1 (CoMID).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from watchword.crypto.cbor import Tag, dump, load
from watchword.crypto.cose import SIGN1_TAG, PrivateKey, Sign1, sign
from watchword.errors import Finding, Rejected
from watchword.reference.interop.corim.shape import (
    MAX_CORIM,
    WHAT,
    array,
    embedded,
    fail,
    identifier,
    mapping,
    tagged,
    text,
    time,
)

__all__ = ["COMID_TAG", "CORIM_TAG", "Comid", "Corim", "Validity", "check_signer", "is_signed", "parse_signed",
           "sign_corim"]  # fmt: skip

CORIM_TAG, COMID_TAG = 501, 506
_URI_TAG, _OID_TAG = 32, 111
_ID, _TAGS, _DEPENDENT, _PROFILE, _VALIDITY, _ENTITIES = range(6)
_CONTENT_TYPE, _META, _CLAIMS = 3, 8, 15
_HASH_ENVELOPE = frozenset({258, 259, 260})
_ISSUER, _EXPIRES, _NOT_BEFORE = 1, 4, 5
# The second is what earlier drafts had.
_CONTENT_TYPES = ("application/rim+cbor", "application/corim-unsigned+cbor")
_MAX_TAGS = 1024
_REPLACES = 1

Validity = tuple[int | None, int | None]  # Unix seconds


@dataclass(frozen=True, slots=True)
class Comid:
    """One CoMID: its id, the ids of tags that it replaces, its triples by kind, and whether it says more."""

    id: str
    replaces: frozenset[str]
    triples: Mapping[int | str, Any]
    more: tuple[str, ...] = ()

    @classmethod
    def parse(cls, data: Any, place: str) -> Comid:
        """Read a decoded concise-mid-tag. Raises MalformedError."""
        found = mapping(data, place, 1, 4)
        identity = mapping(found[1], f"{place}.tag-identity", 0)
        replaces, more = set(), []
        for i, linked in enumerate(array(found[3], f"{place}.linked-tags") if 3 in found else ()):
            where = f"{place}.linked-tags[{i}]"
            link = mapping(linked, where, 0, 1)
            if link[1] == _REPLACES:
                replaces.add(identifier(link[0], f"{where}.linked-tag-id"))
        more += [f"member {key} of a CoMID" for key in found if key not in range(5)]
        return cls(
            identifier(identity[0], f"{place}.tag-identity.tag-id"),
            frozenset(replaces),
            mapping(found[4], f"{place}.triples"),
            tuple(more),
        )


@dataclass(frozen=True, slots=True)
class Corim:
    """An unsigned CoRIM. ``profile`` is a URI or ``oid:…``; ``other_tags`` are the numbers of tags other than CoMID.

    ``members`` has what extends the map, by its key.
    """

    id: str
    profile: str | None
    comids: tuple[Comid, ...]
    other_tags: tuple[int, ...]
    validity: Validity
    dependent: bool
    members: Mapping[int | str, Any]

    @classmethod
    def parse(cls, data: bytes) -> Corim:
        """Read a tagged-unsigned-corim-map of at most 16 MiB. Raises MalformedError with the place that is wrong."""
        item = load(data, WHAT, MAX_CORIM)
        if (isinstance(item, Tag) and item.tag == COMID_TAG) or (isinstance(item, dict) and {1, 4} <= item.keys()):
            fail("", f"is a part of a CoRIM without the CoRIM, which begins with tag {CORIM_TAG}")
        found = mapping(tagged(item, "", CORIM_TAG), "corim-map", _ID, _TAGS)
        tags = array(found[_TAGS], "tags")
        if len(tags) > _MAX_TAGS:
            fail("tags", f"are more than {_MAX_TAGS}")
        if any(not isinstance(tag, Tag) for tag in tags):
            fail("tags", "has something without a tag")
        return cls(
            identifier(found[_ID], "id"),
            _profile(found.get(_PROFILE)),
            tuple(_comid(t, f"tags[{i}]") for i, t in enumerate(tags) if t.tag == COMID_TAG),
            tuple(t.tag for t in tags if t.tag != COMID_TAG),
            parse_validity(found[_VALIDITY], "rim-validity") if _VALIDITY in found else (None, None),
            _DEPENDENT in found,
            {key: value for key, value in found.items() if key not in range(_ENTITIES + 1)},
        )


def is_signed(data: bytes) -> bool:
    """Whether ``data`` says that it is a COSE_Sign1: nothing is read or checked."""
    return data[:1] == bytes([0xC0 | SIGN1_TAG]) or data[:2] == bytes([0xD8, SIGN1_TAG])


def parse_signed(data: bytes) -> Sign1:
    """The envelope of a signed CoRIM, nothing verified. Raises MalformedError."""
    message = Sign1.parse(data, WHAT, MAX_CORIM)
    if _HASH_ENVELOPE & set(message.headers):
        fail("protected header", "only the digest of the CoRIM is in it: give the CoRIM itself")
    if message.headers.get(_CONTENT_TYPE) not in _CONTENT_TYPES:
        fail("protected header", f"the content is no {_CONTENT_TYPES[0]}")
    if _META not in message.headers and _CLAIMS not in message.headers:
        fail("protected header", "says nothing about the signer")
    return message


def check_signer(message: Sign1, now: int) -> str:
    """The name of the signer in its own words, when the validity of the signature has ``now`` in it.

    Raises Rejected (``document-validity``), MalformedError. The signature is verified by ``crypto.cose.verify``.
    """
    said = [_claims(message.headers[_CLAIMS])] if _CLAIMS in message.headers else []
    said += [_meta(message.headers[_META])] if _META in message.headers else []
    if len({name for name, _ in said if name}) > 1:
        fail("protected header", "has two names of the signer")
    for _, (begin, end) in said:
        if (begin is not None and now < begin) or (end is not None and now >= end):
            raise Rejected(
                Finding("S1", "document-validity", "the signature is not valid now", f"{begin}..{end}", str(now)),
                hint="ask its signer for a newer one",
            )
    return next((name for name, _ in said if name), "")


def sign_corim(payload: bytes, signer: str, key: PrivateKey) -> bytes:
    """``payload`` (a tagged-unsigned-corim-map) signed with ``key`` by ``signer``, a name for people.

    The name is written as CWT claims and as corim-meta, which other readers may know only one of.
    """
    meta = {0: {0: signer}}
    headers = {_CONTENT_TYPE: _CONTENT_TYPES[0], _META: dump(meta), _CLAIMS: {_ISSUER: signer}}
    return sign(payload, headers, key)


def parse_validity(value: Any, place: str) -> Validity:
    """Not before and not after; the second must be there."""
    found = mapping(value, place, 1)
    begin = time(found[0], f"{place}.not-before", up=True) if 0 in found else None
    return begin, time(found[1], f"{place}.not-after", up=False)


def _comid(tag: Tag, place: str) -> Comid:
    return Comid.parse(embedded(tag.value, place), place)


def _profile(value: Any) -> str | None:
    if value is None:
        return None
    found = tagged(value, "profile", _URI_TAG, _OID_TAG)
    return f"oid:{found.hex()}" if isinstance(found, bytes) else text(found, "profile")


def _claims(value: Any) -> tuple[str, Validity]:
    found = mapping(value, "CWT claims")
    name = text(found[_ISSUER], "CWT claims: iss") if _ISSUER in found else ""
    begin, end = (_numeric_date(found.get(key), f"CWT claims: {key}") for key in (_NOT_BEFORE, _EXPIRES))
    return name, (begin, end)


def _numeric_date(value: Any, place: str) -> int | None:
    """CWT writes times without their tag (RFC 8392, 2)."""
    return None if value is None else time(Tag(1, value), place, up=False)


def _meta(value: Any) -> tuple[str, Validity]:
    found = mapping(embedded(value, "corim-meta"), "corim-meta", 0)
    signer = mapping(found[0], "corim-meta.signer", 0)
    validity = parse_validity(found[1], "signature-validity") if 1 in found else (None, None)
    return text(signer[0], "corim-meta.signer-name"), validity
