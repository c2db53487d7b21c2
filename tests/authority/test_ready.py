"""Health, readiness and the way to the end, on a real process; what systemd hears, on a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from watchword.authority.keys.keyring import Keyring
from watchword.authority.serving.problems import Problem
from watchword.authority.serving.readiness import Readiness
from watchword.authority.serving.systemd import Notifier
from watchword.errors import Unavailable

from .conftest import Service, authority_in

PROBLEM = "urn:watchword:problem:"


def test_a_whole_service_is_ready(service: Service) -> None:
    with service.client() as client:
        assert client.get("/v1/health").json() == {"status": "alive"}
        answer = client.get("/v1/ready")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.json() == {"status": "ready", "checked": ["store", "keys", "log"]}


def break_store(directory: Path, service: Service) -> None:
    service.store.close()
    (directory / "store.sqlite3").rename(directory / "away")
    (directory / "store.sqlite3").mkdir()


def break_keys(directory: Path, _service: Service) -> None:
    (directory / "keyring" / "keyring.json").rename(directory / "away")


@pytest.mark.parametrize(("harm", "failed"), [(break_store, "store, log"), (break_keys, "keys, log")])
def test_what_does_not_work_is_named(tmp_path: Path, harm: Callable[[Path, Service], None], failed: str) -> None:
    with authority_in(tmp_path) as running, running.client() as client:
        harm(tmp_path, running)
        answer = client.get("/v1/ready")
        assert (answer.status_code, answer.json()["type"]) == (503, PROBLEM + "not-ready")
        assert answer.json()["detail"] == f"does not work: {failed}"
        assert str(tmp_path) not in answer.text
        assert client.get("/v1/health").status_code == 200


def test_many_questions_are_one_check() -> None:
    now, asked, failing = 100.0, 0, False

    def check() -> None:
        nonlocal asked
        asked += 1
        if failing:
            raise Unavailable("store-busy", "the store is busy")

    async def run(work: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
        return await asyncio.to_thread(work)

    async def scenario() -> None:
        nonlocal now, failing
        readiness = Readiness({"store": check}, fresh_seconds=1.0, clock=lambda: now)
        assert await asyncio.gather(*(readiness.check(run) for _ in range(50))) == [["store"]] * 50
        assert asked == 1
        failing, now = True, 100.9
        assert await readiness.check(run) == ["store"]
        now = 101.0
        with pytest.raises(Problem) as caught:
            await readiness.check(run)
        assert (caught.value.code, asked) == ("not-ready", 2)

    asyncio.run(scenario())


def test_a_stop_turns_readiness_off_then_finishes_what_was_begun(tmp_path: Path) -> None:
    data, ready = tmp_path / "data", tmp_path / "ready.json"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(60)
        arguments = ["authority", "serve", "--listen", "127.0.0.1:0", "--data", str(data), "--drain-seconds", "2"]
        process = subprocess.Popen(
            [sys.executable, "-c", "from watchword.cli.main import main; main()", *arguments, "--ready-file", ready],
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000000"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert [heard.recv(99), heard.recv(99)] == [b"READY=1", b"WATCHDOG=1"]
            context = ssl.create_default_context(cadata=Keyring.load(data / "keyring").key_list.tls_ca)
            url = json.loads(ready.read_text())["url"]
            with httpx2.Client(base_url=url, verify=context, timeout=20) as client:
                assert client.get("/v1/ready").status_code == 200
                started, release = threading.Event(), threading.Event()

                def body() -> object:
                    yield b"x"
                    started.set()
                    release.wait(20)
                    yield b"y"

                answers: list[httpx2.Response] = []
                headers = {"Content-Type": "application/octet-stream"}
                slow = threading.Thread(
                    target=lambda: answers.append(client.post("/v1/messages", content=body(), headers=headers))
                )
                slow.start()
                assert started.wait(20)
                process.send_signal(signal.SIGTERM)
                assert heard.recv(99) == b"STOPPING=1"
                refused = client.get("/v1/ready")
                assert (refused.status_code, refused.json()["type"]) == (503, PROBLEM + "stopping")
                assert client.get("/v1/keys").status_code == 200  # still answered: nobody was told yet
                time.sleep(2.5)  # the socket is closed by now, the slow request is still on its way in
                with pytest.raises(httpx2.ConnectError):
                    httpx2.get(f"{url}/v1/health", verify=context)
                release.set()
                slow.join(20)
            assert [answer.json()["type"] for answer in answers] == [PROBLEM + "malformed"]
            log = [json.loads(line) for line in process.communicate(timeout=30)[1].splitlines()]
            assert [line["state"] for line in log if line["event"] == "service"] == ["starting", "stopped"]
            assert process.returncode == 0
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_signs_of_life(tmp_path: Path, abstract: bool) -> None:
    name = f"@watchword-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    now = 0.0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind("\0" + name[1:] if abstract else name)
        heard.setblocking(False)
        notifier = Notifier(name, 30.0, lambda: now)
        times = []
        for tick in range(31):
            now = float(tick)
            notifier.alive()
            try:
                assert heard.recv(99) == b"WATCHDOG=1"
                times.append(tick)
            except BlockingIOError:
                continue
    assert times == [0, 10, 20, 30]


def test_a_watchdog_of_another_process_is_not_ours(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.setblocking(False)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"}
        Notifier.from_environment({**environment, "WATCHDOG_PID": "1"}, 2).alive()
        with pytest.raises(BlockingIOError):
            heard.recv(99)
        Notifier.from_environment({**environment, "WATCHDOG_PID": "2"}, 2).alive()
        assert heard.recv(99) == b"WATCHDOG=1"


def test_a_systemd_that_is_gone_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Notifier(str(tmp_path / "gone"), 0.0).ready()
    assert "cannot tell systemd READY=1" in caplog.text
    caplog.clear()
    Notifier("", 0.0).ready()
    assert caplog.text == ""
