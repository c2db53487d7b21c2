"""The keyring: private files, rotation that clients can follow, and the service's certificates."""

from __future__ import annotations

import ssl
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import verification

from watchword.authority.keys import tls
from watchword.authority.keys.keyring import Keyring, KeyringSource
from watchword.crypto import keylist
from watchword.crypto.token import open_token, seal_token
from watchword.errors import Rejected, UsageError
from watchword.testing.memory_log import MemoryLog
from watchword.verify.log import verify_checkpoint
from watchword.wire.token import TokenBody

from .helpers import NOW


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring.create(tmp_path / "keyring", authority="test", now=NOW)


def again(ring: Keyring, passphrase: bytes | None = None) -> Keyring:
    return Keyring.load(ring.directory, passphrase=passphrase)


def test_a_new_keyring_is_private(ring: Keyring) -> None:
    assert stat.S_IMODE(ring.directory.stat().st_mode) == 0o700
    for file in ring.directory.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert ring.key_list.version == 1
    assert ring.fingerprint == keylist.root_fingerprint(ring.key_list.root)
    assert len({ring.mac_key, ring.pseudonym_key}) == 2
    assert len(ring.mac_key) == len(ring.pseudonym_key) == 32


def test_secrets_are_not_shown(ring: Keyring) -> None:
    text = repr(ring)
    assert ring.mac_key.hex() not in text
    assert repr(ring.mac_key) not in text
    assert "PrivateKey" not in text


def test_loading_gives_the_same_keys(ring: Keyring) -> None:
    loaded = again(ring)
    assert loaded.mac_key == ring.mac_key
    assert loaded.pseudonym_key == ring.pseudonym_key
    assert loaded.chain == ring.chain
    assert list(loaded.sealing_keys) == list(ring.sealing_keys)


def test_there_is_only_one_first_time(ring: Keyring) -> None:
    with pytest.raises(UsageError) as caught:
        Keyring.create(ring.directory, authority="other", now=NOW)
    assert caught.value.code == "keyring-exists"
    same = Keyring.open_or_create(ring.directory, authority="other", now=NOW)
    assert same.fingerprint == ring.fingerprint


@pytest.mark.parametrize("kind", ["signing", "sealing", "root"])
def test_a_pin_survives_every_rotation(ring: Keyring, kind: str) -> None:
    for step in range(3):
        ring = getattr(ring, f"rotate_{kind}")(NOW + step)
    followed = keylist.verify_chain(ring.chain, ring.fingerprint)
    assert followed.version == 4
    assert replace(followed, envelope=b"") == replace(ring.key_list, envelope=b"")


def test_old_receipts_stay_good_and_new_ones_use_the_new_key(ring: Keyring) -> None:
    from watchword.crypto import dsse

    receipt = MemoryLog("test").receipt(b'{"time":1}', b"k" * 32, ring.signing_key)
    rotated = ring.rotate_signing(NOW + 1)
    assert rotated.signing_key.public_key() != ring.signing_key.public_key()
    kind = "application/vnd.watchword.receipt+json"
    assert dsse.verify(receipt, kind, rotated.key_list.receipt_keys(), 1).key_ids


def test_old_checkpoints_stay_good_and_new_ones_use_the_new_key(ring: Keyring) -> None:
    old = MemoryLog("test", ring.log_key).checkpoint()
    rotated = ring.rotate_log(NOW + 1)
    assert rotated.log_key.public_key() != ring.log_key.public_key()
    assert rotated.key_list.log == (rotated.log_key.public_key(), ring.log_key.public_key())
    assert verify_checkpoint(old, rotated.key_list).size == 0
    with pytest.raises(Rejected):
        verify_checkpoint(MemoryLog("test", rotated.log_key).checkpoint(), ring.key_list)


def test_old_tokens_open_until_their_key_is_dropped(ring: Keyring) -> None:
    body = TokenBody(
        secret=b"s" * 32,
        launch_id=b"l" * 16,
        inputs=b"i" * 32,
        profile=b"p" * 32,
        expires=NOW,
        releases=1,
        level=1,
        flags=0,
    )
    text = seal_token(body, ring.key_list.sealing_key())
    rotated = ring.rotate_sealing(NOW + 1)
    assert rotated.key_list.sealing_key() != ring.key_list.sealing_key()
    assert open_token(text, rotated.sealing_keys) == body
    dropped = rotated.drop_sealing(NOW + 2)
    assert len(dropped.sealing_keys) == 1
    assert dropped.key_list.sealing_key() == rotated.key_list.sealing_key()
    assert len(list(ring.directory.glob("sealing-*"))) == 1


def test_the_old_root_is_forgotten(ring: Keyring) -> None:
    ring.rotate_root(NOW + 1)
    assert len(list(ring.directory.glob("root-*"))) == 1
    again(ring).rotate_root(NOW + 2)


def test_a_rotation_starts_from_what_is_on_disk(ring: Keyring) -> None:
    ring.rotate_signing(NOW + 1)
    assert ring.rotate_sealing(NOW + 2).key_list.version == 3


def test_the_service_notices_a_rotation(ring: Keyring) -> None:
    source = KeyringSource(ring)
    assert source() is ring
    rotated = ring.rotate_sealing(NOW + 1)
    assert source().key_list.version == rotated.key_list.version == 2
    assert source() is source()


def test_a_passphrase_protects_every_key(tmp_path: Path) -> None:
    ring = Keyring.create(tmp_path / "k", authority="test", now=NOW, passphrase=b"correct horse")
    for file in ring.directory.glob("*.pem"):
        assert b"ENCRYPTED" in file.read_bytes() or b"CERTIFICATE" in file.read_bytes()
    for wrong in (None, b"wrong"):
        with pytest.raises(UsageError) as caught:
            again(ring, wrong)
        assert caught.value.code == "key-passphrase"
    rotated = again(ring, b"correct horse").rotate_root(NOW + 1)
    assert rotated.key_list.version == 2
    tls.server_context(*rotated.tls_files, rotated.passphrase)


def test_a_certificate_that_is_lost_to_its_key_asks_nobody(tmp_path: Path) -> None:
    ring = Keyring.create(tmp_path / "k", authority="test", now=NOW, passphrase=b"correct horse")
    with pytest.raises(ssl.SSLError):
        tls.server_context(*ring.tls_files, None)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda d: d.joinpath("keyring.json").unlink(), "keyring-missing"),
        (lambda d: d.joinpath("keyring.json").write_text("{}"), "keyring-format"),
        (lambda d: d.joinpath("keyring.json").write_text("[" * 100_000), "keyring-format"),
        (lambda d: next(d.glob("mac-*")).unlink(), "keyring-format"),
        (lambda d: next(d.glob("mac-*")).write_text("nothing"), "key-format"),
        (lambda d: next(d.glob("mac-*")).write_bytes(next(d.glob("root-*")).read_bytes()), "key-format"),
        (lambda d: next(d.glob("signing-*")).write_bytes(next(d.glob("root-*")).read_bytes()), "keyring-format"),
        (lambda d: next(d.glob("mac-*")).chmod(0o640), "key-open"),
        (lambda d: _edit(d, "mac-", "../mac-"), "keyring-format"),
    ],
)
def test_a_damaged_keyring_is_refused(ring: Keyring, damage: object, code: str) -> None:
    damage(ring.directory)  # type: ignore[operator]
    with pytest.raises(UsageError) as caught:
        again(ring)
    assert caught.value.code == code


def _edit(directory: Path, old: str, new: str) -> None:
    file = directory / "keyring.json"
    file.write_text(file.read_text().replace(old, new))


def test_a_directory_open_to_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "k").mkdir(mode=0o755)
    (tmp_path / "k").chmod(0o755)
    for make in (Keyring.create, Keyring.open_or_create):
        with pytest.raises(UsageError) as caught:
            make(tmp_path / "k", authority="test", now=NOW)
        assert caught.value.code == "directory-open"


def test_programs_that_start_together_make_one_authority(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = pool.map(lambda n: Keyring.open_or_create(tmp_path / "k", authority=f"test {n}", now=NOW), range(4))
    assert len({ring.fingerprint for ring in made}) == 1


# -- TLS -----------------------------------------------------------------------------------------------------------


def test_the_server_certificate_leads_to_the_listed_authority(ring: Keyring) -> None:
    named = ring.with_names(["authority.example", "127.0.0.1", "::1"], NOW)
    leaf, ca = x509.load_pem_x509_certificates(named.tls_files[0].read_bytes())
    assert [ca] == x509.load_pem_x509_certificates(ring.key_list.tls_ca.encode())
    from datetime import UTC, datetime

    builder = verification.PolicyBuilder().store(verification.Store([ca])).time(datetime.fromtimestamp(NOW, UTC))
    assert builder.build_server_verifier(x509.DNSName("authority.example")).verify(leaf, [])


def test_a_certificate_is_issued_only_when_it_must_be(ring: Keyring) -> None:
    named = ring.with_names(["authority.example"], NOW)
    assert named.with_names(["authority.example"], NOW) is named
    later = named.with_names(["authority.example"], NOW + 330 * 86400)
    assert later.tls_files != named.tls_files
    assert later.fingerprint == ring.fingerprint
    assert later.key_list.version == 1


def test_services_that_start_together_take_the_certificate_of_the_first(tmp_path: Path) -> None:
    first = Keyring.create(tmp_path / "k", authority="test", now=NOW)
    second = Keyring.load(tmp_path / "k")
    named = first.with_names(["authority.example"], NOW)
    assert not second.tls_files[0].exists()
    assert second.with_names(["authority.example"], NOW).tls_files == named.tls_files
    rings = [Keyring.load(tmp_path / "k") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda ring: ring.with_names(["another.example"], NOW).tls_files, rings)
    assert len(set(found)) == 1
