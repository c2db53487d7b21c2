"""All that an authority keeps but its keys, in the hands of a thief: what is in it, and what can be made of it."""

from __future__ import annotations

import base64
import os
import re
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from faults.load import Token, launch
from faults.service import Service

from watchword.authority.keys.keyring import Keyring
from watchword.authority.publishing.log import PublicLog
from watchword.authority.store import Store
from watchword.crypto.token import open_token, seal_token
from watchword.errors import Rejected
from watchword.launch import challenge
from watchword.launch.receipt import Decision, launch_key, make_receipt, verify_receipt
from watchword.testing.replayed import Line
from watchword.wire.evidence import Purpose
from watchword.wire.token import TokenBody, token_id

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "authority-files.md"
# The tables that may say who a host is; docs/reference/authority-files.md says what is in them.
ABOUT_HOSTS = {"hosts", "last_seen", "runtime_seen", "host_states", "placements", "decisions",
               "evidence", "evidence_logs", "evidence_parts"}  # fmt: skip


@dataclass
class Theft:
    """A service that has released, stopped, and what the thief took: all files but the keys."""

    folder: Path
    ring: Keyring
    body: TokenBody
    token: str
    hosts: list[bytes]

    @property
    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}

    @property
    def store(self) -> Store:
        return Store.open(self.folder / "store.sqlite3")

    def own(self) -> Keyring:
        """Keys that the thief makes itself, under the authority's name."""
        return Keyring.create(self.folder / "own", authority=self.ring.key_list.authority, now=int(time.time()))


@pytest.fixture(scope="module")
def stolen(tmp_path_factory: pytest.TempPathFactory) -> Theft:
    folder = tmp_path_factory.mktemp("service")
    service = Service(folder, hosts=1)
    try:
        expires = int(time.time()) + 3600
        body = TokenBody(os.urandom(32), os.urandom(16), bytes(32), service.profile.id, expires, 1, 2)
        text = seal_token(body, service.keys.sealing_key())
        with closing(Line(service.url, service.keys)) as line:
            assert launch(line, service.hosts[0], Token(text, 2)) == "released"
        service.kill()  # the write-ahead log is there too
    finally:
        service.close()
    loot = tmp_path_factory.mktemp("loot")
    for path in service.data.iterdir():
        if path.is_file():
            (loot / path.name).write_bytes(path.read_bytes())
    ids = [host.host_id for host in service.hosts]
    return Theft(loot, Keyring.load(service.data / "keyring"), body, text, ids)


def written(value: bytes) -> set[bytes]:
    """The ways in which somebody might have written a value down."""
    standard, url = base64.b64encode(value), base64.urlsafe_b64encode(value)
    return {value, value[::-1], value.hex().encode(), value.hex().upper().encode(),
            standard.rstrip(b"="), url.rstrip(b"=")}  # fmt: skip


def secrets_of(theft: Theft) -> dict[str, bytes]:
    ring = theft.ring
    private = {
        "signing key": ring.signing_key.private_bytes_raw(),
        "log key": ring.log_key.private_bytes_raw(),
        **{f"sealing key {at}": key.private_bytes_raw() for at, key in enumerate(ring.sealing_keys.values())},
        "TLS key": _scalar(ring.tls_files[1].read_bytes()),
    }
    shared = {"mac key": ring.mac_key, "pseudonym key": ring.pseudonym_key}
    return private | shared | {"secret": theft.body.secret, "launch id": theft.body.launch_id}


def _scalar(pem: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(pem, None)
    assert isinstance(key, EllipticCurvePrivateKey)
    assert key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return key.private_numbers().private_value.to_bytes(32, "big")


def test_the_loot_is_a_store_with_a_release(stolen: Theft) -> None:
    assert "store.sqlite3" in stolen.files
    with stolen.store as store:
        assert store.releases(token_id(stolen.token)) == 1
        assert store.verify_decisions().seq > 0


def test_no_file_has_a_secret_in_any_writing(stolen: Theft) -> None:
    everything = b"\0".join(stolen.files.values())
    assert token_id(stolen.token) in everything  # the search finds what is there
    assert launch_key(stolen.body.launch_id) in everything
    for name, value in secrets_of(stolen).items():
        for text in written(value):
            assert text not in everything, name
    assert stolen.token.encode() not in everything
    assert b"PRIVATE KEY" not in everything


def rows(theft: Theft) -> dict[str, list[bytes]]:
    """Every value of every table."""
    with closing(sqlite3.connect(theft.folder / "store.sqlite3")) as database:
        names = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        return {
            name: [
                value if isinstance(value, bytes) else str(value).encode()
                for row in database.execute(f'select * from "{name}"')
                for value in row
            ]
            for name in names
        }


def test_hosts_are_named_where_the_page_says_and_nowhere_else(stolen: Theft) -> None:
    tables = rows(stolen)
    (host,) = stolen.hosts
    found = {name for name, values in tables.items() for value in values if any(t in value for t in written(host))}
    assert "hosts" in found
    assert found <= ABOUT_HOSTS
    listed = set(re.findall(r"`([a-z_]+)`", PAGE.read_text().partition("| table |")[2].partition("\n\n")[0]))
    assert set(tables) - {"alembic_version"} <= listed
    assert found <= listed


def test_decisions_have_a_pseudonym_that_only_the_keys_explain(stolen: Theft) -> None:
    with stolen.store as store:
        (entry,) = store.decisions(launch_key=launch_key(stolen.body.launch_id))
    for text in written(stolen.hosts[0]):
        assert text not in entry.entry
    assert Decision.parse(entry.entry).outcome == "released"


def test_no_receipt_can_be_made(stolen: Theft) -> None:
    """With the thief's keys over genuine entries, and with a genuine entry altered."""
    own = stolen.own()
    with stolen.store as store:
        log = PublicLog(store)
        (entry,) = store.decisions(launch_key=launch_key(stolen.body.launch_id))
        (position,) = log.positions(own, [entry])
        forged = make_receipt(stolen.ring.key_list.authority, entry.entry, position, own.signing_key)
        genuine = make_receipt(stolen.ring.key_list.authority, entry.entry, position, stolen.ring.signing_key)
    codes = []
    for receipt in (forged, genuine):  # the second: even with the signing key, the log's key is another
        with pytest.raises(Rejected) as caught:
            verify_receipt(receipt, stolen.ring.key_list)
        codes.append(caught.value.code)
    assert codes == ["document-signers", "checkpoint-signature"]


def test_no_token_can_be_opened_and_no_challenge_issued(stolen: Theft) -> None:
    own = Keyring.create(stolen.folder / "other", authority="x", now=int(time.time()))
    with pytest.raises(Rejected) as caught:
        open_token(stolen.token, own.sealing_keys)
    assert caught.value.code == "token-unopenable"
    key_id = next(iter(stolen.ring.sealing_keys))
    with pytest.raises(Rejected) as caught:  # a key of the thief's under the id of the real one
        open_token(stolen.token, {key_id: next(iter(own.sealing_keys.values()))})
    assert caught.value.code == "token-unopenable"
    about = {"host_id": stolen.hosts[0], "purpose": Purpose.LAUNCH, "token_id": token_id(stolen.token)}
    now = int(time.time())
    nonce = challenge.issue(own.mac_key, now=now, random=bytes(challenge.RANDOM_SIZE), **about)
    with pytest.raises(Rejected) as caught:
        challenge.check(stolen.ring.mac_key, nonce, now=now, **about)
    assert caught.value.code == "nonce-unknown"
