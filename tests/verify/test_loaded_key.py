"""Keys that were loaded onto a keyring, as the runtime log has them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.verify.loaded_key import LoadedKey, read_loaded_key
from watchword.wire.der_chain import MAX_CERTIFICATE

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a signer of files")])
KEYS = {
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "rsa": rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
}


def certificate(key: object, *, identifier: bytes | None = b"\1\2\3\4", more: int = 0, filler: int = 0) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .serial_number(7)
        .public_key(key.public_key())
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(False, None), critical=True)
    )
    if filler:
        oid = x509.ObjectIdentifier("1.3.6.1.4.1.99998")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, bytes(filler)), critical=False)
    for number in range(more):
        oid = x509.ObjectIdentifier(f"1.3.6.1.4.1.99999.{number}")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, b"\5\0"), critical=False)
    if identifier is not None:
        builder = builder.add_extension(x509.SubjectKeyIdentifier(identifier), critical=False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


@pytest.mark.parametrize("kind", KEYS)
def test_which_key_it_is(kind: str) -> None:
    public = KEYS[kind].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    expected = LoadedKey(b".ima", hashlib.sha256(public).digest(), b"\1\2\3\4")
    assert read_loaded_key(b".ima", certificate(KEYS[kind])) == expected
    unnamed = read_loaded_key(b"my ring", certificate(KEYS[kind], identifier=None))
    assert unnamed == LoadedKey(b"my ring", expected.fingerprint, b"")


GOOD = certificate(KEYS["p256"])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no certificate",
        GOOD[:-1],
        GOOD + b"\0",
        certificate(KEYS["p256"], more=32),
        certificate(KEYS["p256"], identifier=bytes(65)),
        certificate(KEYS["p256"], more=5, identifier=bytes(60)) + bytes(20_000),
    ],
)
def test_a_kernels_keyring_got_something_that_cannot_be_read(data: bytes) -> None:
    assert read_loaded_key(b".ima", data) == LoadedKey(b".ima", b"", b"")
    assert read_loaded_key(b"kexec-cmdline", data) is None


def test_the_most_extensions_and_the_longest_identifier() -> None:
    found = read_loaded_key(b".ima", certificate(KEYS["p256"], more=29, identifier=bytes(64)))
    assert found is not None
    assert found.subject_key_id == bytes(64)


def tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 128 else bytes((0x81, size)) if size < 256 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


def parts(data: bytes) -> list[tuple[int, bytes]]:
    """The elements of ``data``: tag and content."""
    found = []
    while data:
        size, start = data[1], 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(data[2:start], "big")
        found.append((data[0], data[start : start + size]))
        data = data[start + size :]
    return found


def with_more(data: bytes, *path: int, more: bytes = b"\5\0") -> bytes:
    """``data`` with ``more`` (a NULL) behind the last element of the element that ``path`` leads to."""
    elements = parts(data)
    if not path:
        return data + more
    tag, content = elements[path[0]]
    elements[path[0]] = tag, with_more(content, *path[1:], more=more)
    return b"".join(tlv(*each) for each in elements)


EXTENSIONS = (0, 0, 7)  # in the certificate, in what is signed


@pytest.mark.parametrize(
    "path",
    [(0,), (0, 0), EXTENSIONS, (*EXTENSIONS, 0, 1), (*EXTENSIONS, 0, 1, 1)],
    ids=["certificate", "signed part", "extensions", "extension", "value"],
)
def test_nothing_stands_behind_the_last_element(path: tuple[int, ...]) -> None:
    assert with_more(GOOD, *path, more=b"") == GOOD
    assert read_loaded_key(b".ima", with_more(GOOD, *path)) == LoadedKey(b".ima", b"", b"")


def test_a_certificate_that_is_too_long() -> None:
    def named(size: int) -> bytes:
        data = certificate(KEYS["p256"], filler=size)
        found = read_loaded_key(b".ima", data)
        assert found is not None
        assert len(data) > size
        return found.fingerprint

    assert named(MAX_CERTIFICATE - 1000)
    assert not named(MAX_CERTIFICATE)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40), st.integers(0, len(GOOD)))
def test_any_bytes_are_read_or_not(junk: bytes, at: int) -> None:
    data = GOOD[:at] + junk + GOOD[at + len(junk) :]
    found = read_loaded_key(b".ima", data)
    assert found is not None
    assert len(found.fingerprint) in (0, 32)
