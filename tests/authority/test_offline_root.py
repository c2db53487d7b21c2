"""An authority whose root key is on another machine: every change is prepared, carried, read, signed, installed."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from watchword.authority.keys.keyring import Keyring
from watchword.authority.store import Store
from watchword.cli.main import run
from watchword.crypto import keylist

Call = Callable[..., tuple[int, dict[str, Any]]]


class Operator:
    """Two folders, the service's and that of the machine with the root, and the files carried between them."""

    def __init__(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.data, self.vault, self.capsys = tmp_path / "data", tmp_path / "vault", capsys
        self.vault.mkdir(mode=0o700)
        self.stick = tmp_path / "stick"
        self.stick.mkdir()
        self.phrase = self.vault / "phrase"
        self.phrase.write_text("a long one\n")
        self.err = ""

    def call(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        status = run([*arguments, "--json"])
        captured = self.capsys.readouterr()
        self.err = captured.err
        assert "Traceback" not in captured.err
        return status, json.loads(captured.out)

    def authority(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        return self.call("authority", *arguments, "--data", str(self.data))

    def new_root(self, name: str = "root.pem") -> Path:
        status, _ = self.call("root", "create", str(self.vault / name), "--passphrase-file", str(self.phrase))
        assert status == 0
        return self.vault / name

    @property
    def request(self) -> str:
        return str(self.stick / "request.json")

    @property
    def signed(self) -> str:
        return str(self.stick / "signed.json")

    def sign(self, key: Path, *more: str, file: str = "", to: str = "") -> tuple[int, dict[str, Any]]:
        return self.call(
            "root", "sign", file or self.request, "--key", str(key), "--passphrase-file", str(self.phrase),
            "--yes", "-o", to or self.signed, *more,
        )  # fmt: skip

    def ring(self) -> Keyring:
        return Keyring.load(self.data / "keyring")

    def acts(self) -> list[str]:
        with Store.open(self.data / "store.sqlite3") as store:
            store.verify_decisions()
            return [json.loads(decision.entry)["act"] for decision in store.decisions()]


@pytest.fixture
def operator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Operator:
    return Operator(tmp_path, capsys)


@pytest.fixture
def born(operator: Operator) -> Operator:
    """An authority whose root key never was on its machine."""
    root = operator.new_root()
    made = operator.authority("create", "--name", "a", "--root", f"{root}.pub", "--request", operator.request)
    assert made[0] == 0
    assert operator.sign(root)[0] == 0
    assert operator.authority("keys", "install", operator.signed)[0] == 0
    return operator


def code(result: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    return result[0], result[1]["error"]["code"]


def test_born_with_its_root_elsewhere(operator: Operator) -> None:
    root = operator.new_root()
    status, asked = operator.authority("create", "--name", "a", "--root", f"{root}.pub", "--request", operator.request)
    assert (status, asked["version"], len(asked["missing"])) == (0, 1, 1)
    assert code(operator.authority("keys", "show")) == (1, "keyring-unsigned")
    assert code(operator.authority("serve", "--listen", "127.0.0.1:0")) == (1, "keyring-unsigned")
    _, signed = operator.sign(root)
    assert signed["missing"] == []
    status, shown = operator.authority("keys", "install", operator.signed)
    assert (status, shown["root"], shown["version"], shown["pending"]) == (0, "elsewhere", 1, None)
    ring = operator.ring()
    assert asked["missing"] == [ring.fingerprint]
    assert keylist.verify_chain(ring.chain, ring.fingerprint).authority == "a"
    assert list(ring.directory.glob("root-*")) == []


@pytest.mark.parametrize("kind", ["signing", "sealing", "log"])
def test_a_rotation_travels(born: Operator, kind: str) -> None:
    before = born.ring()
    status, asked = born.authority("keys", "rotate", kind, "--request", born.request)
    assert (status, asked["version"]) == (0, 2)
    whats = [(each["kind"], each["what"]) for each in asked["changes"] if each["what"] != "kept"]
    assert whats == ([("signing", "new"), ("signing", "retired")] if kind == "signing" else [(kind, "new")])
    assert born.ring().key_list.encode() == before.key_list.encode()  # nothing has changed yet
    assert code(born.authority("keys", "rotate", "log", "--request", born.request)) == (1, "root-request-pending")
    assert born.sign(born.vault / "root.pem")[0] == 0
    status, shown = born.authority("keys", "install", born.signed)
    assert (status, shown["version"], shown["pending"]) == (0, 2, None)
    after = born.ring()
    assert keylist.verify_chain(after.chain, before.fingerprint).version == 2
    assert born.acts() == ["keys-request", f"keys-rotate-{kind}"]
    assert code(born.authority("keys", "install", born.signed)) == (1, "root-request-none")


def test_old_sealing_keys_go_only_when_the_root_says_so(born: Operator) -> None:
    root = born.vault / "root.pem"
    for arguments in (("rotate", "sealing"), ("drop-old-sealing",)):
        assert born.authority("keys", *arguments, "--request", born.request)[0] == 0
        assert len(born.ring().sealing_keys) == (1 if arguments[0] == "rotate" else 2)
        assert born.sign(root)[0] == 0
        assert born.authority("keys", "install", born.signed)[0] == 0
    assert len(born.ring().sealing_keys) == 1
    assert len(list((born.data / "keyring").glob("sealing-*"))) == 1


def test_every_change_says_what_to_do_without_a_root(born: Operator) -> None:
    for arguments in (("rotate", "signing"), ("rotate", "sealing"), ("rotate", "log"), ("drop-old-sealing",)):
        assert code(born.authority("keys", *arguments)) == (1, "root-offline")
        assert "--request FILE" in born.err
    assert code(born.authority("keys", "rotate", "root")) == (1, "root-offline")
    born.authority("keys", "rotate", "root", "--request", born.request)
    assert "--new-root" in born.err
    assert born.ring().pending is None
    assert born.acts() == []  # nor does the record tell of a rotation that was none


def test_the_root_moves_out(operator: Operator) -> None:
    """An authority that was made with its root on disk: export, then a root that no service ever knew."""
    assert operator.authority("create", "--name", "a")[0] == 0
    pinned = operator.ring().fingerprint
    old = operator.vault / "old.pem"
    phrase = ("--root-passphrase-file", str(operator.phrase))
    status, shown = operator.authority("keys", "export-root", str(old), *phrase)
    assert (status, shown["root"]) == (0, "elsewhere")
    assert list((operator.data / "keyring").glob("root-*")) == []
    assert b"ENCRYPTED" in old.read_bytes()
    assert code(operator.authority("keys", "export-root", str(old), *phrase)) == (1, "root-offline")

    new = operator.new_root("new.pem")
    asked = operator.authority("keys", "rotate", "root", "--new-root", f"{new}.pub", "--request", operator.request)[1]
    assert len(asked["missing"]) == 2
    _, half = operator.sign(old)
    assert len(half["missing"]) == 1
    assert code(operator.authority("keys", "install", operator.signed)) == (3, "document-signers")
    _, whole = operator.sign(new, file=operator.signed)
    assert whole["missing"] == []
    assert operator.authority("keys", "install", operator.signed)[0] == 0
    ring = operator.ring()
    assert ring.fingerprint == pinned
    assert keylist.root_fingerprint(ring.key_list.root) != pinned
    assert operator.acts() == ["keys-export-root", "keys-request", "keys-rotate-root"]


def test_a_root_on_disk_introduces_one_elsewhere(operator: Operator) -> None:
    assert operator.authority("create", "--name", "a")[0] == 0
    new = operator.new_root()
    rotate = ("keys", "rotate", "root", "--new-root", f"{new}.pub")
    assert code(operator.authority(*rotate)) == (1, "root-offline")
    assert len(operator.authority(*rotate, "--request", operator.request)[1]["missing"]) == 1
    assert operator.sign(new)[0] == 0
    assert operator.authority("keys", "install", operator.signed)[1]["root"] == "elsewhere"
    assert list((operator.data / "keyring").glob("root-*")) == []
    again = ("keys", "rotate", "signing", "--request", operator.request)
    assert operator.authority(*again)[0] == 0


def test_only_what_waits_is_installed(born: Operator) -> None:
    """The carrier brings back a list that the root signed, and that nobody here asked for."""
    root = born.vault / "root.pem"
    assert born.authority("keys", "rotate", "signing", "--request", born.request)[0] == 0
    assert born.sign(root)[0] == 0
    assert born.authority("keys", "cancel")[1]["pending"] is None
    assert born.authority("keys", "rotate", "log", "--request", born.request)[0] == 0
    before = born.ring()
    assert code(born.authority("keys", "install", born.signed)) == (3, "root-request-other")
    assert born.ring().chain == before.chain
    assert born.acts() == ["keys-request", "keys-cancel", "keys-request"]


def test_unsigned_and_half_signed_lists_are_not_installed(born: Operator) -> None:
    assert born.authority("keys", "rotate", "signing", "--request", born.request)[0] == 0
    assert code(born.authority("keys", "install", born.request)) == (3, "document-signers")
    assert born.sign(born.vault / "root.pem")[0] == 0
    damaged = json.loads(Path(born.signed).read_text())
    damaged["proposed"]["signatures"][0]["sig"] = "A" * 86 + "=="
    Path(born.signed).write_text(json.dumps(damaged))
    assert code(born.authority("keys", "install", born.signed)) == (3, "document-signature")
    assert born.ring().key_list.version == 1


def test_the_root_signs_no_two_lists_with_one_number(born: Operator) -> None:
    root = born.vault / "root.pem"
    rotate = ("keys", "rotate", "signing", "--request", born.request)
    assert born.authority(*rotate)[0] == 0
    assert born.sign(root)[0] == 0
    assert born.sign(root)[0] == 0  # the same again: a signed file may be lost on the way
    assert born.authority("keys", "cancel")[0] == 0
    assert born.authority(*rotate)[0] == 0
    assert code(born.sign(root)) == (3, "root-request-signed")
    assert born.sign(root, "--instead")[0] == 0
    assert born.authority("keys", "install", born.signed)[0] == 0
    record = root.with_name("root.pem.record")
    record.write_text("{}")
    assert born.authority("keys", "rotate", "log", "--request", born.request)[0] == 0
    assert born.sign(root)[0] == 3


def test_the_root_goes_never_back(born: Operator) -> None:
    root = born.vault / "root.pem"
    old = str(born.stick / "old.json")
    assert born.authority("keys", "rotate", "log", "--request", old)[0] == 0
    assert born.sign(root, file=old)[0] == 0
    assert born.authority("keys", "install", born.signed)[0] == 0
    assert born.authority("keys", "rotate", "log", "--request", born.request)[0] == 0
    assert born.sign(root)[0] == 0
    for more in ((), ("--instead",)):
        assert code(born.sign(root, *more, file=old)) == (3, "root-request-signed")


def test_the_root_of_another_authority_does_not_sign(born: Operator) -> None:
    other = born.new_root("other.pem")
    assert born.authority("keys", "rotate", "log", "--request", born.request)[0] == 0
    assert code(born.sign(other)) == (3, "root-request-key")
    assert not Path(born.signed).read_text().count(keylist.root_fingerprint(_public(born, "other.pem")))
    assert not (born.vault / "other.pem.record").exists()


def _public(born: Operator, name: str) -> Any:
    from watchword.cli.public_key import read_public_key

    return read_public_key(born.vault / f"{name}.pub")


@pytest.mark.parametrize("edit", ["version", "previous", "format", "list"])
def test_a_request_that_was_altered_is_not_signed(born: Operator, edit: str) -> None:
    assert born.authority("keys", "rotate", "log", "--request", born.request)[0] == 0
    document = json.loads(Path(born.request).read_text())
    if edit == "version":  # the list before, with itself as the list after it
        document["proposed"] = document["previous"]
    elif edit == "previous":  # a list that its own root did not sign
        document["previous"]["signatures"] = []
    elif edit == "format":
        document["format"] = "watchword-root-request/2"
    else:
        document["proposed"]["payload"] = "e30="
    Path(born.request).write_text(json.dumps(document))
    status, told = born.sign(born.vault / "root.pem")
    expected = {"version": "keylist-version", "previous": "document-signers"}.get(edit, "malformed")
    assert (status, told["error"]["code"]) == (3, expected)


def test_a_first_list_that_is_not_the_first(born: Operator) -> None:
    assert born.authority("keys", "rotate", "log", "--request", born.request)[0] == 0
    document = json.loads(Path(born.request).read_text()) | {"previous": None}
    Path(born.request).write_text(json.dumps(document))
    assert code(born.sign(born.vault / "root.pem")) == (3, "keylist-version")


def test_a_person_is_asked(born: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    assert born.authority("keys", "rotate", "log", "--request", born.request)[0] == 0
    Path(born.signed).unlink()
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    arguments = ["root", "sign", born.request, "--key", str(born.vault / "root.pem"), "-o", born.signed]
    assert run(arguments) == 1
    assert "new      log" in born.capsys.readouterr().err
    assert not Path(born.signed).exists()


def test_a_root_key_has_a_passphrase_and_is_not_overwritten(operator: Operator) -> None:
    root = operator.new_root()
    assert b"ENCRYPTED" in root.read_bytes()
    arguments = ("root", "create", str(root), "--passphrase-file", str(operator.phrase))
    assert code(operator.call(*arguments)) == (1, "file-exists")
    (operator.vault / "nothing").write_text("\n")
    arguments = ("root", "create", str(operator.vault / "b"), "--passphrase-file", str(operator.vault / "nothing"))
    assert code(operator.call(*arguments)) == (1, "passphrase-empty")


def test_a_root_here_needs_no_request(operator: Operator) -> None:
    assert code(operator.authority("create", "--request", operator.request)) == (1, "root-here")
    assert operator.authority("create", "--name", "a")[0] == 0
    assert code(operator.authority("create", "--name", "a")) == (1, "keyring-exists")
    result = operator.authority("keys", "rotate", "log", "--request", operator.request)
    assert code(result) == (1, "root-here")
    root = operator.new_root()
    assert code(operator.authority("create", "--root", f"{root}.pub")) == (1, "root-offline")
    result = operator.authority("keys", "rotate", "log", "--new-root", f"{root}.pub")
    assert code(result) == (1, "new-root")


def test_the_certificate_that_was_issued_meanwhile_stays(born: Operator) -> None:
    assert born.authority("keys", "rotate", "log", "--request", born.request)[0] == 0
    named = born.ring().with_names(["authority.example"], 1_800_000_000)
    assert born.sign(born.vault / "root.pem")[0] == 0
    assert born.authority("keys", "install", born.signed)[0] == 0
    assert born.ring().tls_files == named.tls_files
    assert all(file.exists() for file in named.tls_files)


def test_the_machine_with_the_root_needs_no_service(tmp_path: Path) -> None:
    """``watchword root`` imports nothing of the authority's extra."""
    import subprocess
    import sys

    blocked = "import sys\nfor m in ('uvicorn','sqlalchemy','starlette'): sys.modules[m] = None\n"
    program = blocked + "from watchword.cli.main import main; main(sys.argv[1:])"
    (tmp_path / "phrase").write_text("x")
    done = subprocess.run(
        [sys.executable, "-c", program, "root", "create", str(tmp_path / "r"), "--passphrase-file",
         str(tmp_path / "phrase")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("SHA256:")
