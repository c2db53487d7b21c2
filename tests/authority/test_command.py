"""``watchword authority``: one command starts a service, the others work beside it, and every act is on record."""

from __future__ import annotations

import base64
import json
import os
import signal
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from watchword.authority.keys.keyring import Keyring
from watchword.authority.store import DatabaseUrl, Store
from watchword.cli.main import run
from watchword.crypto import dsse, keylist
from watchword.crypto.tpm_key import point
from watchword.policy.stack import PAYLOAD_TYPE
from watchword.testing.documents import PROFILE, STACK, encode
from watchword.testing.ek_authority import EkAuthority
from watchword.testing.postgresql import Cluster
from watchword.wire.tpm.templates import EkKind, ek_template

from .conftest import Command
from .helpers import NOW, host


def acts(data: Path) -> list[str]:
    with Store.open(data / "store.sqlite3") as store:
        store.verify_decisions()
        return [json.loads(decision.entry)["act"] for decision in store.decisions()]


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


# -- serve ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any], Path]]:
    ready = tmp_path / "ready.json"
    arguments = ["authority", "serve", "--listen", "127.0.0.1:0", "--name", "test", "--ready-file", str(ready)]
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "home")}
    process = subprocess.Popen(
        [sys.executable, "-c", "from watchword.cli.main import main; main()", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    try:
        yield process, json.loads(ready.read_text()), tmp_path / "home" / "watchword" / "authority"
    finally:
        process.kill()
        process.communicate()


def test_one_command_is_enough(served: tuple[subprocess.Popen[str], dict[str, Any], Path]) -> None:
    process, ready, data = served
    ring = Keyring.load(data / "keyring")
    context = ssl.create_default_context(cadata=ring.key_list.tls_ca)
    assert ready["fingerprint"] == ring.fingerprint
    assert not ready["url"].endswith(":0")
    with httpx2.Client(base_url=ready["url"], verify=context, timeout=20) as client:
        assert client.get("/v1/status").json()["authority"] == "test"
        # The command line works on the directory of the running service, which sees it at once.
        assert run(["authority", "keys", "rotate", "sealing", "--data", str(data)]) == 0
        lists = [json.dumps(item).encode() for item in client.get("/v1/keys").json()["keys"]]
        assert keylist.verify_chain(lists, ready["fingerprint"]).version == 2
        assert client.get("/v1/status").json()["decisions"]["seq"] == 1
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert f"watchword trust add {ready['url']} --fingerprint {ring.fingerprint}" in out
    assert [json.loads(line)["state"] for line in err.splitlines()] == ["starting", "stopped"]


def test_commands_work_on_the_database_that_the_directory_names(
    data: Path, cluster: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "store.sqlite3").unlink()
    url = cluster.new_database().text

    def hosts(*options: str) -> str:
        status = run(["authority", "host", "list", "--data", str(data), "--json", *options])
        document = json.loads(capsys.readouterr().out)
        assert (status == 0) == ("hosts" in document)
        return "" if status == 0 else str(document["error"]["code"])

    assert hosts("--database", url) == ""
    assert hosts() == "store-elsewhere"  # and not an empty file, in which every count begins again
    monkeypatch.setenv("WATCHWORD_DATABASE", url)
    assert hosts() == ""
    monkeypatch.delenv("WATCHWORD_DATABASE")
    named = data / "database.url"
    named.write_text(url + "\n")
    named.chmod(0o640)
    assert hosts() == "database-open"
    named.chmod(0o600)
    assert hosts() == ""
    with Store.open(DatabaseUrl(url)) as store, store.transaction() as tx:
        tx.put_host(host())
    assert run(["authority", "decisions", "--verify", "--data", str(data)]) == 0
    assert "the log is whole" in capsys.readouterr().out
    other = data.parent / "other.url"
    other.write_text("mysql://x/y")
    other.chmod(0o600)
    assert hosts("--database-file", str(other)) == "database-url"
    assert hosts("--database", "postgresql://u:secret@x/y") == "database-password"
    named.unlink()
    (data / "store.postgresql").unlink()
    Store.open(data / "store.sqlite3").close()
    assert hosts("--database", url) == "store-elsewhere"


@pytest.mark.parametrize(
    ("listen", "status", "code"),
    [("nonsense", 1, "listen-address"), ("127.0.0.1:99999", 1, "listen-address"), ("192.0.2.1:1", 2, "listen-failed")],
)
def test_a_wrong_address_is_told(command: Command, listen: str, status: int, code: str) -> None:
    assert _code(command("serve", "--listen", listen)) == (status, code)


def _code(result: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    return result[0], result[1]["error"]["code"]


# -- administration ------------------------------------------------------------------------------------------------


def test_anchors(command: Command, data: Path, tmp_path: Path) -> None:
    root = EkAuthority.create().root
    text = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(root) + b"-----END CERTIFICATE-----\n"
    status, added = command(
        "anchor", "add", write(tmp_path / "root.pem", text), "--class", "hardware", "--label", "Lab"
    )
    assert status == 0
    _, listed = command("anchor", "list")
    assert [(row["fingerprint"], row["class"], row["label"]) for row in listed["anchors"]] == [
        (added["fingerprint"], "hardware", "Lab")
    ]
    with Store.open(data / "store.sqlite3") as store:
        assert store.anchors()[0].anchor.certificate_der == root
    assert command("anchor", "remove", added["fingerprint"][:12])[0] == 0
    assert command("anchor", "list")[1] == {"anchors": []}
    assert acts(data) == ["anchor-add", "anchor-remove"]


def test_a_certificate_that_may_not_sign_is_no_anchor(command: Command, data: Path, tmp_path: Path) -> None:
    root = EkAuthority.create(intermediate=False, may_sign=False).root
    result = command("anchor", "add", write(tmp_path / "root.der", root), "--class", "hardware")
    assert _code(result) == (1, "anchor-not-ca")
    assert acts(data) == []


def test_pins(command: Command, data: Path, tmp_path: Path) -> None:
    public = ek_template(EkKind.P256, point(ec.generate_private_key(ec.SECP256R1()).public_key()))
    first = command("ek", "pin", write(tmp_path / "a", public.encode_2b()), "--class", "virtual")
    second = command("ek", "pin", write(tmp_path / "b", public.encode()), "--class", "virtual")
    assert first == second
    assert [row["host"] for row in command("ek", "list")[1]["pins"]] == [first[1]["host"]]
    assert command("ek", "unpin", first[1]["host"])[0] == 0
    assert acts(data) == ["ek-pin", "ek-pin", "ek-unpin"]


def test_the_life_of_an_endorsed_stack(command: Command, data: Path, tmp_path: Path) -> None:
    auditor, second = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    envelope = write(tmp_path / "stack.dsse", dsse.sign(encode(STACK), PAYLOAD_TYPE, [auditor, second]))
    assert _code(command("stack", "add", envelope)) == (3, "stack-endorser")
    key = command("endorser", "add", write(tmp_path / "auditor.pem", pem(auditor)))[1]["key"]
    _, added = command("stack", "add", envelope)
    assert added["endorsed_by"] == [key] == [dsse.key_id(auditor.public_key())]
    assert _code(command("stack", "add", envelope)) == (1, "stack-known")
    ssh = second.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    other = command("endorser", "add", write(tmp_path / "second.pub", ssh))[1]["key"]
    assert command("stack", "list")[1]["stacks"][0]["endorsed_by"] == sorted([key, other])
    assert command("endorser", "remove", other)[0] == 0
    assert command("stack", "list")[1]["stacks"][0]["endorsed_by"] == [key]
    command("stack", "retire", "compute@1.0", "--at", "2027-01-01T00:00:00+00:00")
    row = command("stack", "list")[1]["stacks"][0]
    assert (row["state"], row["retire_at"]) == ("retiring", 1798761600)
    command("stack", "revoke", added["digest"][:10])
    assert command("stack", "list")[1]["stacks"][0]["state"] == "revoked"
    assert _code(command("stack", "retire", "compute@1.0", "--at", "1")) == (1, "stack-state")
    assert acts(data) == [
        *("endorser-add", "stack-add", "endorser-add", "endorser-remove", "stack-retiring", "stack-revoked"),
    ]


def test_a_forged_endorsement_is_refused(command: Command, data: Path, tmp_path: Path) -> None:
    auditor = Ed25519PrivateKey.generate()
    command("endorser", "add", write(tmp_path / "auditor.pem", pem(auditor)))
    envelope = json.loads(dsse.sign(encode(STACK), PAYLOAD_TYPE, [auditor]))
    envelope["payload"] = base64.b64encode(encode({**STACK, "serial": 6})).decode()
    result = command("stack", "add", write(tmp_path / "forged", json.dumps(envelope).encode()))
    assert _code(result) == (3, "document-signature")
    assert command("stack", "list")[1] == {"stacks": []}
    assert acts(data) == ["endorser-add"]


def test_an_unendorsed_stack(command: Command, tmp_path: Path) -> None:
    file = write(tmp_path / "stack.json", encode(STACK))
    assert _code(command("stack", "add", file)) == (3, "stack-unsigned")
    assert command("stack", "add", "--unendorsed", file)[1]["endorsed_by"] == []


def test_profiles(command: Command, data: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "gold.json", encode(PROFILE))
    _, added = command("profile", "add", file)
    assert command("profile", "list")[1]["profiles"][0]["id"] == added["id"]
    with Store.open(data / "store.sqlite3") as store:
        assert store.profile(bytes.fromhex(added["id"])) == encode(PROFILE)
    assert command("profile", "add", write(tmp_path / "soft.json", encode({**PROFILE, "levels": []})))[0] == 3
    assert acts(data) == ["profile-add"]


def test_hosts(command: Command, data: Path) -> None:
    with Store.open(data / "store.sqlite3") as store, store.transaction() as tx:
        tx.put_host(host(1))
        tx.put_host(host(2))
    assert len(command("host", "list")[1]["hosts"]) == 2
    assert command("host", "show", "01010101")[1]["class"] == "virtual"
    assert _code(command("host", "show", "0101")) == (1, "id-unknown")
    assert _code(command("host", "show", "ffffffff")) == (1, "id-unknown")
    assert command("host", "revoke", "02020202", "--reason", "sold")[1]["revoked_reason"] == "sold"
    assert _code(command("host", "revoke", "02020202", "--reason", "sold")) == (1, "host-unknown")
    assert _code(command("host", "revoke", "01010101", "--reason", "bad\x1b[2J")) == (1, "text")
    assert acts(data) == ["host-revoke"]


def test_keys_and_their_record(command: Command, data: Path) -> None:
    _, before = command("keys", "show")
    for kind in ("signing", "sealing", "root"):
        assert command("keys", "rotate", kind)[0] == 0
    _, after = command("keys", "drop-old-sealing")
    assert (before["version"], after["version"]) == (1, 5)
    assert after["fingerprint"] == before["fingerprint"]
    assert after["retired_signing"] == before["signing"]
    assert len(after["sealing"]) == 1
    assert acts(data) == ["keys-rotate-signing", "keys-rotate-sealing", "keys-rotate-root", "keys-drop-sealing"]


def test_the_record_is_shown_and_checked(command: Command, data: Path) -> None:
    command("keys", "rotate", "signing")
    status, shown = command("decisions", "--verify")
    assert (status, shown["verified"], shown["head"]["seq"]) == (0, True, 1)
    entry = shown["decisions"][0]["entry"]
    assert entry["act"] == "keys-rotate-signing"
    assert entry["by"]
    raw = sqlite3.connect(data / "store.sqlite3")
    raw.execute("DROP TRIGGER decisions_no_update")
    raw.execute("UPDATE decisions SET entry = CAST(replace(entry, 'signing', 'sealing') AS BLOB)")
    raw.commit()
    raw.close()
    assert _code(command("decisions", "--verify")) == (3, "decision-log")


def test_a_passphrase_comes_from_a_file_or_the_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "locked"
    data.mkdir(mode=0o700)
    Keyring.create(data / "keyring", authority="test", now=NOW, passphrase=b"open sesame")
    arguments = ["authority", "keys", "show", "--data", str(data)]
    assert run(arguments) == 1
    assert "WATCHWORD_PASSPHRASE" in capsys.readouterr().err
    assert run([*arguments, "--passphrase-file", write(tmp_path / "phrase", b"open sesame\n")]) == 0
    monkeypatch.setenv("WATCHWORD_PASSPHRASE", "open sesame")
    assert run(arguments) == 0


def test_no_authority_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["authority", "keys", "show", "--data", str(tmp_path)]) == 1
    assert "watchword authority serve" in capsys.readouterr().err


def test_a_private_key_is_no_endorser(command: Command, tmp_path: Path) -> None:
    private = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert _code(command("endorser", "add", write(tmp_path / "key.pem", private))) == (1, "endorser-key")


def test_the_help_and_a_hint_without_the_extra() -> None:
    blocked = "import sys; sys.modules['uvicorn'] = None; from watchword.cli.main import main; main(sys.argv[1:])"

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", blocked, "authority", *arguments], capture_output=True, text=True, check=False
        )

    assert call("--help").returncode == 0
    result = call("keys", "show")
    assert result.returncode == 1
    assert "watchword[authority]" in result.stderr
    assert "Traceback" not in result.stderr
