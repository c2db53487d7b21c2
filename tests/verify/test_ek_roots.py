"""Root bundles: what is in them is what somebody wrote down, and each entry may certify endorsement keys."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.errors import MalformedError
from watchword.verify.ek import EkClass, TrustAnchor, verify_ek
from watchword.verify.roots import MAX_BUNDLE, Root, RootBundle, collect
from watchword.wire.tpm.templates import EkKind

from .certificates import CA_BASIC, NOW, Raw, moment, raw_authority, raw_name, sequence

ROOT, MAKER, LEAF = raw_authority("root").der(), raw_authority().der(), Raw().der()
ROOTS = (
    Root(ROOT, EkClass.HARDWARE, "Root", "https://maker.example/root.crt"),
    Root(MAKER, EkClass.HARDWARE, "Maker", "https://maker.example/maker.crt", is_anchor=False),
)
BUNDLE = RootBundle("lab", 3, "collected for a test", ROOTS)


def document() -> dict[str, Any]:
    return json.loads(BUNDLE.encode())


def refused(data: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=why) as caught:
        RootBundle.parse(data)
    assert caught.value.code == "roots-malformed"


def test_there_and_back() -> None:
    assert RootBundle.parse(BUNDLE.encode()) == BUNDLE
    assert BUNDLE.anchors() == (TrustAnchor(ROOT, EkClass.HARDWARE, "Root"),)


def test_a_bundle_fills_the_gap_that_a_host_leaves() -> None:
    middle = BUNDLE.pool().complete(LEAF)
    assert middle == (MAKER,)
    assert verify_ek(LEAF, middle, BUNDLE.anchors(), EkKind.P256, NOW).anchor == "Root"
    assert BUNDLE.pool().complete(LEAF, [MAKER]) == (MAKER,)
    assert BUNDLE.pool().complete(Raw(issuer=raw_name("nobody")).der()) == ()
    other = raw_authority("root", "maker").der()
    assert BUNDLE.pool().complete(Raw(issuer=raw_name("root")).der(), [other]) == (other, MAKER)


def test_a_gap_is_filled_with_eight_certificates_at_most() -> None:
    many = tuple(replace(ROOTS[1], der=raw_authority(serial=bytes((2, 1, number))).der()) for number in range(20))
    assert len(replace(BUNDLE, roots=many).pool().complete(LEAF)) == 8


ENTRY_CHANGES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda entry: entry.update(sha256="0" * 64), "sha256: it is not that of the certificate"),
    (lambda entry: entry.update(sha256=entry["sha256"].upper()), "sha256"),
    (lambda entry: entry.update({"class": "software"}), "class: not one of hardware, firmware, virtual"),
    (lambda entry: entry.update(role="root"), "role"),
    (lambda entry: entry.update(label=""), "label"),
    (lambda entry: entry.update(label="a\nb"), "label"),
    (lambda entry: entry.update(label="x" * 301), "label"),
    (lambda entry: entry.update(source=7), "source"),
    (lambda entry: entry.update(extra=1), "exactly the members"),
    (lambda entry: entry.pop("source"), "exactly the members"),
    (lambda entry: entry.update(certificate="!"), "not base64"),
    (lambda entry: entry.update(certificate="é"), "not base64"),
    (lambda entry: entry.update(certificate="A" * 16385), "16384"),
]


@pytest.mark.parametrize(("change", "why"), ENTRY_CHANGES)
def test_entries_that_are_refused(change: Callable[[dict[str, Any]], object], why: str) -> None:
    data = document()
    change(data["certificates"][1])
    refused(json.dumps(data).encode(), why)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format": "watchword-roots/2"}, "format"),
        ({"serial": 0}, "serial"),
        ({"serial": True}, "serial"),
        ({"serial": 1 << 53}, "serial"),
        ({"name": None}, "name"),
        ({"certificates": []}, "certificates"),
        ({"certificates": {}}, "certificates"),
        ({"certificates": 7}, "certificates"),
        ({"certificates": [7]}, "exactly the members"),
        ({"certificates": [[]]}, "exactly the members"),
        ({"certificates": [["label", "class", "role", "source", "sha256", "certificate"]]}, "exactly the members"),
        ({"certificates": [0] * 4097}, "not a list of 1 to 4096"),
        ({"note": "x"}, "exactly the members"),
    ],
)
def test_documents_that_are_refused(changes: dict[str, Any], why: str) -> None:
    refused(json.dumps(document() | changes).encode(), why)


def _with(der: bytes) -> bytes:
    return replace(BUNDLE, roots=(replace(ROOTS[0], der=der),)).encode()


def test_certificates_that_are_refused() -> None:
    refused(replace(BUNDLE, roots=(*ROOTS, replace(ROOTS[0], label="again"))).encode(), "again is there twice")
    refused(_with(LEAF), "no certificate authority")
    refused(_with(raw_authority(extensions=(CA_BASIC,)).der()), "may not sign certificates")
    refused(_with(b"nonsense"), "certificate: ")
    refused(_with(ROOT + b"\0"), "trailing")


def test_an_authority_that_has_ended_stays_in_the_bundle() -> None:
    ended = raw_authority("root", validity=sequence(moment("000101000000"), moment("010101000000"))).der()
    assert RootBundle.parse(_with(ended)).roots[0].der == ended


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"a": 1, "a": 2}',
        b"1" * 5000,
        b" " * (MAX_BUNDLE + 1),
        BUNDLE.encode().replace(b'"name"', b'"name": "x", "name"', 1),
    ],
)
def test_what_is_no_bundle(data: bytes) -> None:
    refused(data, "root bundle")


def test_a_bundle_that_is_too_long() -> None:
    refused(BUNDLE.encode() + b" " * MAX_BUNDLE, "longer than 16777216 bytes")


def _pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


def test_other_peoples_files() -> None:
    files = {
        "b.pem": b"# text\n" + _pem(MAKER) + _pem(ROOT) + _pem(MAKER),
        "a.crt": ROOT,
        "leaf.der": LEAF,
        "readme.txt": b"nothing",
    }
    found = collect(files, EkClass.FIRMWARE, "https://makers.example")
    assert [(root.der, root.is_anchor, root.label, root.source) for root in found.roots] == [
        (ROOT, True, "CN=root", "https://makers.example a.crt"),
        (MAKER, False, "CN=maker", "https://makers.example b.pem"),
    ]
    assert {root.ek_class for root in found.roots} == {EkClass.FIRMWARE}
    assert next(each.reason for each in found.skipped) == "it is no certificate authority"
    assert [each.source for each in found.skipped] == [
        "https://makers.example leaf.der: (no name)",
        "https://makers.example readme.txt",
    ]
    bundle = RootBundle("makers", 1, "everything", found.roots)
    assert RootBundle.parse(bundle.encode()) == bundle


def test_an_intermediate_may_be_the_anchor() -> None:
    found = collect({"": MAKER}, EkClass.HARDWARE, "", all_anchors=True)
    assert [(root.is_anchor, root.source) for root in found.roots] == [(True, "(unknown)")]


def test_a_broken_certificate_in_a_pem_file_is_named_and_hides_nothing_else() -> None:
    found = collect({"x": _pem(b"nonsense") + _pem(ROOT), "y": _pem(MAKER)}, EkClass.HARDWARE, "s")
    assert [root.der for root in found.roots] == [ROOT, MAKER]
    assert [each.source for each in found.skipped] == ["s x"]


def test_a_name_with_control_characters_makes_a_printable_label() -> None:
    odd = raw_authority()
    odd.subject = raw_name("a\nb\x1b[2J")
    found = collect({"x": odd.der()}, EkClass.HARDWARE, "s", all_anchors=True)
    assert found.roots[0].label == "CN=a?b?[2J"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4000), st.binary(max_size=6), st.integers(0, 6))
def test_any_bytes_are_a_bundle_or_malformed(at: int, noise: bytes, dropped: int) -> None:
    data = BUNDLE.encode()
    at %= len(data)
    with contextlib.suppress(MalformedError):
        RootBundle.parse(data[:at] + noise + data[at + dropped :])
