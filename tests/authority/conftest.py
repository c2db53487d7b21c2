"""A real service on loopback: TLS, sockets, threads, and a stand-in only for what answers messages."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from watchword.authority.access import Access
from watchword.authority.app import Services, create_app
from watchword.authority.console import Console
from watchword.authority.keys.keyring import Keyring, KeyringSource
from watchword.authority.server import Address, bind, make_server
from watchword.authority.serving.limits import Limits
from watchword.authority.store import Store
from watchword.cli.main import run
from watchword.errors import MalformedError, Unavailable, UsageError

from .helpers import NOW

Command = Callable[..., tuple[int, dict[str, Any]]]
LIMITS = Limits(
    body=64 * 1024, body_seconds=1.0, workers=2, waiting=2, held=128 * 1024,
    large=16 * 1024, held_large=80 * 1024, workers_large=1,
)  # fmt: skip


class Answers:
    """Answers what a test asks for; the real one is tested with real evidence."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def handle(self, sealed: bytes) -> bytes:
        match sealed[:8]:
            case b"malforme":
                raise MalformedError("sealed request: cannot be read", code="sealed-unopenable")
            case b"unavaila":
                raise Unavailable("store-busy", "the store /secret/path is busy")
            case b"misconfi":
                raise UsageError("key-open", "/secret/path is readable")
            case b"our bug!":
                raise ZeroDivisionError("secret")
            case b"wait....":
                self.entered.release()
                self.open.wait(20)
        return sealed[::-1]

    def at_once(self, sealed: bytes) -> bytes | None:
        match sealed[:8]:
            case b"at once.":
                return b"at once"
            case b"malonce.":
                raise MalformedError("sealed request: cannot be read", code="sealed-unopenable")
        return None


@dataclass
class Service:
    address: Address
    ring: Keyring
    store: Store
    answers: Answers
    context: ssl.SSLContext

    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.address.url, verify=self.context, timeout=20)


@contextmanager
def authority_in(
    directory: Path,
    *,
    witness_seconds: float = 3600,
    limits: Limits = LIMITS,
    client_ca: Path | None = None,
    access: Access | None = None,
) -> Iterator[Service]:
    """An authority in ``directory``, made when there is none, answering on loopback."""
    now = int(time.time())
    ring = Keyring.open_or_create(directory / "keyring", authority="test", now=now).with_names(["127.0.0.1"], now)
    answers = Answers()
    with Store.open(directory / "store.sqlite3") as store:
        services = Services(
            answers, store, KeyringSource(ring), lambda: NOW, limits, witness_seconds, access=access or Access()
        )
        with serving(services, ring, client_ca) as address:
            context = ssl.create_default_context(cadata=ring.key_list.tls_ca)
            yield Service(address, ring, store, answers, context)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with authority_in(tmp_path_factory.mktemp("authority")) as running:
        yield running


@contextmanager
def serving(
    services: Services, ring: Keyring, client_ca: Path | None = None, console: Console | None = None
) -> Iterator[Address]:
    """The service on a free port of loopback."""
    listener, address = bind(Address("127.0.0.1", 0))
    ready = threading.Event()
    server = make_server(create_app(services, console), ring, ready.set, client_ca=client_ca)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        assert ready.wait(30)
        yield address
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    Keyring.create(path / "keyring", authority="test", now=NOW)
    Store.open(path / "store.sqlite3").close()
    return path


@pytest.fixture
def command(data: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs one command; its exit status and what it printed as JSON."""

    def call(*arguments: str) -> tuple[int, dict[str, Any]]:
        status = run(["authority", *arguments, "--data", str(data), "--json"])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return status, json.loads(captured.out)

    return call
