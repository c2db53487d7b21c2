"""Webhooks against real receivers, of which some are dead, slow or hostile; and an authority that is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from watchword.authority.keys.keyring import Keyring
from watchword.authority.keys.tls import issue_ca, issue_server, new_key
from watchword.authority.publishing import webhooks
from watchword.authority.publishing.webhooks import MAX_WEBHOOKS, check_url, deliver, make_webhook, retry_after
from watchword.authority.store import ProfileRow, Store, Webhook
from watchword.cli.main import run
from watchword.errors import Unavailable, UsageError
from watchword.launch.event import Event, verify_event
from watchword.tenant.events import Chains

from .conftest import Command, authority_in
from .helpers import NOW, host

PROFILE = b"p" * 32


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted to it; answers ``answers`` in turn, then 204."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        self.bodies: list[bytes] = []
        self.answers: list[int] = []
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append(self.path)
        status = self.server.answers.pop(0) if self.server.answers else 204
        if 200 <= status < 300:
            self.server.bodies.append(body)
        self.send_response(status)
        self.send_header("location", "/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    with Receiver(port) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield receiver
        finally:
            receiver.shutdown()
            thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring.create(tmp_path / "keyring", authority="test", now=NOW)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.sqlite3") as made:
        with made.transaction() as tx:
            tx.put_profile(ProfileRow(PROFILE, b"{}", "gold", NOW))
            tx.put_watched(PROFILE, NOW)
        yield made


def add(store: Store, url: str, *kinds: str, ca: str = "") -> str:
    made = make_webhook(url, kinds, ca, NOW)
    with store.transaction() as tx:
        tx.put_webhook(made, MAX_WEBHOOKS)
    return made.id


def happen(store: Store, number: int = 1, standing: str = "failed", profile: bytes = PROFILE) -> None:
    with store.transaction() as tx:
        tx.append_act(NOW, f"host-{standing}", host(number).host_id.hex(), profile=profile.hex(), level="")


def found(receiver: Receiver, ring: Keyring) -> list[tuple[str, int]]:
    """What was received, each of it signed and the next of its chain."""
    chains = Chains()
    events = [chains.take(body, ring.key_list) for body in receiver.bodies]
    return [(each.type, each.seq) for each in events]


def row(store: Store, identity: str) -> Webhook:
    return next(each for each in store.webhooks() if each.id == identity)


def until(condition: Callable[[], object], seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


# -- one delivery --------------------------------------------------------------------------------------------------


def test_events_come_in_order_from_when_it_was_added(store: Store, ring: Keyring, receiver: Receiver) -> None:
    happen(store)
    hook = add(store, receiver.url)
    for standing in ("trusted", "failed", "trusted"):
        happen(store, 2, standing)
    happen(store, 2, profile=b"t" * 32)  # by a tenant's profile: its own business
    with store.transaction() as tx:
        tx.append_act(NOW, "stack-revoked", "ee" * 32, name="compute", version="1")
    assert deliver(store, ring, hook, "me", lambda: NOW) == ""
    assert found(receiver, ring) == [("host-trusted", 2), ("host-failed", 3), ("host-trusted", 4), ("stack-revoked", 6)]
    assert (row(store, hook).place, row(store, hook).delivered_at, row(store, hook).claimed_until) == (6, NOW, 0)
    deliver(store, ring, hook, "me", lambda: NOW)
    assert len(receiver.bodies) == 4


def test_kinds_are_kept_apart(store: Store, ring: Keyring, receiver: Receiver) -> None:
    hosts, public = add(store, receiver.url, "host"), add(store, receiver.url, "public")
    happen(store)
    with store.transaction() as tx:
        tx.append_act(NOW, "stack-revoked", "ee" * 32, name="compute", version="1")
    deliver(store, ring, hosts, "me", lambda: NOW)
    assert found(receiver, ring) == [("host-failed", 1)]
    deliver(store, ring, public, "me", lambda: NOW)
    assert found(receiver, ring) == [("host-failed", 1), ("stack-revoked", 2)]


@pytest.mark.parametrize("status", [500, 404, 301, 307])
def test_what_is_not_taken_comes_again(store: Store, ring: Keyring, receiver: Receiver, status: int) -> None:
    """A redirect is not followed: it is no more than an answer that is not 2xx."""
    hook = add(store, receiver.url)
    happen(store)
    happen(store, 2)
    receiver.answers = [status]
    assert "answered" in deliver(store, ring, hook, "me", lambda: NOW)
    assert (row(store, hook).attempts, row(store, hook).place) == (1, 0)
    assert row(store, hook).next_try > NOW
    assert receiver.asked == ["/hook"]
    assert deliver(store, ring, hook, "me", lambda: NOW) == ""  # too early: nothing is sent
    assert len(receiver.asked) == 1
    assert deliver(store, ring, hook, "me", lambda: NOW + 700) == ""
    assert found(receiver, ring) == [("host-failed", 1), ("host-failed", 2)]
    assert (row(store, hook).attempts, row(store, hook).last_error) == (0, "")


def test_patience_grows_and_has_an_end() -> None:
    assert [max(retry_after(n) for _ in range(50)) <= 2 ** (n - 1) for n in range(1, 10)] == [True] * 9
    assert all(300 <= retry_after(n) <= 600 for n in (11, 50, 10_000))
    assert len({retry_after(10_000) for _ in range(20)}) > 1


def test_only_one_process_tells_a_webhook(store: Store, ring: Keyring, receiver: Receiver) -> None:
    hook = add(store, receiver.url)
    happen(store)
    with store.transaction() as tx:
        assert tx.claim_webhook(hook, "another", NOW, NOW + 15) is not None
    assert deliver(store, ring, hook, "me", lambda: NOW + 14) == ""
    assert receiver.asked == []
    deliver(store, ring, hook, "me", lambda: NOW + 15)  # it died
    assert len(receiver.asked) == 1


def test_what_is_given_up_is_told(
    store: Store, ring: Keyring, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "MAX_BACKLOG", 3)
    hook = add(store, receiver.url)
    for _ in range(5):
        happen(store)
    receiver.answers = [500]
    deliver(store, ring, hook, "me", lambda: NOW)
    happen(store)
    assert (row(store, hook).gap_first, row(store, hook).gap_last) == (1, 2)
    deliver(store, ring, hook, "me", lambda: NOW + 700)
    told = [verify_event(body, ring.key_list)[0] for body in receiver.bodies]
    assert [(each.type, each.seq) for each in told] == [
        ("gap", 3), ("host-failed", 4), ("host-failed", 5), ("host-failed", 6),
    ]  # fmt: skip
    assert told[0].details == {"first": 1, "last": 3}
    assert len(found(receiver, ring)) == 4  # a receiver that knows gaps goes on
    assert row(store, hook).gap_last is None


def test_events_that_are_not_on_file_any_more_are_a_gap(store: Store, ring: Keyring, receiver: Receiver) -> None:
    hook = add(store, receiver.url)
    happen(store)
    with store.transaction() as tx:
        tx.prune_events(NOW + 1)
    deliver(store, ring, hook, "me", lambda: NOW)
    assert found(receiver, ring) == [("gap", 1)]
    with store.transaction() as tx:
        tx.update_webhook(hook, place=9)  # as in an older copy of the store
    deliver(store, ring, hook, "me", lambda: NOW)
    assert found(receiver, ring) == [("gap", 1), ("gap", 1)]
    assert row(store, hook).place == 1


def test_tls_is_checked_against_its_own_authority(store: Store, ring: Keyring, tmp_path: Path) -> None:
    now, ca_key, key = int(time.time()), new_key(), new_key()
    ca = issue_ca(ca_key, "receiver", now)
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    (tmp_path / "chain").write_text(issue_server(key, ["127.0.0.1"], ca, ca_key, now))
    (tmp_path / "key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain", tmp_path / "key")
    with receiving() as receiver:
        receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
        url = receiver.url.replace("http:", "https:")
        trusted, stranger = add(store, url, ca=ca), add(store, url)
        happen(store)
        assert deliver(store, ring, trusted, "me", lambda: NOW) == ""
        assert "certificate" in deliver(store, ring, stranger, "me", lambda: NOW).lower()
        assert found(receiver, ring) == [("host-failed", 1)]


@contextmanager
def drip(text: bytes, pause: float) -> Iterator[str]:
    """A receiver that answers one byte at a time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with ExitStack() as stack:
                while True:
                    try:
                        stream = stack.enter_context(listener.accept()[0])
                        for at in range(len(text)):
                            stream.sendall(text[at : at + 1])
                            time.sleep(pause)
                    except OSError:
                        return

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


@pytest.mark.parametrize("text", [b"", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1000])
def test_a_receiver_that_hangs_is_given_up(
    store: Store, ring: Keyring, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "POST_SECONDS", 1.0)
    with drip(text, 0.2) as url:
        hook = add(store, url)
        happen(store)
        started = time.monotonic()
        assert "did not answer in 1 seconds" in deliver(store, ring, hook, "me", lambda: NOW)
        assert time.monotonic() - started < 10


def test_the_body_of_an_answer_is_not_read(store: Store, ring: Keyring) -> None:
    with drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxxx", 0.01) as url:
        hook = add(store, url)
        happen(store)
        started = time.monotonic()
        assert deliver(store, ring, hook, "me", lambda: NOW) == ""
        assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "url",
    [
        "http://x/",
        "ftp://x/",
        "https://",
        "https://user:secret@x/",
        "https://x/#a",
        "https://x:0/",
        "x",
        "https://x/\n",
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_url(url, allow_http=False)
    assert "secret" not in caught.value.message


def test_there_is_an_end_to_webhooks(store: Store) -> None:
    for _ in range(MAX_WEBHOOKS):
        add(store, "https://x/")
    with pytest.raises(UsageError, match="there are 16"):
        add(store, "https://x/")
    with pytest.raises(UsageError, match="no certificate"):
        make_webhook("https://x/", (), "nonsense", NOW)


# -- the running service -------------------------------------------------------------------------------------------


def test_one_that_is_dead_holds_up_nobody(tmp_path: Path, receiver: Receiver) -> None:
    with authority_in(tmp_path) as service, drip(b"", 1) as dead:
        hooks = [add(service.store, dead) for _ in range(5)]
        add(service.store, receiver.url, "public")
        with service.store.transaction() as tx:
            tx.append_act(NOW, "stack-revoked", "ee" * 32, name="compute", version="1")
        started = time.monotonic()
        until(lambda: receiver.bodies, 15)
        assert time.monotonic() - started < 9  # the dead ones are still being waited for
        with service.client() as client:
            assert client.get("/v1/ready").status_code == 200
        until(lambda: all(row(service.store, hook).attempts for hook in hooks))


def start(data: Path, ready: Path) -> subprocess.Popen[str]:
    ready.unlink(missing_ok=True)
    arguments = ["authority", "serve", "--listen", "127.0.0.1:0", "--data", str(data), "--ready-file", str(ready)]
    program = "from watchword.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
    )
    until(ready.exists)
    return process


def test_an_event_survives_the_death_of_the_authority(tmp_path: Path) -> None:
    """Killed between an act and its delivery; another act is done before it is started again."""
    data, ready = tmp_path / "data", tmp_path / "ready"
    with receiving() as first:
        first.answers = [503] * 1000
        process = start(data, ready)
        try:
            with Store.open(data / "store.sqlite3") as store:
                hook = add(store, first.url)
                with store.transaction() as tx:
                    tx.append_act(int(time.time()), "stack-revoked", "ee" * 32, name="compute", version="1")
                until(lambda: row(store, hook).attempts)
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                with store.transaction() as tx:
                    tx.append_act(int(time.time()), "stack-active", "ef" * 32, name="compute", version="2")
                first.answers = []
                assert first.bodies == []
                process = start(data, ready)
                until(lambda: len(first.bodies) == 2, 60)
                until(lambda: row(store, hook).place == 2)
                assert row(store, hook).last_error == ""
        finally:
            process.kill()
            process.wait()
        assert found(first, Keyring.load(data / "keyring")) == [("stack-revoked", 1), ("stack-active", 2)]


# -- commands ------------------------------------------------------------------------------------------------------


def test_commands(command: Command, data: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    status, refused = command("webhook", "add", receiver.url)
    assert (status, refused["error"]["code"]) == (1, "bad-url")
    made = command("webhook", "add", receiver.url, "--allow-http", "--events", "public")[1]
    assert made["events"] == ["public"]
    assert command("webhook", "test", made["id"]) == (0, {"id": made["id"], "taken": True})
    assert found(receiver, Keyring.load(data / "keyring")) == [("test", 0)]
    with Store.open(data / "store.sqlite3") as store, store.transaction() as tx:
        tx.append_act(NOW, "stack-revoked", "ee" * 32, name="compute", version="1")
    listed = command("webhook", "list")[1]["webhooks"]
    assert [(each["behind"], each["error"], each["delivered_at"]) for each in listed] == [(1, "", None)]
    assert command("events")[1]["type"] == "stack-revoked"
    assert command("webhook", "remove", made["id"])[0] == 0
    assert command("webhook", "remove", made["id"])[1]["error"]["code"] == "webhook-unknown"
    assert command("webhook", "test", made["id"])[1]["error"]["code"] == "webhook-unknown"
    receiver.answers = [500]
    again = command("webhook", "add", receiver.url, "--allow-http")[1]["id"]
    status, failed = command("webhook", "test", again)
    assert (status, failed["error"]["code"]) == (2, "webhook-refused")


def test_a_receiver_checks_a_body(
    ring: Keyring, store: Store, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [json.loads(each) for each in ring.chain]}))
    options = ["--keys", str(keys), "--fingerprint", ring.fingerprint, "--json"]

    def check(body: bytes, *more: str) -> tuple[int, dict[str, object]]:
        run_in = tmp_path / "body"
        run_in.write_bytes(body)
        with run_in.open() as stream:
            monkeypatch.setattr(sys, "stdin", stream)
            status = run(["events", "verify", *options, *more])
        return status, json.loads(capsys.readouterr().out)

    hook = add(store, receiver.url)
    happen(store)
    happen(store, 1, "trusted")
    deliver(store, ring, hook, "me", lambda: NOW)
    status, event = check(receiver.bodies[0])
    assert (status, event["type"], event["subject"]) == (0, "host-failed", host(1).host_id.hex())
    chains = ("--chains", str(tmp_path / "chains"))
    assert check(receiver.bodies[0], *chains)[0] == 0
    status, refused = check(receiver.bodies[0], *chains)
    assert (status, refused["error"]["code"]) == (3, "event-repeated")  # type: ignore[index]
    assert check(receiver.bodies[1], *chains)[0] == 0
    forged = Event(9, NOW, "host-trusted", "ab" * 32, "", 1, "", {}).encode()
    assert (
        check(webhooks.sign_event(forged, Keyring.create(tmp_path / "k", authority="x", now=NOW).signing_key))[0] == 3
    )


def test_post_says_what_went_wrong_and_no_secret() -> None:
    hook = make_webhook("http://127.0.0.1:1/secret-path", (), "", NOW)
    with pytest.raises(Unavailable) as caught:
        webhooks.post(hook, b"{}")
    assert caught.value.code == "webhook-unreachable"
    assert "secret" not in caught.value.message
