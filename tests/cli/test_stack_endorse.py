"""``watchword stack endorse`` and ``endorsements``: keys of three kinds, from files and from a token."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from watchword.cli.main import run
from watchword.crypto import dsse
from watchword.errors import UsageError
from watchword.pkcs11.uri import Pkcs11Uri
from watchword.policy.stack import PAYLOAD_TYPE
from watchword.testing.documents import STACK, encode

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "98761234"


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "stack.json"
    path.write_bytes(encode(STACK))
    return path


def keys(folder: Path, key: Any, name: str, passphrase: bytes | None = None) -> tuple[str, str]:
    """The files of a key: private and public."""
    how = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return str(private), str(public)


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_one_endorser_after_the_other(stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = [Ed25519PrivateKey.generate(), *(ec.generate_private_key(c) for c in (ec.SECP256R1(), ec.SECP384R1()))]
    files = [keys(tmp_path, key, str(number)) for number, key in enumerate(made)]
    envelope, source = tmp_path / "stack.dsse", stack
    for private, _ in files:
        assert run(["stack", "endorse", str(source), "--key", private, "-o", str(envelope), "--json"]) == 0
        source = envelope
        capsys.readouterr()
    trusted = {dsse.key_id(key.public_key()): key.public_key() for key in made}
    signed = dsse.verify(envelope.read_bytes(), PAYLOAD_TYPE, trusted, 3)
    assert signed.payload == encode(STACK)

    known = [argument for _, public in files[:2] for argument in ("--key", public)]
    assert run(["stack", "endorsements", str(envelope), *known, "--json"]) == 0
    rows = said(capsys)["endorsements"]
    assert [(row["key_id"], row["key_type"]) for row in rows] == [
        (dsse.key_id(made[0].public_key()), "ed25519"),
        (dsse.key_id(made[1].public_key()), "ecdsa-p256"),
        (dsse.key_id(made[2].public_key()), ""),
    ]
    assert [row["checked"] for row in rows] == ["good, 0.pub", "good, 1.pub", "not checked"]


def test_two_keys_at_once(stack: Path, tmp_path: Path) -> None:
    made = [Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())]
    given = [word for n, key in enumerate(made) for word in ("--key", keys(tmp_path, key, str(n))[0])]
    assert run(["stack", "endorse", str(stack), *given, "-o", str(tmp_path / "out")]) == 0
    trusted = {dsse.key_id(key.public_key()): key.public_key() for key in made}
    dsse.verify((tmp_path / "out").read_bytes(), PAYLOAD_TYPE, trusted, 2)


def test_endorsements_that_are_not_there(stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    private, _ = keys(tmp_path, one, "one")
    _, stranger = keys(tmp_path, other, "other")
    envelope = tmp_path / "out"
    assert run(["stack", "endorsements", str(stack), "--json"]) == 1
    assert said(capsys)["error"]["code"] == "stack-bare"
    assert run(["stack", "endorse", str(stack), "--key", private, "-o", str(envelope)]) == 0
    capsys.readouterr()
    assert run(["stack", "endorsements", str(envelope), "--key", stranger, "--json"]) == 1
    assert said(capsys)["error"]["code"] == "stack-not-signed"
    forged = json.loads(envelope.read_bytes())
    forged["signatures"][0]["keyid"] = dsse.key_id(other.public_key())
    envelope.write_text(json.dumps(forged))
    assert run(["stack", "endorsements", str(envelope), "--key", stranger, "--json"]) == 3
    assert said(capsys)["error"]["code"] == "document-signature"


def test_an_encrypted_key(stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    private, _ = keys(tmp_path, Ed25519PrivateKey.generate(), "key", b"open sesame")
    phrase, output = tmp_path / "phrase", tmp_path / "out"
    line = ["stack", "endorse", str(stack), "--key", private, "-o", str(output), "--json"]
    phrase.write_text("wrong\n")
    assert run([*line, "--passphrase-file", str(phrase)]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"]["code"] == "key-passphrase"
    assert "wrong" not in captured.out + captured.err
    assert not output.exists()
    phrase.write_text("open sesame\n")
    assert run([*line, "--passphrase-file", str(phrase)]) == 0
    monkeypatch.setattr("click.prompt", lambda *_, **options: "open sesame" if options["hide_input"] else "")
    assert run(line) == 0


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP521R1())])
def test_a_key_of_another_kind(stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: Any) -> None:
    private, public = keys(tmp_path, key, "key")
    assert run(["stack", "endorse", str(stack), "--key", private, "-o", str(tmp_path / "out"), "--json"]) == 3
    assert said(capsys)["error"]["code"] == "key-file"
    assert run(["stack", "endorsements", str(stack), "--key", public, "--json"]) == 1


# -- tokens ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SoftHSM token "hsm" with the keys "p256", "p384" and "ed"; the file with its PIN."""
    if shutil.which("softhsm2-util") is None or not Path(MODULE).exists():
        pytest.skip("SoftHSM is not installed: apt install softhsm2")
    (tmp_path / "tokens").mkdir()
    configuration = tmp_path / "softhsm.conf"
    configuration.write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(configuration))
    pin = tmp_path / "pin"
    pin.write_text(f"{PIN}\n")
    command = ["softhsm2-util", "--init-token", "--free", "--label", "hsm", "--pin", PIN, "--so-pin", "12345678"]
    subprocess.run(command, check=True, capture_output=True)
    for number, (name, key) in enumerate(TOKEN_KEYS.items(), 1):
        private, _ = keys(tmp_path, key, name)
        words = ["--import", private, "--token", "hsm", "--label", name, "--id", f"{number:02x}", "--pin", PIN]
        subprocess.run(["softhsm2-util", *words], check=True, capture_output=True)
    return pin


TOKEN_KEYS: dict[str, Any] = {
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "ed": Ed25519PrivateKey.generate(),
}


@pytest.mark.parametrize("name", TOKEN_KEYS)
def test_a_key_in_a_token(token: Path, stack: Path, tmp_path: Path, name: str) -> None:
    """Each in a process of its own: a PKCS#11 library reads its settings once."""
    uri = f"pkcs11:token=hsm;object={name}?module-path={MODULE}&pin-source=file:{token}"
    output = tmp_path / "out"
    done = endorse(["stack", "endorse", str(stack), "--key", uri, "-o", str(output), "--json"])
    assert done.returncode == 0, done.stderr
    public = TOKEN_KEYS[name].public_key()
    assert json.loads(done.stdout)["key_id"] == dsse.key_id(public)
    dsse.verify(output.read_bytes(), PAYLOAD_TYPE, {dsse.key_id(public): public}, 1)


def endorse(words: list[str]) -> subprocess.CompletedProcess[str]:
    import sys

    program = "from watchword.cli.main import main; main()"
    return subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("uri", "pin", "status", "code"),
    [
        ("token=hsm;id=%01", "00000000", 2, "pkcs11-token"),
        ("token=hsm;object=nobody", PIN, 1, "pkcs11-key"),
        ("token=nowhere;object=ed", PIN, 1, "pkcs11-key"),
    ],
)
def test_a_token_that_will_not(
    token: Path, stack: Path, tmp_path: Path, uri: str, pin: str, status: int, code: str
) -> None:
    token.write_text(pin)
    whole = f"pkcs11:{uri}?module-path={MODULE}&pin-source={token}"
    done = endorse(["stack", "endorse", str(stack), "--key", whole, "-o", str(tmp_path / "out"), "--json"])
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (status, code), done.stderr
    assert pin not in done.stdout + done.stderr
    assert not (tmp_path / "out").exists()


def test_a_library_that_is_none(stack: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.delenv("WATCHWORD_PKCS11_MODULE", raising=False)
    (tmp_path / "lib.so").write_text("no library")
    for query in ("", f"?module-path={tmp_path}/lib.so"):
        line = ["stack", "endorse", str(stack), "--key", f"pkcs11:object=x{query}", "-o", str(tmp_path / "o"), "--json"]
        assert run(line) == 1
        assert said(capsys)["error"]["code"] == "pkcs11-module"


def test_a_uri() -> None:
    found = Pkcs11Uri.parse("pkcs11:token=My%20token;serial=1a;object=k;id=%00%ff;type=private?pin-source=file:///p")
    assert found == Pkcs11Uri("My token", "1a", "k", b"\x00\xff", None, "/p")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("http:object=x", "does not begin with pkcs11:"),
        ("pkcs11:token=x", "names no key"),
        ("pkcs11:object=x;object=y", "each once"),
        ("pkcs11:object=x;colour=red", "is not one of"),
        ("pkcs11:object=x;type=cert", "uses type"),
        ("pkcs11:object=x;slot-id=1", "uses slot-id"),
        ("pkcs11:object=%ff", "is not UTF-8"),
        ("pkcs11:object=x?pin-value=1234", "has a PIN in it"),
    ],
)
def test_uris_that_are_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        Pkcs11Uri.parse(text)
    assert caught.value.code == "pkcs11-uri"
    assert says in caught.value.message
    assert "1234" not in caught.value.message
