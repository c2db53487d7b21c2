"""Portable signatures of a file's attributes: the layout that is signed, and what must be among it."""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from watchword.policy.file_signature import compile_signers, is_signed
from watchword.testing.logs import ima_entry
from watchword.verify.runtime_file import read_file
from watchword.wire.ima_entry import PortableSignature
from watchword.wire.ima_log import encode_entry
from watchword.wire.tpm.algorithms import Alg

DIGEST = hashlib.sha256(b"file").digest()
KEY = ec.generate_private_key(ec.SECP256R1())
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
KEY_ID = hashlib.sha1(KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)).digest()[-4:]
SIGNERS = compile_signers("s", "p", [base64.b64encode(SPKI).decode()])
LABEL, IMA = b"system_u:object_r:bin_t:s0\0", b"\4\4" + DIGEST
MISC = bytes(12) + struct.pack("<IIHxx", 1000, 1001, 0o104755)


def sign(signed: bytes, *, kind: int = 5, version: int = 2, number: int = 4, end: bytes = b"") -> bytes:
    signature = KEY.sign(hashlib.sha256(signed).digest(), ec.ECDSA(Prehashed(hashes.SHA256())))
    return struct.pack(">BBB4sH", kind, version, number, KEY_ID, len(signature)) + signature + end


def portable(values: dict[bytes, bytes], attribute: bytes | None = None) -> PortableSignature:
    joined = b"".join(values.values())
    return PortableSignature(
        attribute or sign(joined + MISC),
        b"|".join(values) + b"\0",
        b"".join(struct.pack("<I", len(value)) for value in values.values()),
        joined,
        struct.pack("<I", 1000),
        struct.pack("<I", 1001),
        struct.pack("<H", 0o104755),
    )


GOOD = portable({b"security.selinux": LABEL, b"security.ima": IMA})


def believed(signature: PortableSignature, alg: Alg = Alg.SHA256, digest: bytes = DIGEST) -> bool:
    return is_signed(alg, digest, (signature,), SIGNERS)


def test_good_signatures() -> None:
    assert believed(GOOD)
    assert believed(portable({b"security.ima": IMA}))
    wide = hashlib.sha512(b"file").digest()
    assert believed(portable({b"security.ima": b"\4\6" + wide}), Alg.SHA512, wide)


def test_everything_that_is_signed() -> None:
    assert not believed(replace(GOOD, values=GOOD.values[:3] + b"X" + GOOD.values[4:]))
    assert not believed(replace(GOOD, uid=bytes(4)))
    assert not believed(replace(GOOD, gid=bytes(4)))
    assert not believed(replace(GOOD, mode=struct.pack("<H", 0o100755)))
    assert not is_signed(Alg.SHA256, DIGEST, (GOOD,), {})


@pytest.mark.parametrize("kind", [2, 3, 6])
def test_another_kind_of_signature(kind: int) -> None:
    assert not believed(replace(GOOD, attribute=sign(GOOD.values + MISC, kind=kind)))


@pytest.mark.parametrize("other", [{"version": 1}, {"version": 3}, {"number": 2}, {"number": 5}])
def test_another_header(other: dict[str, int]) -> None:
    assert not believed(replace(GOOD, attribute=sign(GOOD.values + MISC, **other)))


def test_the_attribute_is_whole() -> None:
    assert not believed(replace(GOOD, attribute=GOOD.attribute + b"\0"))
    for cut in range(len(GOOD.attribute)):
        assert not believed(replace(GOOD, attribute=GOOD.attribute[:cut]))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\4\4" + bytes(32),  # of another file
        b"\4\5" + DIGEST,  # by another hash
        b"\1\4" + DIGEST,
        b"\4\4" + DIGEST[:-1],
        b"\4\4" + DIGEST + b"\0",
        b"\3\2\4" + DIGEST,  # a signature, not a digest
    ],
)
def test_what_was_signed_is_another_content(value: bytes) -> None:
    assert not believed(portable({b"security.ima": value}))


def test_no_digest_among_what_is_signed() -> None:
    assert not believed(portable({b"security.selinux": IMA}))
    assert not believed(portable({b"security.imaginary": IMA}))


def test_names_lengths_and_values_fit_together() -> None:
    split = struct.Struct("<II").pack
    assert not believed(replace(GOOD, lengths=split(26, 35)))  # the same bytes, parted elsewhere
    assert not believed(replace(GOOD, lengths=GOOD.lengths[:-1]))
    assert not believed(replace(GOOD, lengths=GOOD.lengths + bytes(4)))
    longer = portable({b"security.ima": IMA}, sign(IMA + b"more" + MISC))
    assert not believed(replace(longer, values=IMA + b"more"))
    assert not believed(portable({b"security.ima": IMA, b"user.note": b"x"}))
    assert not believed(portable({b"security.ima": IMA, b"security.\0": b"x"}))


def test_a_name_twice() -> None:
    other = b"\4\4" + bytes(32)
    twice = portable({b"security.ima": other, b"security.im2": IMA})
    assert not believed(replace(twice, names=b"security.ima|security.ima\0"))


def test_too_many_attributes() -> None:
    names = [b"security.%d" % number for number in range(64)]
    assert believed(portable({b"security.ima": IMA} | dict.fromkeys(names[:63], b"")))
    assert not believed(portable({b"security.ima": IMA} | dict.fromkeys(names, b"")))


def test_sizes_of_owner_group_and_mode() -> None:
    assert not believed(replace(GOOD, uid=GOOD.uid + b"\0"))
    assert not believed(replace(GOOD, gid=GOOD.gid + b"\0"))
    assert not believed(replace(GOOD, mode=GOOD.mode + b"\0"))
    root = bytes(12) + struct.pack("<IIHxx", 0, 0, 0)
    nobody = replace(GOOD, attribute=sign(GOOD.values + root), uid=bytes(4), gid=bytes(4), mode=bytes(2))
    assert believed(nobody)
    for name in ("uid", "gid", "mode"):
        assert not believed(replace(nobody, **{name: b""}))


# --- through the log ----------------------------------------------------------------------------------------------


def read(template: str, *fields: bytes) -> bool:
    """Whether the file of an entry with these fields is believed to be signed."""
    entry = ima_entry(template, *fields)
    file = read_file(encode_entry(entry), len(entry.digest), 0)
    return file is not None and file.signature is not None and is_signed(*file[2:5], SIGNERS)


def test_the_fields_of_an_entry() -> None:
    d, n = b"sha256:\0" + DIGEST, b"/bin/a\0"
    g = GOOD
    rest = (g.names, g.lengths, g.values, g.uid, g.gid, g.mode)
    assert read("evm-sig", d, n, g.attribute, *rest)
    assert not read("evm-sig", b"sha256:\0" + bytes(32), n, g.attribute, *rest)
    assert not read("evm-sig", d, n, b"", *rest)
    assert not read("evm-sig", d, n, g.attribute, g.names, g.lengths, g.values, g.gid, g.uid, g.mode)
    assert not read("d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues", d, n, g.attribute, *rest[:3])
    assert not read("d-ng|n-ng|evmsig", d, n, g.attribute)


# --- a signature that evmctl made ---------------------------------------------------------------------------------

# evmctl sign -a sha384 --portable --selinux system_u:object_r:bin_t:s0, of a file with mode 4750 and owner 1000:1001
EVMCTL_KEY = (
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAl74cYmnMo8WZJeUL3Sz8+8jM8NtBSsDwi7mycV7+IJxkvlU2/IuIrt1K"
    "jO3Gl99ZalbN1AmEeR867JlXtML1NAi83lxf1XJMD9PltokG/WEPHxwrw3MMh7yajpLTBmGQVyYlxQPBYrhjjy7f3idfFe8MIopL"
    "4Y1AcgtkRg0u8A6D19sn1u/9/LDXZ+jB268BhvGW1SoGgsfq7ZD7vYwDMgm1kwGcIy6ZYm1l3ezhkeB2cnN93C0cLJDcQDZ5kJKh"
    "/ybvblw5BKEUE/CBaF9eHQOXgSSraC9Zp4PScD/EwBf/WKjygsNHamTlxIbtosnAmT9Iw4E1K45uRvcy3WByMwIDAQAB"
)
EVMCTL = (
    "05020549ec272a01008bfdd54b2b06b18d564396ddac45c928ef3359ef16d8c1e2888bf7f707928220cc52c232fe9d93cfcd"
    "5df951eafc4de11732df740a6923d5c41bc715f20604badd20c59fc4c6c413d4f9b6fa5f5989d01b038f6e08bd52f83ae945"
    "dce88b256732139c2037f49d9b7fc939ba3baf3fa74bddafdd4a1b7bcdce8bb4625e77d2c2089b08c6edea2886bfafda0950"
    "271e267b4ba95e8b887de30bb0d06e7998440f7087ba872a6734fe3b893af33d8f31f05d2446298fc3406a8b16b310b1d5bb"
    "298c5346605547ca8eeb981f11f3d1d7080401a7ecbc8b0a5b2e16dac1dd696e9c58f025965c2ef7e055537954ccc8643307"
    "31827d6c2902b601e88d636732c09c"
)


def test_a_signature_of_evmctl() -> None:
    digest = bytes.fromhex("86004d65c4f387c95467c6cee92bc1f1f8cb04d6650be09fbd1e359834a56766")
    values = {
        b"security.selinux": LABEL,
        b"security.ima": b"\4\4" + digest,
        b"security.capability": bytes.fromhex("0100000200040000000000000000000000000000"),
    }
    made = replace(portable(values, bytes.fromhex(EVMCTL)), mode=struct.pack("<H", 0o104750))
    signers = compile_signers("s", "p", [EVMCTL_KEY])
    assert is_signed(Alg.SHA256, digest, (made,), signers)
    assert not is_signed(Alg.SHA256, digest, (replace(made, mode=GOOD.mode),), signers)
    assert not is_signed(Alg.SHA256, digest, (made,), SIGNERS)
