"""``watchword authority … --authority``: the same commands from elsewhere, with a certificate or a token."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from watchword.cli.main import run
from watchword.crypto import dsse
from watchword.policy.stack import PAYLOAD_TYPE
from watchword.testing.documents import PROFILE, STACK, encode
from watchword.testing.ek_authority import EkAuthority
from watchword.testing.issuer import TestIssuer, running_issuer
from watchword.testing.people import ClientFiles, PeopleCa, access_file
from watchword.testing.tpm_keys import TpmKeys

from .helpers import host
from .test_access import EVERYBODY, Office, office_in
from .test_access_tokens import section

KEY = Ed25519PrivateKey.generate()
Command = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestIssuer]:
    with running_issuer(tmp_path_factory.mktemp("issuer")) as running:
        yield running


@pytest.fixture
def office(tmp_path: Path, issuer: TestIssuer) -> Iterator[Office]:
    with office_in(tmp_path / "office") as running:
        access_file(running.file, EVERYBODY, section(issuer))
        yield running


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """What an operator hands in."""
    contents = {
        "key": KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "stack": dsse.sign(encode(STACK), PAYLOAD_TYPE, (KEY,)),
        "bare": encode(STACK),
        "profile": encode(PROFILE),
        "root": EkAuthority.create().root,
        "ek": TpmKeys().ek.encode(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: str(tmp_path / name) for name in contents}


@pytest.fixture
def pinned(office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The name under which this user has the authority."""
    for kind in ("CONFIG", "STATE", "DATA"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind))
    url, fingerprint = office.service.address.url, office.service.ring.fingerprint
    assert run(["trust", "add", url, "--fingerprint", fingerprint, "--name", "ours"]) == 0
    capsys.readouterr()
    return "ours"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: str) -> tuple[int, dict[str, Any]]:
        status = run(["authority", *arguments, "--json"])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return status, json.loads(captured.out)

    return call


@pytest.fixture
def remote(call: Command, office: Office, pinned: str) -> Command:
    """Runs a command as somebody with a certificate for this role."""
    held: dict[str, ClientFiles] = {role: office.ca.issue(role) for role in EVERYBODY}

    def ask(role: str, *arguments: str) -> tuple[int, dict[str, Any]]:
        who = held[role]
        return call(
            *arguments, "--authority", pinned, "--client-cert", str(who.certificate), "--client-key", str(who.key)
        )

    return ask


def code(result: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    return result[0], result[1]["error"]["code"]


def test_a_whole_administration_from_elsewhere(
    remote: Command, call: Command, office: Office, files: dict[str, str]
) -> None:
    with office.service.store.transaction() as tx:
        tx.put_host(host())
    changes = [
        ("auditor", "endorser", "add", files["key"], "--name", "one", "--stack", "compute"),
        ("endorser", "stack", "add", files["stack"], "--draft"),
        ("auditor", "stack", "rule", "set", "compute", "--endorsers", dsse.key_id(KEY.public_key())[:8]),
        ("auditor", "stack", "activate", "compute@1.0"),
        ("operator", "stack", "retire", "compute@1.0", "--at", "2030-01-01T00:00:00+00:00"),
        ("operator", "stack", "revoke", "compute@1.0", "--reason", "CVE-2026-0001"),
        ("auditor", "stack", "rule", "remove", "compute"),
        ("tenant", "profile", "add", files["profile"]),
        ("auditor", "anchor", "add", files["root"], "--class", "virtual"),
        ("auditor", "ek", "pin", files["ek"], "--class", "virtual"),
        ("operator", "host", "revoke", host().host_id.hex(), "--reason", "sold"),
    ]
    for change in changes:
        status, answer = remote(*change)
        assert status == 0, answer
    data = office.file.parent / "data"
    data.chmod(0o700)
    for question in (
        ("stack", "list"), ("stack", "list", "--state", "revoked"), ("stack", "show", "compute@1.0"),
        ("stack", "history", "compute@1.0"), ("stack", "rule", "list"), ("endorser", "list"), ("profile", "list"),
        ("anchor", "list"), ("crl", "list"), ("ek", "list"), ("host", "list"),
        ("host", "show", host().host_id.hex()[:8]), ("watch", "list"), ("watch", "hosts"),
        ("decisions", "--acts"), ("decisions", "--after", "3", "--limit", "2"),
    ):  # fmt: skip
        assert remote("read-only", *question) == call(*question, "--data", str(data)), question
    by = [row["entry"]["by"] for row in remote("auditor", "decisions", "--acts")[1]["decisions"]]
    assert by == [f"certificate:{change[0]}" for change in changes]


def test_a_token_instead_of_a_certificate(
    call: Command, office: Office, issuer: TestIssuer, pinned: str, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(issuer.token(groups=["wg-read-only"]) + "\n")
    assert call("stack", "list", "--authority", pinned, "--token-file", str(token)) == (0, {"stacks": []})
    token.write_text(issuer.token(aud="elsewhere"))
    status, answer = call("stack", "list", "--authority", pinned, "--token-file", str(token))
    assert (status, answer["error"]["code"]) == (1, "unauthenticated")
    assert issuer.token()[:20] not in json.dumps(answer)


# -- what is refused ------------------------------------------------------------------------------------------------


def test_errors_are_those_of_the_command_on_the_machine(remote: Command, files: dict[str, str]) -> None:
    assert code(remote("tenant", "host", "list")) == (1, "forbidden")
    unknown = remote("operator", "host", "show", "f" * 64)
    assert code(unknown) == (1, "id-unknown")
    assert "8 digits" in unknown[1]["error"]["hint"]
    refused = remote("auditor", "stack", "add", files["bare"])
    assert code(refused) == (3, "stack-unsigned")
    assert refused[1]["error"]["findings"][0]["clause"] == "G1"
    assert code(remote("auditor", "profile", "add", files["root"])) == (3, "malformed")
    long = ("host", "revoke", "f" * 64, "--reason", "x" * 201)
    assert code(remote("operator", *long)) == (1, "body-malformed")
    assert code(remote("auditor", "decisions", "--limit", "1001")) == (1, "query-malformed")
    assert code(remote("auditor", "decisions", "--verify")) == (1, "usage")


def test_who_one_is_must_be_said_once(call: Command, office: Office, pinned: str, tmp_path: Path) -> None:
    who = office.ca.issue("auditor")
    certificate, token = ("--client-cert", str(who.certificate)), ("--token-file", str(who.key))
    assert code(call("stack", "list", "--authority", pinned)) == (1, "usage")
    assert code(call("stack", "list", "--authority", pinned, *certificate, *token)) == (1, "usage")
    assert code(call("stack", "list", "--data", str(tmp_path), *certificate)) == (1, "usage")
    assert code(call("stack", "list", "--authority", "another", *certificate)) == (1, "authority-unknown")


def test_files_that_do_not_do(call: Command, office: Office, pinned: str, tmp_path: Path) -> None:
    who, other = office.ca.issue("auditor"), office.ca.issue("auditor")

    def ask(*arguments: object) -> tuple[int, str]:
        return code(call("stack", "list", "--authority", pinned, *map(str, arguments)))

    assert ask("--client-cert", who.certificate, "--client-key", other.key) == (1, "client-certificate")
    assert ask("--client-cert", tmp_path / "absent") == (1, "file-unreadable")
    who.key.chmod(0o640)
    assert ask("--client-cert", who.certificate, "--client-key", who.key) == (1, "client-key")
    token = tmp_path / "token"
    token.write_text("a b")
    token.chmod(0o600)
    assert ask("--token-file", token) == (1, "token-file")
    token.write_text("ä")
    assert ask("--token-file", token) == (1, "token-file")
    token.write_text("abc")
    token.chmod(0o644)
    assert ask("--token-file", token) == (1, "token-file")


def test_an_encrypted_key(remote: Command, call: Command, office: Office, pinned: str, tmp_path: Path) -> None:
    who = office.ca.issue("auditor")
    key = load_pem_private_key(who.key.read_bytes(), None)
    who.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    arguments = ("stack", "list", "--authority", pinned, "--client-cert", who.certificate, "--client-key", who.key)
    assert code(call(*map(str, arguments))) == (1, "client-certificate")
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("secret\n")
    assert call(*map(str, arguments), "--passphrase-file", str(passphrase))[0] == 0


def test_a_certificate_of_another_authority(call: Command, office: Office, pinned: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    who = PeopleCa.make(tmp_path / "other").issue("auditor")
    arguments = ("--authority", pinned, "--client-cert", str(who.certificate), "--client-key", str(who.key))
    status, answer = call("stack", "list", *arguments)
    assert (status, answer["error"]["code"]) == (2, "http-unreachable")
