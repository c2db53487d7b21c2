from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP521R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from watchword.cli.main import run
from watchword.crypto import dsse
from watchword.policy.stack import PAYLOAD_TYPE, CompiledStack
from watchword.testing.documents import STACK, changed, encode


def pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "stack.json"
    path.write_bytes(encode(STACK))
    return path


def capture(boots: Path, output: Path, *more: str) -> int:
    good = boots / "good"
    logs = ["--eventlog", str(good / "eventlog.bin"), "--ima", str(good / "ima.bin")]
    return run(["stack", "capture", *logs, "--name", "compute", "--version", "1.0", "-o", str(output), *more])


def test_capture_check_endorse(boots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, envelope, key_file = tmp_path / "s.json", tmp_path / "s.dsse.json", tmp_path / "key.pem"
    assert capture(boots, output, "--files", str(boots / "good" / "files.json"), "--serial", "3") == 0
    told = capsys.readouterr()
    assert "captured, not computed" in told.err
    document = CompiledStack.parse(output.read_bytes())
    assert (document.origin, document.serial) == ("captured", 3)
    assert {path.decode() for path in document.files} >= set(json.loads((boots / "good/files.json").read_text()))

    assert run(["stack", "check", str(output), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == hashlib.sha256(output.read_bytes()).hexdigest()

    key = Ed25519PrivateKey.generate()
    key_file.write_bytes(pem(key))
    assert run(["stack", "endorse", str(output), "--key", str(key_file), "-o", str(envelope)]) == 0
    key_id = dsse.key_id(key.public_key())
    assert key_id in capsys.readouterr().out
    signed = dsse.verify(envelope.read_bytes(), PAYLOAD_TYPE, {key_id: key.public_key()}, 1)
    assert signed.payload == output.read_bytes()


def test_own_components(boots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "s.json"
    assert capture(boots, output, "--component", "image=4,9", "--component", "fw=0") == 0
    assert CompiledStack.parse(output.read_bytes()).pcrs == (0, 4, 9)
    capsys.readouterr()
    for wrong in (["image"], ["image=x"], ["image=4", "--component", "image=9"], ["image=4", "--component", "b=4"]):
        assert capture(boots, tmp_path / "none.json", "--component", *wrong) == 1
        assert "watchword: error: " in capsys.readouterr().err
    assert not (tmp_path / "none.json").exists()


@pytest.mark.parametrize("text", ['{"/a": "sha1:00"}', '{"/a": 1}', "[]", "{", '{"/a": []', '{"": "sha256:00"}'])
def test_bad_file_lists(boots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    listed, output = tmp_path / "files.json", tmp_path / "none.json"
    listed.write_text(text)
    assert capture(boots, output, "--files", str(listed)) == 3
    assert "watchword: error: " in capsys.readouterr().err
    assert not output.exists()


def test_a_bad_stack_is_neither_explained_nor_endorsed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, key_file, output = tmp_path / "bad.json", tmp_path / "key.pem", tmp_path / "out.json"
    bad.write_bytes(changed(STACK, "components", 1, "variants", 0, "events", 1, "digests", "sha256", value="00"))
    key_file.write_bytes(pem(Ed25519PrivateKey.generate()))
    assert run(["stack", "check", str(bad)]) == 3
    assert "components[1].variants[0].events[1].digests.sha256: not 64 hex digits" in capsys.readouterr().err
    assert run(["stack", "endorse", str(bad), "--key", str(key_file), "-o", str(output)]) == 3
    assert not output.exists()


def test_bad_keys(stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key_file, output = tmp_path / "key.pem", tmp_path / "out.json"
    elliptic = generate_ec(SECP521R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (b"", b"junk", elliptic, b"x" * 20_000):
        key_file.write_bytes(content)
        assert run(["stack", "endorse", str(stack), "--key", str(key_file), "-o", str(output)]) != 0
        assert "watchword: error: " in capsys.readouterr().err
    assert run(["stack", "endorse", str(stack), "--key", str(tmp_path / "none"), "-o", str(output)]) == 1
    assert "no such file" in capsys.readouterr().err
    assert not output.exists()
