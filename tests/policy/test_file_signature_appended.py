"""Appended signatures: the PKCS#7 message, every part of it, and messages that OpenSSL made."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from watchword.policy.file_signature import Signers, compile_signers, is_signed
from watchword.policy.file_signature_appended import MAX_MESSAGE
from watchword.testing.logs import ima_entry
from watchword.verify.runtime_file import read_file
from watchword.wire.ima_entry import AppendedSignature
from watchword.wire.ima_log import encode_entry
from watchword.wire.tpm.algorithms import Alg

CONTENT = b"a kernel module"
DIGEST = hashlib.sha256(CONTENT).digest()
WHOLE = hashlib.sha256(CONTENT + b" and its signature").digest()  # what d-ng says, which nobody signs
KEY = ec.generate_private_key(ec.SECP256R1())

SIGNED_DATA, DATA = "2a864886f70d010702", "2a864886f70d010701"
CONTENT_TYPE, MESSAGE_DIGEST, SIGNING_TIME = "2a864886f70d010903", "2a864886f70d010904", "2a864886f70d010905"
SHA1, SHA256, SHA384 = "2b0e03021a", "608648016503040201", "608648016503040202"
RSA, RSA_SHA256 = "2a864886f70d010101", "2a864886f70d01010b"
ECDSA_SHA256, ECDSA_SHA384 = "2a8648ce3d040302", "2a8648ce3d040303"


def signers(*keys: Any) -> Signers:
    spki = [k.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for k in keys]
    return compile_signers("s", "p", [base64.b64encode(der).decode() for der in spki])


def tlv(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = len(body).to_bytes(2, "big").lstrip(b"\0") or b"\0"
    return bytes([tag]) + (size if len(body) < 128 else bytes([0x80 | len(size)]) + size) + body


def oid(digits: str) -> bytes:
    return tlv(6, bytes.fromhex(digits))


def algorithm(digits: str, *parameters: bytes) -> bytes:
    return tlv(0x30, oid(digits), *parameters)


def attribute(name: str, *values: bytes) -> bytes:
    return tlv(0x30, oid(name), tlv(0x31, *values))


def sign(digest: bytes) -> bytes:
    return KEY.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))


NAMED = tlv(0x30, tlv(0x30), tlv(2, b"\1"))  # issuer and serial number
KEY_IDENTIFIER = tlv(0x80, b"key")
TYPE, FILE_DIGEST = attribute(CONTENT_TYPE, oid(DATA)), attribute(MESSAGE_DIGEST, tlv(4, DIGEST))


def message(**other: bytes) -> bytes:
    """A good message without attributes; each part may be another."""
    part = {
        "signer_version": tlv(2, b"\1"),
        "sid": NAMED,
        "signer_digest": algorithm(SHA256),
        "attributes": b"",
        "algorithm": algorithm(ECDSA_SHA256),
        "signature": tlv(4, sign(DIGEST)),
        "signer_end": b"",
    } | other
    order = ("signer_version", "sid", "signer_digest", "attributes", "algorithm", "signature", "signer_end")
    signer = tlv(0x30, *(part[name] for name in order))
    part = {
        "type": oid(SIGNED_DATA),
        "version": tlv(2, b"\1"),
        "digests": tlv(0x31, algorithm(SHA256)),
        "content": tlv(0x30, oid(DATA)),
        "certificates": b"",
        "signers": tlv(0x31, signer, other.get("more_signers", b"")),
        "data_end": b"",
        "content_end": b"",
        "end": b"",
        "message_end": b"",
    } | other
    order = ("version", "digests", "content", "certificates", "signers", "data_end")
    data = tlv(0x30, *(part[name] for name in order))
    return tlv(0x30, part["type"], tlv(0xA0, data, part["content_end"]), part["end"]) + part["message_end"]


def with_attributes(*attributes: bytes, **other: bytes) -> bytes:
    """A message whose signature is over these attributes."""
    signed = hashlib.sha256(tlv(0x31, *attributes)).digest()
    return message(**{"attributes": tlv(0xA0, *attributes), "signature": tlv(4, sign(signed))} | other)


def believed(data: bytes, digest: bytes = DIGEST, by: Signers | None = None, name: str = "sha256") -> bool:
    allowed = signers(KEY) if by is None else by
    return is_signed(Alg.SHA256, WHOLE, (AppendedSignature(name, digest, data),), allowed)


@pytest.mark.parametrize(
    "data",
    [
        message(),
        message(version=tlv(2, b"\3"), signer_version=tlv(2, b"\3"), sid=KEY_IDENTIFIER),
        message(digests=tlv(0x31, algorithm(SHA256, tlv(5))), signer_digest=algorithm(SHA256, tlv(5))),
        with_attributes(TYPE, FILE_DIGEST),
        with_attributes(TYPE, attribute(SIGNING_TIME, tlv(0x17, b"261123000000Z")), FILE_DIGEST),
    ],
)
def test_good_messages(data: bytes) -> None:
    assert believed(data)
    assert not believed(data, bytes(32))
    assert not believed(data, by=signers(ec.generate_private_key(ec.SECP256R1())))
    assert not believed(data, by={})


def test_whom_the_message_names_decides_nothing() -> None:
    others = [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)]
    assert believed(message(), by=signers(*others, KEY))
    assert not believed(message(), by=signers(*others))


def test_linux_logs_the_digest_of_the_attributes() -> None:
    signed = hashlib.sha256(tlv(0x31, TYPE, FILE_DIGEST)).digest()
    assert believed(with_attributes(TYPE, FILE_DIGEST), signed)


EXTRA = tlv(4, b"x")
THIRD = tlv(2, b"\3")
BROKEN: dict[str, bytes] = {
    "empty": b"",
    "too large": message(sid=tlv(0x30, tlv(4, bytes(MAX_MESSAGE)))),
    "another type": message(type=oid(DATA)),
    "version 2": message(version=tlv(2, b"\2"), signer_version=tlv(2, b"\2")),
    "version 2 with a key identifier": message(version=tlv(2, b"\2"), signer_version=tlv(2, b"\2"), sid=KEY_IDENTIFIER),
    "the signer has another version": message(signer_version=THIRD, sid=KEY_IDENTIFIER),
    "version 1 with a key identifier": message(sid=KEY_IDENTIFIER),
    "version 3 with a name": message(version=THIRD, signer_version=THIRD),
    "two hash algorithms": message(digests=tlv(0x31, algorithm(SHA256), algorithm(SHA384))),
    "another hash algorithm": message(digests=tlv(0x31, algorithm(SHA384))),
    "SHA-1": message(digests=tlv(0x31, algorithm(SHA1)), signer_digest=algorithm(SHA1)),
    "the signer has another hash algorithm": message(signer_digest=algorithm(SHA384)),
    "content of another type": message(content=tlv(0x30, oid(SIGNED_DATA))),
    "not detached": message(content=tlv(0x30, oid(DATA), tlv(0xA0, tlv(4, CONTENT)))),
    "certificates": message(certificates=tlv(0xA0, tlv(0x30))),
    "revocation lists": message(certificates=tlv(0xA1, tlv(0x30))),
    "no signer": message(signers=tlv(0x31)),
    "two signers": message(more_signers=tlv(0x30)),
    "the signature of another hash": message(algorithm=algorithm(ECDSA_SHA384)),
    "the signature of another kind of key": message(algorithm=algorithm(RSA)),
    "an unknown signature": message(algorithm=algorithm(DATA)),
    "parameters": message(algorithm=algorithm(ECDSA_SHA256, EXTRA)),
    "NULL is not empty": message(algorithm=algorithm(ECDSA_SHA256, tlv(5, b"x"))),
    "unsigned attributes": message(signer_end=tlv(0xA1, TYPE)),
    "after the signers": message(data_end=EXTRA),
    "after the data": message(content_end=EXTRA),
    "after the content": message(end=EXTRA),
    "after the message": message(message_end=EXTRA),
    "the attributes are not signed": with_attributes(TYPE, FILE_DIGEST, signature=tlv(4, sign(DIGEST))),
    "no content type": with_attributes(FILE_DIGEST),
    "another content type": with_attributes(attribute(CONTENT_TYPE, oid(SIGNED_DATA)), FILE_DIGEST),
    "two content types": with_attributes(attribute(CONTENT_TYPE, oid(DATA), oid(DATA)), FILE_DIGEST),
    "no digest": with_attributes(TYPE),
    "another digest": with_attributes(TYPE, attribute(MESSAGE_DIGEST, tlv(4, bytes(32)))),
    "two digests": with_attributes(TYPE, attribute(MESSAGE_DIGEST, tlv(4, DIGEST), tlv(4, DIGEST))),
    "an attribute twice": with_attributes(TYPE, FILE_DIGEST, FILE_DIGEST),
    "after an attribute": with_attributes(TYPE, FILE_DIGEST, tlv(0x30, oid(SIGNING_TIME), tlv(0x31), EXTRA)),
    "too many attributes": with_attributes(
        TYPE, FILE_DIGEST, *(attribute(SIGNING_TIME[:-2] + f"{n:02x}") for n in range(32, 47))
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_one_thing_is_wrong(name: str) -> None:
    assert not believed(BROKEN[name])


@pytest.mark.parametrize("name", ["no digest", "no content type", "another content type", "an attribute twice"])
def test_attributes_are_read_whatever_the_kernel_logs(name: str) -> None:
    data = BROKEN[name]
    start = data.index(bytes([0xA0]), data.index(bytes.fromhex(SHA256), data.index(NAMED)))
    attributes = data[start + 2 : start + 2 + data[start + 1]]
    assert not believed(data, hashlib.sha256(tlv(0x31, attributes)).digest())


def test_the_algorithm_is_part_of_the_digest() -> None:
    assert not believed(message(), name="sha512")
    assert not believed(message(), name="sm3")
    assert not believed(message(), name="wp256")


def test_a_file_with_a_digest_that_stacks_do_not_use() -> None:
    assert not is_signed(Alg.SHA1, WHOLE[:20], (AppendedSignature("sha256", DIGEST, message()),), signers(KEY))


def test_cut_short() -> None:
    data = with_attributes(TYPE, FILE_DIGEST)
    for cut in range(len(data)):
        assert not believed(data[:cut])


@pytest.mark.parametrize("name", [RSA, RSA_SHA256])
def test_rsa(name: str) -> None:
    key = rsa.generate_private_key(65537, 2048)
    signature = key.sign(DIGEST, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
    data = message(algorithm=algorithm(name, tlv(5)), signature=tlv(4, signature))
    assert believed(data, by=signers(key))
    assert not believed(data, bytes(32), by=signers(key))


# --- through the log ----------------------------------------------------------------------------------------------


def read(template: str, *fields: bytes) -> bool:
    """Whether the file of an entry with these fields is believed to be signed."""
    entry = ima_entry(template, *fields)
    file = read_file(encode_entry(entry), len(entry.digest), 0)
    return file is not None and file.signature is not None and is_signed(*file[2:5], signers(KEY))


def test_the_fields_of_an_entry() -> None:
    d, n, m = b"sha256:\0" + WHOLE, b"/lib/m.ko\0", b"sha256:\0" + DIGEST
    assert read("ima-modsig", d, n, b"", m, message())
    assert read("d-ng|n-ng|d-modsig|modsig", d, n, m, message())
    assert read("ima-modsig", d, n, b"\3\2 of nobody", m, message())
    assert not read("ima-modsig", d, n, b"", d, message())
    assert not read("ima-modsig", d, n, b"", m, b"")
    assert not read("ima-modsig", d, n, b"", b"", message())
    assert not read("d-ng|n-ng|modsig", d, n, message())
    assert not read("ima-modsig", d, n, message(), m, b"")
    assert not read("ima-modsig", d, n, b"", b"ima:" + m, message())
    assert not read("ima-modsig", d, n, b"", m[:-1], message())


# --- messages that somebody else made -----------------------------------------------------------------------------

Make = Callable[..., bytes]


@pytest.fixture(scope="module", params=["rsa", "p256", "p384", "p521"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Make, Signers]:
    """``openssl cms -sign`` with a new key and its certificate, and that key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("openssl")
    key: Any = {
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    }[request.param]()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(pem)
    (folder / "content").write_bytes(CONTENT)
    _openssl(folder, "req", "-new", "-x509", "-key", "key.pem", "-subj", "/CN=modules", "-out", "cert.pem")

    def make(*options: str) -> bytes:
        files = ("-signer", "cert.pem", "-inkey", "key.pem", "-in", "content", "-outform", "DER")
        return _openssl(folder, "cms", "-sign", "-binary", *files, *options)

    return make, signers(load_pem_private_key(pem, None))


def _openssl(folder: Path, *arguments: str) -> bytes:
    return subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=30).stdout


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("options", [("-noattr",), ("-noattr", "-keyid"), (), ("-keyid", "-nosmimecap")], ids=" ".join)
def test_messages_of_openssl(made: tuple[Make, Signers], name: str, options: tuple[str, ...]) -> None:
    make, by = made
    data = make("-md", name, "-nocerts", *options)
    assert believed(data, hashlib.new(name, CONTENT).digest(), by, name)
    assert not believed(data, hashlib.new(name, b"other").digest(), by, name)
    assert not believed(data, hashlib.new(name, CONTENT).digest(), signers(KEY), name)


def test_messages_of_openssl_that_say_too_much(made: tuple[Make, Signers]) -> None:
    make, by = made
    assert not believed(make("-md", "sha256", "-noattr"), DIGEST, by)  # with the certificate
    assert not believed(make("-md", "sha256", "-noattr", "-nocerts", "-nodetach"), DIGEST, by)
    assert not believed(make("-md", "sha1", "-noattr", "-nocerts"), hashlib.sha1(CONTENT).digest(), by, "sha1")
