"""The HTTP face: every route, every refusal as a problem document, limits on what one client may cost."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx2
import pytest

from watchword import __version__
from watchword.authority import server
from watchword.authority.keys.keyring import Keyring
from watchword.authority.serving.problems import PROBLEMS
from watchword.authority.store import ProfileRow
from watchword.crypto import keylist
from watchword.launch.receipt import Decision, launch_key
from watchword.policy import ear

from .conftest import Service
from .helpers import NOW, host

OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def client(service: Service) -> Iterator[httpx2.Client]:
    with service.client() as made:
        yield made


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, object]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, object] = answer.json()
    assert document["type"] == f"urn:watchword:problem:{code}"
    assert document["status"] == status
    assert set(document) == {"type", "title", "status", "detail"}
    return document


# -- messages ------------------------------------------------------------------------------------------------------


def test_a_message_is_answered(client: httpx2.Client) -> None:
    answer = client.post("/v1/messages", content=b"hello", headers=OCTETS)
    assert (answer.status_code, answer.content) == (200, b"olleh")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "server" not in answer.headers


def test_a_chunked_message_is_answered(client: httpx2.Client) -> None:
    answer = client.post("/v1/messages", content=iter([b"hel", b"lo"]), headers=OCTETS)
    assert answer.content == b"olleh"


def test_a_message_of_the_largest_size_is_answered(client: httpx2.Client) -> None:
    assert len(client.post("/v1/messages", content=b"x" * 65536, headers=OCTETS).content) == 65536


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", OCTETS, 400, "body-empty"),
        (b"x" * 65537, OCTETS, 413, "body-too-large"),
        (b"x", {"Content-Type": "application/json"}, 415, "body-type"),
        (b"x", {}, 415, "body-type"),
        (b"x", OCTETS | {"Content-Encoding": "gzip"}, 415, "body-type"),
        (b"malformed", OCTETS, 400, "sealed-unopenable"),
        (b"malonce.", OCTETS, 400, "sealed-unopenable"),
        (b"unavailable", OCTETS, 503, "store-busy"),
        (b"misconfigured", OCTETS, 500, "misconfigured"),
    ],
)
def test_a_wrong_message_is_a_problem(
    client: httpx2.Client, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = client.post("/v1/messages", content=body, headers=headers)
    problem(answer, status, code)
    assert "/secret" not in answer.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_our_own_bug_is_not_shown(client: httpx2.Client) -> None:
    answer = client.post("/v1/messages", content=b"our bug!", headers=OCTETS)
    problem(answer, 500, "internal")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert client.post("/v1/messages", content=b"ab", headers=OCTETS).content == b"ba"


def test_a_chunked_message_is_counted_while_it_comes(client: httpx2.Client) -> None:
    problem(client.post("/v1/messages", content=iter([b"x" * 40_000] * 2), headers=OCTETS), 413, "body-too-large")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", "/v1/messages", "POST"), ("POST", "/v1/keys", "GET"), ("DELETE", "/v1/status", "GET")],
)
def test_a_wrong_method_is_a_problem(client: httpx2.Client, method: str, path: str, allow: str) -> None:
    answer = client.request(method, path)
    problem(answer, 405, "method-not-allowed")
    assert allow in answer.headers["allow"]


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/messages/", "/v2/keys", "/v1/profiles/", "/v1/%00", "/..%2f..%2fetc"]
)
def test_an_unknown_path_is_a_problem(client: httpx2.Client, path: str) -> None:
    problem(client.get(path), 404, "not-found")


def test_what_is_answered_at_once_waits_for_nobody(service: Service, client: httpx2.Client) -> None:
    """Every worker and every place to wait is taken, and the loop still answers what needs neither."""

    def send(_: int) -> httpx2.Response:
        with service.client() as client:
            return client.post("/v1/messages", content=b"wait....", headers=OCTETS)

    service.answers.open.clear()
    with ThreadPoolExecutor(4) as pool:
        pending = [pool.submit(send, n) for n in range(4)]
        for _ in range(2):
            assert service.answers.entered.acquire(timeout=20)
        assert client.post("/v1/messages", content=b"at once.", headers=OCTETS).content == b"at once"
        large = b"at once." + bytes(9000)  # is never looked at in the loop
        service.answers.open.set()
        for each in pending:
            assert each.result().content == b"....tiaw"
    assert client.post("/v1/messages", content=large, headers=OCTETS).content == large[::-1]


def test_too_much_at_once_is_refused_and_the_rest_is_answered(service: Service) -> None:
    """Two workers, two places to wait: of eight, four are told at once to come again."""

    def send(_: int) -> httpx2.Response:
        with service.client() as client:
            return client.post("/v1/messages", content=b"wait....", headers=OCTETS)

    service.answers.open.clear()
    with ThreadPoolExecutor(8) as pool:
        pending = [pool.submit(send, n) for n in range(8)]
        deadline = time.monotonic() + 20
        while sum(p.done() for p in pending) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
        refused = [p.result() for p in pending if p.done()]
        service.answers.open.set()
        answers = [p.result() for p in pending]
    assert len(refused) == 4
    for answer in refused:
        problem(answer, 503, "overloaded")
        assert answer.headers["retry-after"] == "2"
    assert sum(a.status_code == 200 for a in answers) == 4


def test_large_messages_have_room_of_their_own(service: Service) -> None:
    """Two of 40 KiB fill it: one in work, one waiting. Others are told to come again, and small ones are served."""
    large = b"wait...." + b"x" * (40 * 1024 - 8)

    def send(body: bytes | Iterator[bytes]) -> httpx2.Response:
        with service.client() as client:
            return client.post("/v1/messages", content=body, headers=OCTETS)

    service.answers.open.clear()
    while service.answers.entered.acquire(blocking=False):
        pass
    with ThreadPoolExecutor(2) as pool:
        pending = [pool.submit(send, large) for _ in range(2)]
        try:
            assert service.answers.entered.acquire(timeout=20)
            deadline = time.monotonic() + 20
            # It asks for room and takes none, as nothing follows.
            announced = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(large)
            while b" 503 " not in talk(service, announced)[:20] and time.monotonic() < deadline:
                time.sleep(0.02)
            answer = send(large)
            problem(answer, 503, "overloaded")
            assert "large" in answer.json()["detail"]
            assert answer.headers["retry-after"] == "2"
            problem(send(iter([large[:9000]] * 4)), 503, "overloaded")
            assert send(b"x" * 16 * 1024).status_code == 200
            assert not service.answers.entered.acquire(blocking=False)  # the other one waits for its turn
        finally:
            service.answers.open.set()
        assert [p.result().content for p in pending] == [large[::-1]] * 2
    assert send(large).status_code == 200


def test_who_announces_much_and_sends_nothing_takes_no_room(service: Service) -> None:
    head = POST + b"Content-Length: 60000\r\n\r\n"
    with ThreadPoolExecutor(4) as pool:
        idle = [pool.submit(talk, service, head) for _ in range(4)]
        with service.client() as client:
            assert client.post("/v1/messages", content=b"x" * 20_000, headers=OCTETS).status_code == 200
        for each in idle:
            raw_problem(each.result(), 408, "body-slow")


# -- raw HTTP ------------------------------------------------------------------------------------------------------


def talk(service: Service, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send raw bytes and return everything that comes back until the service hangs up."""
    with (
        socket.create_connection((service.address.host, service.address.port), 20) as plain,
        service.context.wrap_socket(plain, server_hostname=service.address.host) as connection,
    ):
        received = b""
        with suppress(ConnectionError, ssl.SSLError):
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
            while part := connection.recv(65536):
                received += part
        return received


def raw_problem(received: bytes, status: int, code: str) -> None:
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), received
    assert json.loads(body)["type"] == f"urn:watchword:problem:{code}"


POST = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (POST + b"\r\n", 411, "body-length"),
        (POST + b"Content-Length: 17000000\r\n\r\n", 413, "body-too-large"),
        (POST + b"Content-Length: 10\r\n\r\nxx", 408, "body-slow"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nxx\r\n", 408, "body-slow"),
        (POST + b"Content-Length: -1\r\n\r\n", 400, "http-malformed"),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400, "http-malformed"),
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "http-malformed"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "http-malformed"),
        (b"\x00\x01\x02 nonsense\r\n\r\n", 400, "http-malformed"),
        (b"GET /v1/status HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 400, "http-malformed"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", 400, "http-malformed"),
    ],
)
def test_wrong_http_is_a_problem_and_the_end(service: Service, request_bytes: bytes, status: int, code: str) -> None:
    raw_problem(talk(service, request_bytes), status, code)


def test_a_client_that_sends_no_request_is_dropped(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.5)
    started = time.monotonic()
    assert talk(service) == b""
    assert talk(service, b"GET /v1/status HT") == b""
    drip = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"
    assert talk(service, *[drip[i : i + 1] for i in range(len(drip))], pause=0.1) == b""
    assert time.monotonic() - started < 15


def test_a_second_request_on_a_connection_must_arrive_too(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.5)
    request = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"
    received = talk(service, request, b"GET /v1/sta", pause=0.3)
    assert received.count(b"HTTP/1.1 200") == 1


def test_only_modern_tls(service: Service) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(cadata=service.ring.key_list.tls_ca)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection((service.address.host, service.address.port), 20) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        old.wrap_socket(plain, server_hostname=service.address.host)


def test_nobody_is_given_a_ticket_to_resume_a_session_with(service: Service) -> None:
    context = ssl.create_default_context(cadata=service.ring.key_list.tls_ca)
    where = service.address.host, service.address.port
    with socket.create_connection(where, 20) as plain, context.wrap_socket(plain, server_hostname=where[0]) as line:
        line.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
        assert line.recv(12) == b"HTTP/1.1 200"  # a ticket would have come before
        assert line.session is not None
        assert not line.session.has_ticket


# -- what is public ------------------------------------------------------------------------------------------------


def test_keys_lead_from_the_pin_to_the_newest_list(service: Service, client: httpx2.Client) -> None:
    before = client.get("/v1/keys").json()
    service.ring.rotate_signing(NOW)
    after = client.get("/v1/keys").json()
    assert after["keys"][:-1] == before["keys"]
    chain = [json.dumps(item).encode() for item in after["keys"]]
    assert keylist.verify_chain(chain, service.ring.fingerprint).version == len(chain)


def test_a_profile_is_its_exact_bytes(service: Service, client: httpx2.Client) -> None:
    document = b'{ "any": "bytes" }\n'
    identity = hashlib.sha256(document).digest()
    with service.store.transaction() as tx:
        tx.put_profile(ProfileRow(identity, document, "gold", NOW))
    answer = client.get(f"/v1/profiles/{identity.hex()}")
    assert answer.content == document
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize("name", ["00" * 32, "AA" * 32, "zz" * 32, "00", "é"])
def test_an_unknown_profile_is_a_problem(client: httpx2.Client, name: str) -> None:
    problem(client.get(f"/v1/profiles/{name}"), 404, "profile-unknown")


@pytest.mark.parametrize("name", ["00" * 16, "AA" * 16, "00" * 15, "x"])
def test_an_unknown_launch_is_a_problem(client: httpx2.Client, name: str) -> None:
    problem(client.get(f"/v1/launches/{name}"), 404, "launch-unknown")


def refusal(key: bytes, instance: str) -> bytes:
    """A decision as the authority records it."""
    decision = Decision(
        outcome="refused", time=NOW, launch=key.hex(), token="", instance=instance, profile="", inputs="", level="",
        rank=0, required=1, stack=None, host="", releases=0, allowed=1, lease=0, evidence="",
    )  # fmt: skip
    return decision.encode()


def test_the_receipts_of_a_launch_come_in_pages(service: Service, client: httpx2.Client) -> None:
    launch_id = b"L" * 16
    key = launch_key(launch_id)
    with service.store.transaction() as tx:
        for number in range(103):
            tx.append_decision(NOW, key, refusal(key, str(number)))
            tx.append_decision(NOW, launch_key(b"M" * 16), refusal(launch_key(b"M" * 16), "other"))
    first = client.get(f"/v1/launches/{launch_id.hex()}").json()
    second = client.get(f"/v1/launches/{launch_id.hex()}", params={"after": first["next"]}).json()
    assert (len(first["decisions"]), len(second["decisions"]), second["next"]) == (100, 3, None)
    assert all(envelope["payloadType"].endswith("receipt+json") for envelope in first["decisions"])
    now_on_disk = Keyring.load(service.ring.directory)  # another test rotates the keys of this service
    keys = now_on_disk.key_list.receipt_keys()
    assert [len(first["results"]), len(second["results"])] == [100, 3]
    assert {ear.verify(token.encode(), keys, NOW).submodules["host"].status for token in first["results"]} == {"none"}


@pytest.mark.parametrize("after", ["-1", "x", "9" * 30, ""])
def test_a_wrong_page_is_a_problem(client: httpx2.Client, after: str) -> None:
    problem(client.get("/v1/launches/" + "00" * 16, params={"after": after}), 400, "query-malformed")


def test_status(service: Service, client: httpx2.Client) -> None:
    with service.store.transaction() as tx:
        tx.put_host(host(9))
    status = client.get("/v1/status").json()
    head = service.store.head()
    assert status["version"] == __version__
    assert status["fingerprint"] == service.ring.fingerprint
    assert status["counts"]["hosts"] == 1
    assert status["decisions"] == {"seq": head.seq, "root": head.root.hex()}
    assert client.get("/v1/stacks").json() == {"stacks": []}


def test_every_status_code_is_listed_once() -> None:
    assert {status for status, _ in PROBLEMS.values()} == {
        400,
        401,
        403,
        404,
        405,
        408,
        411,
        413,
        415,
        429,
        500,
        503,
        507,
    }
