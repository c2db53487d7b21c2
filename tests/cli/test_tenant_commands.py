"""The tenant's commands, as a person or a script runs them."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import asyncssh
import click
import msgspec
import pytest

from watchword.cli.main import cli, run
from watchword.crypto.ssh_key import derive
from watchword.launch.receipt import FindingRecord
from watchword.policy.profile import Profile
from watchword.tenant import launches
from watchword.testing.signed_authority import SignedAuthority
from watchword.testing.ssh_server import SshServer
from watchword.wire.token import token_id

SECRET = bytes(range(32))


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    rules = {"identity": ["virtual"], "covers": [4], "stacks": ["compute"], "runtime": "ignored"}
    levels = [{"name": name, "rules": rules} for name in ("boot", "full")]
    profile = {"format": "watchword-profile/1", "name": "p", "bank": "sha256", "pcrs": [4], "levels": levels}
    (tmp_path / "gold.json").write_text(json.dumps(profile))
    (tmp_path / "guest.img").write_bytes(b"a disk")
    (tmp_path / "secret").write_bytes(SECRET)
    return tmp_path


@pytest.fixture
def authority() -> Iterator[SignedAuthority]:
    with SignedAuthority() as running:
        assert run(["trust", "add", running.url, "--fingerprint", running.fingerprint, "--name", "a"]) == 0
        yield running


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command line; returns exit status, the JSON on stdout and the text on stderr."""

    def command(*arguments: str) -> tuple[int, Any, str]:
        capsys.readouterr()
        status = run([*arguments, "--json"])
        out, err = capsys.readouterr()
        return status, json.loads(out), err

    return command


def _create(say: Any, *more: str) -> Any:
    options = ("--authority", "a", "--profile", "gold.json", "--disk", "guest.img", "--name", "web1")
    status, document, err = say("token", "create", *options, "--secret-file", "secret", *more)
    assert status == 0
    assert document["ssh_fingerprint"] in err
    return document


def _machine() -> SshServer:
    key = derive(SECRET, bytes.fromhex(launches.load("web1").launch_id))
    return SshServer([asyncssh.import_private_key(key.private_openssh)])


def test_trust_life_cycle(authority: SignedAuthority, say: Any) -> None:
    assert say("trust", "list")[1]["authorities"][0]["fingerprint"] == authority.fingerprint
    authority.rotate()
    assert say("trust", "update", "a")[1]["keys_version"] == 2
    del authority.chain[-1]
    status, document, err = say("trust", "update", "a")
    assert (status, document["error"]["code"]) == (3, "keylist-rollback")
    assert "watchword: error:" in err
    assert say("trust", "remove", "a")[0] == 0
    assert say("trust", "list")[1] == {"authorities": []}
    assert say("trust", "remove", "a")[0] == 1


def test_from_token_to_verdict_and_receipt(authority: SignedAuthority, say: Any, files: Path) -> None:
    created = _create(say)
    assert created["token"].startswith("WWT1")
    assert created["level"] == "full"
    assert SECRET.hex() not in json.dumps(created)
    authority.decide(launches.load("web1"))
    with _machine() as machine:
        status, verdict, _ = say("verify", "web1", f"{machine.host}:{machine.port}")
    assert (status, verdict["verdict"], verdict["stack"]["name"]) == (0, "trusted", "compute")

    assert say("receipt", "fetch", "web1", "-o", "web1.receipt")[0] == 0
    assert say("receipt", "show", "web1.receipt")[1]["verified"] is False
    assert say("receipt", "verify", "web1.receipt", "--launch", "web1")[1]["verified"] is True

    # Years later, elsewhere: nothing but the file, the key lists and the fingerprint.
    say("trust", "remove", "a")
    (files / "keys.json").write_bytes(authority.key_document())
    offline = ("receipt", "verify", "web1.receipt", "--keys", "keys.json", "--fingerprint")
    status, document, _ = say(*offline, authority.fingerprint)
    assert (status, document["receipts"][0]["outcome"]) == (0, "released")
    assert say(*offline, "SHA256:" + "A" * 43)[1]["error"]["code"] == "keylist-fingerprint"


def test_an_altered_receipt_file_is_refused(authority: SignedAuthority, say: Any, files: Path) -> None:
    _create(say)
    authority.decide(launches.load("web1"))
    say("receipt", "fetch", "web1", "-o", "r")
    envelope = json.loads((files / "r").read_bytes())
    signature = envelope["signatures"][0]["sig"]
    envelope["signatures"][0]["sig"] = ("B" if signature[0] == "A" else "A") + signature[1:]
    (files / "r").write_text(json.dumps(envelope))
    assert say("receipt", "verify", "r")[:2][1]["error"]["code"] == "document-signature"
    (files / "r").write_text("not a receipt\n")
    assert say("receipt", "verify", "r")[0] == 3
    assert say("receipt", "show", "r")[0] == 3
    (files / "r").write_text("")
    assert say("receipt", "show", "r")[0] == 3


def test_a_receipt_of_another_launch_is_refused(authority: SignedAuthority, say: Any) -> None:
    _create(say)
    authority.decide(launches.load("web1"))
    say("receipt", "fetch", "web1", "-o", "r")
    options = ("--authority", "a", "--profile", "gold.json", "--disk", "guest.img", "--name", "web2")
    assert say("token", "create", *options)[0] == 0
    status, document, _ = say("receipt", "verify", "r", "--launch", "web2")
    assert (status, document["error"]["code"]) == (3, "receipt-mismatch")


def test_a_rejected_machine_exits_3_and_says_why(authority: SignedAuthority, say: Any) -> None:
    _create(say)
    authority.refuse(launches.load("web1"), FindingRecord("E2", "stack-none", "no stack fits"))
    with SshServer([asyncssh.generate_private_key("ssh-ed25519")]) as machine:
        status, document, err = say("verify", "web1", f"{machine.host}:{machine.port}")
    assert (status, document["error"]["code"]) == (3, "ssh-host-key")
    assert [f["clause"] for f in document["error"]["findings"]] == ["V1", "E2"]
    assert "watchword: also: [E2] stack-none" in err


def test_a_silent_machine_exits_2(authority: SignedAuthority, say: Any) -> None:
    _create(say)
    authority.decide(launches.load("web1"))
    status, document, err = say("verify", "web1", "127.0.0.1:1", "--timeout", "1")
    assert (status, document["error"]["code"]) == (2, "ssh-no-handshake")
    assert "watchword: hint:" in err


def test_known_hosts_before_the_machine_exists(authority: SignedAuthority, say: Any) -> None:
    key = _create(say)["ssh_public_key"]
    assert say("known-hosts", "web1")[1]["line"] == f"web1 {key}"
    assert say("known-hosts", "web1", "192.0.2.7:2222")[1]["line"] == f"web1,[192.0.2.7]:2222 {key}"


def test_a_profile_by_its_id(authority: SignedAuthority, say: Any, files: Path) -> None:
    data = (files / "gold.json").read_bytes()
    profile_id = Profile.parse(data).id.hex()
    options = ("--authority", "a", "--disk", "guest.img", "--profile")
    assert say("token", "create", *options, profile_id)[1]["error"]["code"] == "profile-unknown"
    authority.profiles[profile_id] = data
    assert say("token", "create", *options, profile_id)[1]["profile"] == profile_id
    authority.profiles[profile_id] = data + b"\n"  # softened by one byte
    status, document, _ = say("token", "create", *options, profile_id)
    assert (status, document["error"]["code"]) == (3, "profile-mismatch")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--level", "platinum"), "bad-level"),
        (("--input", "kernel"), "bad-input"),
        (("--input", "disk=guest.img"), "bad-input"),
        (("--input", "Kernel=guest.img"), "malformed"),
        (("--input", "kernel=missing"), "file-unreadable"),
        (("--user-data", "missing"), "file-unreadable"),
        (("--expires", "soon"), "usage"),
        (("--expires", "0"), "usage"),
        (("--releases", "0"), "usage"),
        (("--name", "../x"), "bad-name"),
        (("--secret-file", "gold.json"), "file-too-large"),
        (("--authority", "b"), "authority-unknown"),
        (("--profile", "guest.img"), "malformed"),
    ],
)
def test_bad_demands_leave_no_record(authority: SignedAuthority, say: Any, more: tuple[str, ...], code: str) -> None:
    options = ("--authority", "a", "--profile", "gold.json", "--disk", "guest.img", "--name", "web1")
    status, document, err = say("token", "create", *options, *more)
    assert (document["error"]["code"], status in (1, 3)) == (code, True)
    assert "Traceback" not in err
    assert list(launches.load_all()) == []


def test_the_token_can_go_to_a_file(authority: SignedAuthority, say: Any, files: Path) -> None:
    token = _create(say, "-o", "token.txt")["token"]
    assert (files / "token.txt").read_text() == token + "\n"
    assert (files / "token.txt").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "path",
    [
        ("trust",),
        ("trust", "add"),
        ("trust", "list"),
        ("trust", "update"),
        ("trust", "remove"),
        ("token",),
        ("token", "create"),
        ("launch",),
        ("verify",),
        ("receipt",),
        ("receipt", "fetch"),
        ("receipt", "show"),
        ("receipt", "verify"),
        ("known-hosts",),
    ],
)
def test_every_help_page_has_an_example_that_parses(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path, "--help"]) == 0
    help_text = capsys.readouterr().out
    assert "Example:" in help_text
    example = help_text.partition("Example:")[2].strip().splitlines()[0].partition(" > ")[0].split()
    assert example[0] == "watchword"
    command: click.Command = cli
    context = click.Context(cli)
    words = example[1:]
    while isinstance(command, click.Group):
        name, words = words[0], words[1:]
        found = command.get_command(context, name)
        assert found is not None
        command, context = found, click.Context(found, parent=context)
    command.parse_args(click.Context(command), words)


class _Cloud(ThreadingHTTPServer):
    """A provider that starts everything at once, or fails with ``fault``."""

    def __init__(self, port: int, fault: str = "") -> None:
        cloud, self.orders = self, []
        status = "ERROR" if fault else "ACTIVE"
        answer = {"id": "s1", "status": status, "address": "127.0.0.1", "port": port, "fault": fault}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                cloud.orders.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                body = json.dumps(answer).encode()
                self.send_response(202)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> _Cloud:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


LAUNCH = (
    "--authority",
    "a",
    "--profile",
    "gold.json",
    "--disk",
    "guest.img",
    "--name",
    "web1",
    "--secret-file",
    "secret",
)


def test_launch_then_verify_without_an_address(authority: SignedAuthority, say: Any, files: Path) -> None:
    (files / "user-data").write_bytes(b"#cloud-config\n")
    with _Cloud(2222) as cloud:
        status, document, err = say("launch", cloud.url, *LAUNCH, "--user-data", "user-data", "--image", "guest")
    assert (status, document["port"]) == (0, 2222)
    assert "watchword verify web1" in err
    order = cloud.orders[0]
    record = launches.load("web1")
    assert order["image"] == "guest"
    assert order["metadata"]["watchword_inputs"] == "disk,user-data"
    assert token_id(order["metadata"]["watchword"]).hex() == record.token
    assert base64.b64decode(order["user_data"]) == b"#cloud-config\n"
    assert (record.server, record.address, record.port) == ("s1", "127.0.0.1", 2222)
    assert say("known-hosts", "web1")[1]["names"] == ["web1", "[127.0.0.1]:2222"]
    authority.decide(record)
    with _machine() as machine:
        launches.save(msgspec.structs.replace(record, port=machine.port), replace=True)
        assert say("verify", "web1")[1]["verdict"] == "trusted"


def test_a_launch_that_fails_keeps_its_record_for_verify(authority: SignedAuthority, say: Any) -> None:
    with _Cloud(0, fault="stack-none: no stack fits\x1b[2J") as cloud:
        status, document, err = say("launch", cloud.url, *LAUNCH)
    assert (status, document["error"]["code"]) == (2, "launch-failed")
    assert "stack-none" in err
    assert "\x1b" not in err
    authority.refuse(launches.load("web1"), FindingRecord("E2", "stack-none", "no stack fits"))
    status, document, _ = say("verify", "web1")
    assert (status, document["error"]["code"]) == (3, "launch-refused")


def test_an_address_that_a_provider_made_up_is_refused(authority: SignedAuthority, say: Any) -> None:
    _create(say)
    launches.save(msgspec.structs.replace(launches.load("web1"), address="-oProxyCommand=x", port=22), replace=True)
    assert say("verify", "web1")[1]["error"]["code"] == "bad-address"
