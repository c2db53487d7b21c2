"""Ordering from a provider that may answer anything."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from watchword.errors import MalformedError, Unavailable, UsageError
from watchword.tenant.launcher import HttpLauncher, Order, Server, await_server

ORDER = Order("web1", "guest.img", b"#!", {"watchword": "WWT1x", "watchword_inputs": "disk"})


class _Provider:
    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.seen: list[tuple[str, str, bytes]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                owner.seen.append((self.command, self.path, body))
                status, answer = owner.answers.pop(0) if len(owner.answers) > 1 else owner.answers[0]
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def provider() -> Iterator[_Provider]:
    running = _Provider()
    thread = threading.Thread(target=running.server.serve_forever, args=(0.02,))
    thread.start()
    yield running
    running.server.shutdown()
    running.server.server_close()
    thread.join()


def _server(**fields: Any) -> bytes:
    return json.dumps({"id": "s/1", "status": "BUILD", **fields}).encode()


def test_order_and_wait(provider: _Provider) -> None:
    provider.answers = [
        (202, _server()),
        (200, _server()),
        (200, _server(status="ACTIVE", address="192.0.2.7", port=22)),
    ]
    told: list[str] = []
    launcher = HttpLauncher(provider.url + "/")
    server = await_server(launcher, launcher.create(ORDER), 10, lambda s: told.append(s.status))
    assert (server.address, server.port, told) == ("192.0.2.7", 22, ["BUILD", "BUILD"])
    method, path, body = provider.seen[0]
    assert (method, path) == ("POST", "/v1/servers")
    document = json.loads(body)
    assert document["metadata"] == {"watchword": "WWT1x", "watchword_inputs": "disk"}
    assert base64.b64decode(document["user_data"]) == b"#!"
    assert provider.seen[1][:2] == ("GET", "/v1/servers/s%2F1")


def test_a_fault_is_told(provider: _Provider) -> None:
    provider.answers = [(202, _server(status="ERROR", fault="stack-none: no stack fits"))]
    launcher = HttpLauncher(provider.url)
    with pytest.raises(Unavailable) as caught:
        await_server(launcher, launcher.create(ORDER), 10)
    assert caught.value.code == "launch-failed"
    assert "stack-none" in caught.value.message


def test_waiting_ends(provider: _Provider) -> None:
    provider.answers = [(200, _server())]
    with pytest.raises(Unavailable) as caught:
        await_server(HttpLauncher(provider.url), Server("s", "BUILD"), 0.3)
    assert caught.value.code == "launch-timeout"


def test_a_refused_order_is_told(provider: _Provider) -> None:
    provider.answers = [(404, b'{"fault":"no such image"}')]
    with pytest.raises(Unavailable) as caught:
        HttpLauncher(provider.url).create(ORDER)
    assert (caught.value.code, "no such image" in caught.value.message) == ("provider-refused", True)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"id":1,"status":"x"}', _server(id=""), _server(port=-1), _server(port=1e300), b"\xff"],
)
def test_hostile_answers(provider: _Provider, body: bytes) -> None:
    provider.answers = [(200, body)]
    with pytest.raises(MalformedError):
        HttpLauncher(provider.url).create(ORDER)


def test_an_endless_answer_is_cut_off(provider: _Provider) -> None:
    provider.answers = [(200, b" " * 300_000)]
    with pytest.raises(Unavailable) as caught:
        HttpLauncher(provider.url).create(ORDER)
    assert caught.value.code == "http-too-large"


def test_the_token_is_not_in_the_text_of_an_order() -> None:
    assert "WWT1x" not in repr(ORDER)


@pytest.mark.parametrize("url", ["", "ftp://a", "http://", "http://[", "http://a:0"])
def test_what_is_not_a_provider(url: str) -> None:
    with pytest.raises(UsageError):
        HttpLauncher(url)
