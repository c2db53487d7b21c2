"""``watchword inspect``: what it prints, how it fails, and that a file can do nothing to a terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from watchword.cli.main import run
from watchword.testing.logs import boot_aggregate, boot_event, event_log, good_boot, ima_log, measured, violation
from watchword.wire import ima_log as ima_wire
from watchword.wire import tcg_log
from watchword.wire.tcg_log import EventType
from watchword.wire.token import Token
from watchword.wire.tpm.algorithms import Alg

LOG = event_log(good_boot())
RUNTIME = ima_log([boot_aggregate({}), measured(b"/bin/a", b"a"), violation(b"/log"), measured(b"/b", b"b")])
HOSTILE = b"/\x1b[2J\x07\r\n\xff\xe2\x80\xae/evil"


def inspect(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = run(["inspect", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    status, out, err = inspect(capsys, *arguments, "--json")
    assert (status, err) == (0, "")
    document: dict[str, Any] = json.loads(out)
    return document


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "eventlog").write_bytes(LOG.encode())
    (tmp_path / "ima").write_bytes(RUNTIME.encode())
    return tmp_path


def test_eventlog(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    document = as_json(capsys, "eventlog", str(folder / "eventlog"))
    assert document["format"] == "crypto-agile"
    assert document["banks"] == ["sha1", "sha256"]
    assert document["events"] == len(LOG.events)
    for name, alg in (("sha1", Alg.SHA1), ("sha256", Alg.SHA256)):
        assert document["pcrs"][name] == {str(p): v.hex() for p, v in tcg_log.replay(LOG, alg).items()}
    assert (document["secure_boot"], document["findings"]) == (True, [])
    assert "entries" not in document


def test_eventlog_lists_events_on_request(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    document = as_json(capsys, "eventlog", "--events", str(folder / "eventlog"))
    assert len(document["entries"]) == document["events"]
    assert document["entries"][0]["tied"] is True


def test_eventlog_as_text(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    status, out, _ = inspect(capsys, "eventlog", "--events", str(folder / "eventlog"))
    assert status == 0
    assert "Secure Boot on" in out
    assert "sha256 pcr  7 " in out


@pytest.mark.parametrize("change", ["off", "missing", "untied"])
def test_secure_boot_is_only_what_the_log_proves(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, change: str
) -> None:
    events = good_boot(secure_boot=False)
    if change == "missing":
        del events[2]
    elif change == "untied":
        events[2] = boot_event(7, events[2].type, events[2].data, hashed=b"something else")
    (tmp_path / "log").write_bytes(event_log(events).encode())
    found = as_json(capsys, "eventlog", str(tmp_path / "log"))
    assert found["secure_boot"] is (False if change == "off" else None)
    assert [f["code"] for f in found["findings"]] == (["boot-log-data"] if change == "untied" else [])


def test_ima(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    document = as_json(capsys, "ima", str(folder / "ima"))
    assert (document["entries"], document["violations"]) == (4, 1)
    assert document["templates"] == {"ima-ng": 4}
    assert document["findings"] == []
    for name in ("sha1", "sha256", "sha384", "sha512"):
        assert document["pcrs"][name] == {"10": ima_wire.replay(RUNTIME, Alg[name.upper()])[10].hex()}


def test_ima_readable_form(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    lines = []
    for entry in RUNTIME.entries:
        file = entry.file()
        parts = ("10", entry.digest.hex(), "ima-ng", f"sha256:{file.digest.hex()}", file.path.decode())
        lines.append(" ".join(parts))
    (tmp_path / "ascii").write_text("\n".join(lines) + "\n")
    binary, ascii_ = (as_json(capsys, "ima", str(folder / name)) for name in ("ima", "ascii"))
    assert [f["code"] for f in ascii_.pop("findings")] == ["runtime-log-ascii"]
    assert binary.pop("findings") == []
    assert ascii_ == binary


def test_ima_wrong_digest_and_stray_line_break(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    entries = list(RUNTIME.entries)
    entries[1] = entries[1]._replace(digest=b"\1" * 20)
    (tmp_path / "ima").write_bytes(ima_log(entries).encode() + b"\n")
    found = as_json(capsys, "ima", str(tmp_path / "ima"))["findings"]
    assert [f["code"] for f in found] == ["runtime-log-line-break", "runtime-log-digest"]


@pytest.mark.parametrize("as_document", [False, True])
def test_names_in_a_file_cannot_drive_the_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, as_document: bool
) -> None:
    (tmp_path / "ima").write_bytes(ima_log([measured(HOSTILE, b"x")]).encode())
    hostile = boot_event(4, EventType.EFI_ACTION, HOSTILE)
    (tmp_path / "eventlog").write_bytes(event_log([*good_boot(), hostile]).encode())
    for command in (["ima", "--entries", str(tmp_path / "ima")], ["eventlog", "--events", str(tmp_path / "eventlog")]):
        status, out, _ = inspect(capsys, *command, *(["--json"] if as_document else []))
        assert status == 0
        assert "evil" in out
        assert all(c.isprintable() or c == "\n" for c in out)


@pytest.mark.parametrize("command", ["eventlog", "ima", "token", "quote", "ek-cert"])
@pytest.mark.parametrize("data", [b"", b"what is this?\n", b"\xff" * 40])
def test_what_does_not_parse_is_status_3(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str, data: bytes
) -> None:
    if command in ("quote", "ek-cert"):
        pytest.importorskip("watchword.cli.inspect_tpm")
    (tmp_path / "file").write_bytes(data)
    status, out, err = inspect(capsys, command, str(tmp_path / "file"), "--json")
    assert status == 3
    assert json.loads(out)["error"]["message"]
    assert err.startswith("watchword: error: ")
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["eventlog", "ima", "token", "quote", "ek-cert"])
@pytest.mark.parametrize("name", ["missing", ".", "a\nb", "x" * 300])
def test_what_cannot_be_read_is_status_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str, name: str
) -> None:
    status, out, err = inspect(capsys, command, str(tmp_path / name), "--json")
    assert status == 1
    assert json.loads(out)["error"]["code"] == "unreadable"
    assert err.count("\n") == 1


def test_too_large_a_file_is_not_read_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(1 << 33)
    assert inspect(capsys, "eventlog", str(tmp_path / "big"))[0] == 3


def test_token_shows_only_its_outside(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    token = Token(1, b"\1\2\3\4", bytes(100))
    (tmp_path / "token").write_text(token.text() + "\n")
    document = as_json(capsys, "token", str(tmp_path / "token"))
    assert (document["suite"], document["key_id"], document["sealed"]) == (1, "01020304", 100)
    status, out, _ = inspect(capsys, "token", str(tmp_path / "token"))
    assert (status, "key_id: 01020304" in out) == (0, True)


@pytest.mark.parametrize("command", ["", "eventlog", "ima", "quote", "ek-cert", "token"])
def test_help_has_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    status, out, _ = inspect(capsys, *command.split(), "--help")
    assert status == 0
    assert "Example:" in out
    assert "watchword inspect" in out
