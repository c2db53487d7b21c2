"""A real service is stopped, its store moved, and started again: hosts, tenants and auditors notice nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from watchword.agent.transport import HttpsExchange
from watchword.cli.main import run
from watchword.errors import WatchwordError
from watchword.testing.farm import have_swtpm
from watchword.testing.postgresql import Cluster
from watchword.testing.world import TestHost, Token, World


@pytest.fixture
def world(boots: Path) -> Iterator[World]:
    """Its directory is that of an authority, which runs elsewhere."""
    if not have_swtpm():
        pytest.skip("swtpm is not installed: launches need real emulated TPMs")
    with World(boots, clock=int(time.time())) as made:
        made.watch()
        made.store.close()
        yield made


@contextmanager
def service(world: World, listen: str) -> Iterator[dict[str, Any]]:
    """A real ``watchword authority serve``; what it says when it is ready."""
    ready = world.folder.parent / f"{world.folder.name}.json"
    ready.unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "watchword", "authority", "serve", "--data", str(world.folder),
         "--listen", listen, "--ready-file", str(ready)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while not ready.exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        yield json.loads(ready.read_text())
    finally:
        process.terminate()
        process.wait(30)
        ready.unlink(missing_ok=True)


def launch(host: TestHost, url: str, token: Token, name: str) -> str:
    """Launch over the network: "released", or the code of the refusal."""
    with closing(HttpsExchange(url, host.world.keys.key_list)) as exchange:
        host.exchange = exchange
        try:
            return "released" if host.obtain(token, name).secret == token.body.secret else "wrong"
        except WatchwordError as error:
            return error.code


def test_a_launch_before_and_after(
    world: World,
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    data, url = str(world.folder), cluster.new_database().text
    token = world.token(releases=2)

    def command(*arguments: str) -> dict[str, Any]:
        status = run([*arguments, "--json"])
        return {"status": status} | json.loads(capsys.readouterr().out)

    with service(world, "127.0.0.1:0") as ready:
        with closing(HttpsExchange(ready["url"], world.keys.key_list)) as exchange:
            host = world.host(exchange=exchange)
        assert launch(host, ready["url"], token, "vm-1") == "released"
        command("trust", "add", ready["url"], "--fingerprint", ready["fingerprint"], "--name", "a")
        seen = command("log", "audit", "--authority", "a")
        assert seen["status"] == 0
        refused = command("authority", "database", "move", "--data", data, "--database", url)
        assert refused["error"]["code"] == "store-in-use"

    assert command("authority", "database", "move", "--data", data, "--database", url)["releases"] == 1
    monkeypatch.setenv("WATCHWORD_DATABASE", url)
    with service(world, ready["url"].removeprefix("https://")) as again:
        assert again["fingerprint"] == ready["fingerprint"]
        audited = command("log", "audit", "--authority", "a")  # continues the checkpoint that it kept
        assert audited["status"] == 0
        assert audited["size"] == seen["size"] + 1
        assert [launch(host, again["url"], token, f"vm-{number}") for number in (2, 3)] == ["released", "token-used-up"]
        assert command("log", "audit", "--authority", "a")["status"] == 0
        doctor = command("authority", "doctor", "--data", data, "--url", again["url"], "--whole-log")
        assert doctor["healthy"], doctor
    assert command("authority", "decisions", "--verify", "--data", data)["status"] == 0
