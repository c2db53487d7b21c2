"""PCR 7 from files: the same for a variable store, signature lists, certificates; and what firmware would refuse."""

from __future__ import annotations

import struct
import uuid
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.reference import machines

from watchword.errors import MalformedError, UsageError, WatchwordError
from watchword.reference.boot.authenticode import read_signatures, tbs_digest, vouching_path
from watchword.reference.boot.events import Measure
from watchword.reference.boot.secureboot import Authorities, SecureBoot, policy
from watchword.reference.boot.variables import key_database, variable_store
from watchword.wire.pe import PeImage
from watchword.wire.tcg_log import EventLog
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.uefi import DB, parse_signatures

MEASURE = Measure([Alg.SHA256])
SNAKEOIL = machines.OVMF / "OVMF_VARS_4M.snakeoil.fd"
SHA256, X509, X509_SHA256 = (
    uuid.UUID(text)
    for text in (
        "c1c41626-504c-4092-aca9-41f936934328",
        "a5c059a1-94e4-4aa7-87b5-ab155c2bf072",
        "3bd2a492-96c0-4079-b420-fcf98ef103ed",
    )
)
OWNER = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")


def entry(kind: uuid.UUID, content: bytes) -> bytes:
    size = 16 + len(content)
    return kind.bytes_le + struct.pack("<III", 28 + size, 0, size) + OWNER.bytes_le + content


@pytest.fixture(scope="module")
def content() -> bytes:
    """A signed program; two signatures of one program differ, since the time is in them."""
    return machines.signed(machines.systemd_boot())


@pytest.fixture(scope="module")
def image(content: bytes) -> PeImage:
    return PeImage.parse(content)


@pytest.fixture(scope="module")
def store() -> dict[str, bytes]:
    return variable_store(SNAKEOIL.read_bytes())


def on(**databases: bytes) -> Authorities:
    return Authorities(MEASURE, SecureBoot(True, databases))


def test_the_same_from_certificates_and_auth_files(store: dict[str, bytes], boots: Path) -> None:
    pem = Path(machines.signing.CERTIFICATE).read_bytes()
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    owner = parse_signatures(store["db"])[0].owner
    auth = bytes(16) + struct.pack("<IHH", 24, 0x0200, 0x0EF1) + bytes(16) + store["db"]
    assert key_database([pem], owner) == key_database([der], owner) == key_database([auth], None) == store["db"]
    events = policy(MEASURE, SecureBoot(True, store))
    log = EventLog.parse((boots / "secure-boot-on" / "eventlog.bin").read_bytes())
    assert [e.digests[Alg.SHA256] for e in events] == [e.digest(Alg.SHA256) for e in log.events if e.pcr == 7][:6]


def test_further_databases_are_measured_where_there_are_any() -> None:
    notes = [event.note for event in policy(MEASURE, SecureBoot(True, {"dbt": b"1", "dbr": b"2"}))]
    assert [note.split()[3] for note in notes[:-1]] == ["SecureBoot", "PK", "KEK", "db", "dbx", "dbt", "dbr"]
    assert len(policy(MEASURE, SecureBoot(False, {"dbt": b""}))) == 6


def test_an_entry_is_measured_once(image: PeImage, store: dict[str, bytes]) -> None:
    authorities = on(**store)
    assert len(authorities.of(image, "x")) == 1
    assert authorities.of(image, "x") == []
    assert Authorities(MEASURE, SecureBoot(False, store)).of(image, "x") == []


def test_the_entry_that_vouches(image: PeImage, store: dict[str, bytes]) -> None:
    other = variable_store((machines.OVMF / "OVMF_VARS_4M.ms.fd").read_bytes())["db"]
    first, second = on(db=other + store["db"]).of(image, "x"), on(db=store["db"]).of(image, "x")
    assert first == second
    by_digest = on(db=entry(SHA256, image.digest(Alg.SHA256))).of(image, "x")
    assert "sha256" in by_digest[0].note


@pytest.mark.parametrize("kind", ["nothing", "other", "digest", "certificate", "tbs"])
def test_what_firmware_would_not_start(kind: str, image: PeImage, store: dict[str, bytes]) -> None:
    certificate = x509.load_pem_x509_certificate(Path(machines.signing.CERTIFICATE).read_bytes())
    databases = {
        "nothing": {},
        "other": {"db": variable_store((machines.OVMF / "OVMF_VARS_4M.ms.fd").read_bytes())["db"]},
        "digest": {"db": store["db"], "dbx": entry(SHA256, image.digest(Alg.SHA256))},
        "certificate": {"db": store["db"], "dbx": store["db"]},
        "tbs": {"db": store["db"], "dbx": entry(X509_SHA256, tbs_digest(certificate) + bytes(16))},
    }[kind]
    with pytest.raises(UsageError, match="would not start it") as refusal:
        on(**databases).of(image, "loader")
    assert ("revokes" in str(refusal.value)) == (kind in ("digest", "certificate", "tbs"))


def test_an_unsigned_program(store: dict[str, bytes]) -> None:
    with pytest.raises(UsageError, match="no entry of db"):
        on(**store).of(PeImage.parse(machines.systemd_boot()), "loader")


def test_every_signature_of_real_programs_leads_to_its_maker() -> None:
    db = [
        entry.data
        for entry in parse_signatures(variable_store((machines.OVMF / "OVMF_VARS_4M.ms.fd").read_bytes())["db"])
    ]
    shim = PeImage.parse(machines.shim())
    paths = [vouching_path(signed, anchor) for signed in read_signatures(shim) for anchor in db]
    assert any(paths)
    grub = PeImage.parse(machines.grub())
    assert not any(vouching_path(signed, anchor) for signed in read_signatures(grub) for anchor in db)


def test_a_signature_of_another_program(content: bytes) -> None:
    other = bytearray(content)
    other[0x50] ^= 1
    with pytest.raises(MalformedError, match="over another program"):
        read_signatures(PeImage.parse(bytes(other)))


def test_no_bit_of_a_signature_can_be_changed(image: PeImage, content: bytes) -> None:
    """What is not signed (certificates, dates, versions) may change; a changed signature proves nothing."""
    [message] = image.signatures
    start = content.index(message)
    anchor = x509.load_pem_x509_certificate(Path(machines.signing.CERTIFICATE).read_bytes()).public_bytes(Encoding.DER)
    # The last 256 bytes are the RSA signature, before them the signed attributes; padding may follow.
    length = 4 + int.from_bytes(message[2:4], "big")
    for at in (length - 1, length - 100, length - 256, message.index(bytes.fromhex("2a864886f70d010904")) + 20):
        changed = bytearray(content)
        changed[start + at] ^= 1
        with pytest.raises(MalformedError):
            read_signatures(PeImage.parse(bytes(changed)))
    assert vouching_path(read_signatures(image)[0], anchor) is not None
    assert vouching_path(read_signatures(image)[0], b"not a certificate") is None


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        (40, b"XXXX", "firmware volume"),
        (72, b"\0", "authenticated variables"),
        (72 + 20, b"\0\0", "healthy"),
        (72 + 28, b"\1\2", "its mark"),
        (72 + 28 + 2, b"\x3e", None),
        (72 + 28 + 36, b"\xff\xff\xff\x7f", "needs"),
    ],
)
def test_hostile_variable_stores(at: int, value: bytes, why: str | None) -> None:
    data = bytearray(SNAKEOIL.read_bytes())
    data[at : at + len(value)] = value
    if why is None:
        variable_store(bytes(data))  # another variable than those of Secure Boot may be on its way
        return
    with pytest.raises(MalformedError, match=why):
        variable_store(bytes(data))


def test_a_store_that_was_being_written() -> None:
    data = bytearray(SNAKEOIL.read_bytes())
    at = bytes(data).index(DB.bytes_le + "db\0".encode("utf-16-le")) + 16 - 60
    assert data[at : at + 3] == b"\xaa\x55\x3f"
    data[at + 2] = 0x3E
    with pytest.raises(MalformedError, match="db is being written"):
        variable_store(bytes(data))


@pytest.mark.parametrize(
    "part", [b"junk", b"-----BEGIN CERTIFICATE-----\n", b"\x30\x82\0\0", bytes(16) + b"\xff\xff\0\0\0\2\xf1\x0e"]
)
def test_what_is_no_key_database(part: bytes) -> None:
    with pytest.raises(WatchwordError):
        key_database([part], OWNER)


def test_a_certificate_needs_an_owner() -> None:
    with pytest.raises(MalformedError, match="owner"):
        key_database([Path(machines.signing.CERTIFICATE).read_bytes()], None)
