"""Signatures that come with files, made by evmctl and cryptography, in every place where artifacts keep them."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.reference.files.artifacts import ext4, rpm, squashfs, tar, tool

from watchword.cli.main import run
from watchword.errors import MalformedError, UsageError
from watchword.reference.files import Options, RuntimeReferences, Source, collect, load_signers
from watchword.reference.files.signature import MAX_SIGNATURE

SIGNED = "usr/bin/tool"
Make = Callable[[Path], Path]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a private key, its public key (PEM), and a certificate as evmctl wants it."""
    folder = tmp_path_factory.mktemp("key")
    private = rsa.generate_private_key(65537, 2048)
    (folder / "key.pem").write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    (folder / "key.pub").write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    tool("openssl", "req", "-x509", "-new", "-key", folder / "key.pem", "-subj", "/CN=x", "-out", folder / "cert.pem")
    tool("openssl", "x509", "-in", folder / "cert.pem", "-outform", "der", "-out", folder / "cert.der")
    return folder


def attribute(key: Path, content: bytes, alg: str = "sha256") -> bytes:
    """``security.ima`` of a file with ``content``, by evmctl; which also says that it is good."""
    file = key / "signed"
    file.write_bytes(content)
    tool("evmctl", "ima_sign", "--sigfile", "-a", alg, "--key", key / "key.pem", file)
    tool("evmctl", "ima_verify", "--sigfile", "--key", key / "cert.der", file)
    return (key / "signed.sig").read_bytes()


def with_attribute(tree: Path, value: bytes) -> None:
    try:
        os.setxattr(tree / SIGNED, "security.ima", value)
    except OSError as error:
        pytest.skip(f"security.ima cannot be set here: {error.strerror}")


def as_directory(tree: Path) -> Path:
    return tree


def as_tar(tree: Path) -> Path:
    return tar(tree, "--xattrs", "--xattrs-include=security.*")


def as_ext4(tree: Path) -> Path:
    return ext4(tree)


def as_ext4_without_large_inodes(tree: Path) -> Path:
    return ext4(tree, "-I", "128")


def as_ext4_with_large_blocks(tree: Path) -> Path:
    return ext4(tree, "-b", "4096")


KINDS = [as_directory, as_tar, as_ext4, as_ext4_without_large_inodes, squashfs]


def listed(source: Path, *keys: Path) -> RuntimeReferences:
    texts, signers = load_signers(keys)
    return collect([Source(source)], Options(usrmerge="split", signers=texts, keys=signers or None))


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("alg", ["sha256", "sha512"])
def test_a_good_signature(tree: Path, key: Path, make: Make, alg: str) -> None:
    with_attribute(tree, attribute(key, (tree / SIGNED).read_bytes(), alg))
    source = make(tree)
    assert listed(source).counts["signed"] == 1
    for file in ("key.pub", "cert.pem"):
        found = listed(source, key / file)
        assert (found.counts["signed"], found.counts["signature: good"]) == (1, 1)
        assert all(digest.startswith("sha256:") for digest in found.listing()[f"/{SIGNED}"])
        public = base64.b64decode(found.runtime()["signers"][0])
        told = subprocess.run(
            ["openssl", "pkey", "-pubin", "-in", key / "key.pub", "-outform", "der"], check=True, capture_output=True
        )
        assert public == told.stdout


@pytest.mark.parametrize("make", KINDS)
def test_a_signature_of_another_content(tree: Path, key: Path, make: Make) -> None:
    with_attribute(tree, attribute(key, b"another content"))
    source = make(tree)
    with pytest.raises(MalformedError, match=f"{source.name}.*/{SIGNED}: its signature") as refused:
        listed(source, key / "key.pub")
    assert refused.value.code == "reference-signature"
    assert listed(source).counts["signed"] == 1  # without keys nothing is said about it


def test_a_signature_that_was_changed(tree: Path, key: Path) -> None:
    value = bytearray(attribute(key, (tree / SIGNED).read_bytes()))
    value[-1] ^= 1
    with_attribute(tree, bytes(value))
    with pytest.raises(MalformedError, match="did not sign this content"):
        listed(tree, key / "key.pub")


def test_a_signature_by_another_key(tree: Path, key: Path, tmp_path: Path) -> None:
    with_attribute(tree, attribute(key, b"another content"))
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    (tmp_path / "other.pub").write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    found = listed(tree, tmp_path / "other.pub")
    assert found.counts == {"files": 5, "symlink": 1, "signed": 1, "signature: other-key": 1}


@pytest.mark.parametrize("value", [b"\x04\x04" + bytes(32), b"\x03", b"\x03\x02\x02abcd\0\1x"])
def test_an_attribute_that_is_no_signature_of_a_strong_hash(tree: Path, key: Path, value: bytes) -> None:
    with_attribute(tree, value)
    assert listed(tree, key / "key.pub").counts["signature: not-verified"] == 1


@pytest.mark.parametrize("make", [as_directory, as_tar, as_ext4_with_large_blocks, squashfs])
def test_an_attribute_that_is_too_long(tree: Path, make: Make) -> None:
    with_attribute(tree, b"\x03" * (MAX_SIGNATURE + 1))
    source = make(tree)
    with pytest.raises(MalformedError, match=rf"security\.ima.*(too long|more than {MAX_SIGNATURE})"):
        listed(source)


def test_signatures_in_the_header_of_an_rpm(tree: Path, key: Path) -> None:
    package = rpm(tree)
    plain = listed(package, key / "key.pub")
    assert "signed" not in plain.counts
    values = {name: attribute(key, (tree / name).read_bytes()) for name in ("bin/old", "bin/same", "e", SIGNED)}
    values["usr/share/doc/tool/readme"] = attribute(key, (tree / "usr/share/doc/tool/readme").read_bytes())
    signed = with_signatures(package, values)
    assert listed(signed, key / "key.pub").counts["signature: good"] == 4  # a hard link is one file
    values[SIGNED] = values["e"]
    with pytest.raises(MalformedError, match=f"/{SIGNED}: its signature"):
        listed(with_signatures(package, values), key / "key.pub")


def with_signatures(package: Path, values: dict[str, bytes]) -> Path:
    """What ``rpmsign --signfiles`` does: a column of signatures in the signature header (RPMSIGTAG_FILESIGNATURES)."""
    data = package.read_bytes()
    count, size = (int.from_bytes(data[96 + at : 100 + at], "big") for at in (8, 12))
    index, store = data[112 : 112 + 16 * count], data[112 + 16 * count : 112 + 16 * count + size]
    rest = data[112 + 16 * count + size + -size % 8 :]
    names = subprocess.run(["rpm", "-qlp", package], check=True, capture_output=True, text=True).stdout.split()
    column = b"".join(values.get(name[1:], b"").hex().encode() + b"\0" for name in names)
    index += b"".join(number.to_bytes(4, "big") for number in (274, 8, len(store), len(names)))
    store += column
    head = data[96:104] + (count + 1).to_bytes(4, "big") + len(store).to_bytes(4, "big")
    out = package.with_name("signed.rpm")
    out.write_bytes(data[:96] + head + index + store + bytes(-len(store) % 8) + rest)
    return out


def test_keys_that_are_none(tree: Path, key: Path) -> None:
    for file, why in ((tree / "e", "is not a public key"), (key / "key.pem", "is not a"), (tree / "none", "no such")):
        with pytest.raises(UsageError, match=why):
            load_signers([file])


def test_command(tree: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_attribute(tree, attribute(key, (tree / SIGNED).read_bytes()))
    out = tree.parent / "runtime.json"
    assert run(["stack", "files", str(tree), "--signer", str(key / "key.pub"), "--runtime", "-o", str(out)]) == 0
    assert "1 signed" in capsys.readouterr().out
    assert '"signers": [' in out.read_text()
    assert run(["stack", "files", str(tree), "--signer", str(tree / "e"), "-o", str(out)]) == 1
