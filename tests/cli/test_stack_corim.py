"""``watchword stack import corim``, ``export corim`` and ``check --expect`` with CoRIM."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from watchword.cli.main import cli, run
from watchword.crypto.cbor import Tag, dump
from watchword.crypto.cose import PrivateKey
from watchword.policy.stack import CompiledStack
from watchword.reference.interop.corim.document import sign_corim
from watchword.reference.interop.draft import encode as canonical
from watchword.testing.documents import STACK, encode, sha

HEADING = ("--name", "n", "--version", "1", "--serial", "1")
PASSPHRASE = "correct horse"


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "stack.json"
    path.write_bytes(canonical(STACK))
    return path


def save(folder: Path, key: PrivateKey, passphrase: str = "") -> tuple[str, str]:
    """Files with the private and the public key."""
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    private, public = folder / "key.pem", folder / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return str(private), str(public)


def document(*measurements: object) -> bytes:
    triple = [{0: {1: "v", 2: "kernel"}}, list(measurements)]
    return dump(Tag(501, {0: "id", 1: [Tag(506, dump({1: {0: "c"}, 4: {0: [triple]}}))]}))


FOREIGN = document({0: "/bin/sh", 1: {2: [[1, bytes.fromhex(sha("sh"))]]}}, {0: "relative", 1: {2: [[1, bytes(32)]]}})


@pytest.mark.parametrize("key", [Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1()),
                                 ec.generate_private_key(ec.SECP384R1())])  # fmt: skip
def test_signed_there_and_back(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: PrivateKey
) -> None:
    private, public = save(tmp_path, key)
    exported, back = str(tmp_path / "s.corim"), tmp_path / "back.json"
    assert run(["stack", "export", "corim", str(stack), "--key", private, "--signer", "Example", "-o", exported]) == 0
    assert capsys.readouterr().err == ""
    demand = ["--key", public, "--require-signature"]
    assert run(["stack", "import", "corim", exported, *demand, "-o", str(back), "--json"]) == 0
    told = capsys.readouterr()
    result = json.loads(told.out)
    assert (result["verified"], result["signer"], result["left_out"]) == (True, "Example", [])
    assert "in the signer's own words" in told.err
    assert back.read_bytes() == stack.read_bytes()


def test_the_layout_of_a_document_is_not_kept_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, exported, back = tmp_path / "s.json", tmp_path / "s.corim", tmp_path / "back.json"
    source.write_bytes(encode(STACK))
    assert run(["stack", "export", "corim", str(source), "-o", str(exported), "--json"]) == 0
    told = capsys.readouterr()
    assert "endorsements of its bytes do not fit" in told.err
    assert json.loads(told.out)["signed"] is False
    assert run(["stack", "import", "corim", str(exported), "-o", str(back)]) == 0
    assert json.loads(back.read_bytes()) == STACK


def test_what_was_not_verified_is_said_and_can_be_refused(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private, public = save(tmp_path, Ed25519PrivateKey.generate())
    signed, plain, back = (str(tmp_path / name) for name in ("signed", "plain", "back.json"))
    assert run(["stack", "export", "corim", str(stack), "--key", private, "--signer", "me", "-o", signed]) == 0
    assert run(["stack", "export", "corim", str(stack), "-o", plain]) == 0
    capsys.readouterr()
    assert run(["stack", "import", "corim", signed, "-o", back, "--json"]) == 0
    told = capsys.readouterr()
    assert "its signature was not verified" in told.err
    assert json.loads(told.out)["verified"] is False
    Path(back).unlink()
    assert run(["stack", "import", "corim", signed, "--require-signature", "-o", back, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "corim-key"
    assert run(["stack", "import", "corim", plain, "--key", public, "-o", back, "--json"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["findings"][0]["clause"]) == ("document-signers", "S2")
    _, other = save(tmp_path, Ed25519PrivateKey.generate())
    assert run(["stack", "import", "corim", signed, "--key", other, "-o", back, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "document-signature"
    assert not Path(back).exists()


def test_an_expired_signature_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from watchword.crypto.cose import sign

    key = Ed25519PrivateKey.generate()
    _, public = save(tmp_path, key)
    file, back = tmp_path / "old.corim", tmp_path / "back.json"
    file.write_bytes(sign(FOREIGN, {3: "application/rim+cbor", 15: {1: "me", 4: 1_000_000_000}}, key))
    assert run(["stack", "import", "corim", str(file), "--key", public, "-o", str(back), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "document-validity"


def test_a_foreign_document_is_added_to_a_stack(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, output = tmp_path / "foreign.corim", tmp_path / "new.json"
    file.write_bytes(sign_corim(FOREIGN, "me", Ed25519PrivateKey.generate()))
    command = ["stack", "import", "corim", str(file), "--base", str(stack), *HEADING, "-o", str(output), "--json"]
    assert run(command) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["left_out"] == [
        "digest of something that is not called by an absolute path: 'relative'"
    ]  # fmt: skip
    assert "left out: digest of something" in told.err
    found = CompiledStack.parse(output.read_bytes())
    assert (found.name, [*found.files]) == ("n", [b"/bin/sh"])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["corim", "OWN", "--name", "n"], "import-heading"),
        (["corim", "OWN", "--origin", "captured"], "import-heading"),
        (["corim", "OWN", "--base", "STACK"], "import-heading"),
        (["corim", "FOREIGN", "--name", "n", "--version", "1"], "import-heading"),
        (["corim", "FOREIGN", *HEADING], "import-empty"),
        (["sha256sum", "FOREIGN", *HEADING, "--key", "PRIVATE"], "import-signature"),
        (["sha256sum", "FOREIGN", *HEADING, "--require-signature"], "import-signature"),
        (["corim", "OWN", "--key", "PRIVATE"], "endorser-key"),
        (["corim", "OWN", "--key", "RSA"], "endorser-key"),
    ],
)
def test_imports_that_are_refused(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: str
) -> None:
    private, _ = save(tmp_path, Ed25519PrivateKey.generate())
    weak = rsa.generate_private_key(65537, 2048).public_key()
    (tmp_path / "rsa").write_bytes(weak.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "foreign").write_bytes(FOREIGN)
    own = str(tmp_path / "own")
    assert run(["stack", "export", "corim", str(stack), "-o", own]) == 0
    capsys.readouterr()
    names = {"OWN": own, "FOREIGN": str(tmp_path / "foreign"), "STACK": str(stack), "PRIVATE": private,
             "RSA": str(tmp_path / "rsa")}  # fmt: skip
    output = tmp_path / "out.json"
    given = [names.get(each, each) for each in arguments]
    assert run(["stack", "import", *given, "-o", str(output), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert not output.exists()


@pytest.mark.parametrize(
    ("form", "more", "code"),
    [
        ("corim", ["--signer", "me"], "corim-signer"),
        ("corim", ["--key", "PRIVATE"], "corim-signer"),
        ("corim", ["--key", "PUBLIC", "--signer", "me"], "key-file"),
        ("corim", ["--key", "P521", "--signer", "me"], "cose-key"),
        ("pcrlock", ["--signer", "me"], "import-signature"),
        ("pcrlock", ["--key", "PRIVATE"], "import-signature"),
    ],
)
def test_exports_that_are_refused(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, more: list[str], code: str
) -> None:
    private, public = save(tmp_path, Ed25519PrivateKey.generate())
    (tmp_path / "other").mkdir()
    wide, _ = save(tmp_path / "other", ec.generate_private_key(ec.SECP521R1()))
    names = {"PRIVATE": private, "PUBLIC": public, "P521": wide}
    output = tmp_path / "out"
    given = [names.get(each, each) for each in more]
    assert run(["stack", "export", form, str(stack), *given, "-o", str(output), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert not output.exists()


def test_nothing_is_written_over(stack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = stack.read_bytes()
    assert run(["stack", "export", "corim", str(stack), "-o", str(stack), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "output-exists"
    assert stack.read_bytes() == before


def test_the_passphrase_of_a_key_is_asked_for(stack: Path, tmp_path: Path) -> None:
    private, public = save(tmp_path, Ed25519PrivateKey.generate(), PASSPHRASE)
    exported = str(tmp_path / "s.corim")
    command = ["stack", "export", "corim", str(stack), "--key", private, "--signer", "me", "-o", exported]
    done = CliRunner().invoke(cli, command, input=PASSPHRASE + "\n")
    assert done.exit_code == 0
    assert "passphrase of key.pem" in done.stderr
    assert PASSPHRASE not in done.output
    assert run(["stack", "import", "corim", exported, "--key", public, "-o", str(tmp_path / "b.json")]) == 0
    Path(exported).unlink()
    (tmp_path / "secret").write_text(PASSPHRASE + "\n")
    assert run([*command, "--passphrase-file", str(tmp_path / "secret")]) == 0
    Path(exported).unlink()
    done = CliRunner().invoke(cli, command, input="wrong\n")
    assert (done.exit_code != 0, Path(exported).exists()) == (True, False)


def test_registers_are_compared_with_what_the_stack_leads_to(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import hashlib

    value = hashlib.sha256(bytes(32) + bytes.fromhex(sha("kernel"))).digest()
    good, bad = tmp_path / "good.corim", tmp_path / "bad.corim"
    good.write_bytes(sign_corim(document({1: {14: {4: [[1, value]]}}}), "me", Ed25519PrivateKey.generate()))
    bad.write_bytes(document({1: {14: {4: [[1, bytes(32)]]}}}))
    assert run(["stack", "check", str(stack), "--expect", str(good), "--json"]) == 0
    told = capsys.readouterr()
    assert "signature of the CoRIM was not verified" in told.err
    assert [e["holds"] for e in json.loads(told.out)["expected"]] == ["yes"]
    assert run(["stack", "check", str(stack), "--expect", str(bad), "--json"]) == 3
    assert [e["holds"] for e in json.loads(capsys.readouterr().out)["expected"]] == ["no"]


def test_without_the_extra_it_says_what_to_install(stack: Path, tmp_path: Path) -> None:
    program = "import sys; sys.modules['cbor2'] = None; from watchword.cli.main import run; sys.exit(run(sys.argv[1:]))"
    command = [
        sys.executable,
        "-c",
        program,
        "stack",
        "export",
        "corim",
        str(stack),
        "-o",
        str(tmp_path / "s"),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "extra-missing"
    assert "watchword[auditor]" in done.stderr
