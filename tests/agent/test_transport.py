"""Both ways to the authority carry the same bytes, and nothing that goes wrong on the way is believed."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

import pytest

from watchword.agent.transport import HttpsExchange, RelayExchange, ask
from watchword.errors import MalformedError, Rejected, Unavailable, UsageError
from watchword.testing.scripted import ScriptedAuthority, serve
from watchword.wire.evidence import Purpose
from watchword.wire.messages import MAX_REQUEST, Challenge, ChallengeRequest, Enrolled, Refusal

REQUEST = ChallengeRequest(bytes(32), Purpose.LAUNCH, "WWT1")
ANSWER = Enrolled(bytes(range(32)))


@pytest.fixture
def authority() -> ScriptedAuthority:
    return ScriptedAuthority(lambda *_: ANSWER)


def respond(authority: ScriptedAuthority):
    def answer(path: str, body: bytes) -> tuple[int, bytes]:
        assert path == "/v1/messages"
        return 200, authority.send(body)

    return answer


def test_directly_with_the_pinned_certificate_authority(authority: ScriptedAuthority, tmp_path: Path) -> None:
    with serve(respond(authority), authority.tls(tmp_path)) as url, HttpsExchange(url, authority.keys) as way:
        assert ask(way, authority.keys, REQUEST, Enrolled) == ANSWER
    assert authority.requests == [REQUEST]


def test_another_certificate_authority_is_not_talked_to(authority: ScriptedAuthority, tmp_path: Path) -> None:
    impostor = ScriptedAuthority(lambda *_: ANSWER)
    with serve(respond(impostor), impostor.tls(tmp_path)) as url, HttpsExchange(url, authority.keys) as way:  # noqa: SIM117
        with pytest.raises(Unavailable) as failed:
            way.send(b"sealed")
    assert failed.value.code == "exchange-failed"
    assert impostor.requests == []


def test_a_certificate_for_another_name_is_not_talked_to(authority: ScriptedAuthority, tmp_path: Path) -> None:
    context = authority.tls(tmp_path, ("elsewhere.example",))
    with serve(respond(authority), context) as url, HttpsExchange(url, authority.keys) as way:  # noqa: SIM117
        with pytest.raises(Unavailable):
            way.send(b"sealed")
    assert authority.requests == []


def test_through_a_relay(authority: ScriptedAuthority) -> None:
    with serve(respond(authority)) as url, RelayExchange(url + "/") as way:
        assert ask(way, authority.keys, REQUEST, Enrolled) == ANSWER


def test_a_relay_that_alters_a_reply_is_noticed(authority: ScriptedAuthority) -> None:
    def flip(path: str, body: bytes) -> tuple[int, bytes]:
        reply = authority.send(body)
        return 200, reply[:-1] + bytes([reply[-1] ^ 1])

    with serve(flip) as url, RelayExchange(url) as way, pytest.raises(MalformedError) as failed:
        ask(way, authority.keys, REQUEST, Enrolled)
    assert failed.value.code == "reply-unopenable"


def test_a_relay_that_answers_with_an_older_reply_is_noticed(authority: ScriptedAuthority) -> None:
    kept: list[bytes] = []

    def replay(path: str, body: bytes) -> tuple[int, bytes]:
        kept.append(authority.send(body))
        return 200, kept[0]

    with serve(replay) as url, RelayExchange(url) as way:
        assert ask(way, authority.keys, REQUEST, Enrolled) == ANSWER
        with pytest.raises(MalformedError) as failed:
            ask(way, authority.keys, REQUEST, Enrolled)
    assert failed.value.code == "reply-unopenable"


def test_a_relay_cannot_read_a_request(authority: ScriptedAuthority) -> None:
    seen: list[bytes] = []

    def look(path: str, body: bytes) -> tuple[int, bytes]:
        seen.append(body)
        return 200, authority.send(body)

    token = "WWT1" + "a-token-that-nobody-sees"
    with serve(look) as url, RelayExchange(url) as way:
        ask(way, authority.keys, ChallengeRequest(b"H" * 32, Purpose.LAUNCH, token), Enrolled)
    assert b"nobody" not in seen[0]
    assert b"HHHH" not in seen[0]


def test_an_answer_of_another_kind_is_refused(authority: ScriptedAuthority) -> None:
    with pytest.raises(MalformedError) as failed:
        ask(authority, authority.keys, REQUEST, Challenge)
    assert failed.value.code == "reply-order"


def test_a_refusal_with_a_strange_code_has_a_plain_one(authority: ScriptedAuthority) -> None:
    authority.answer = lambda *_: Refusal("No \x1b[31m code", "B5", "no")
    with pytest.raises(Rejected) as refused:
        ask(authority, authority.keys, REQUEST, Enrolled)
    assert refused.value.code == "refused"


def problem(**fields: object) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (problem(type="urn:watchword:problem:overloaded", detail="too much to do"), "overloaded", "too much to do"),
        (problem(type="urn:watchword:problem:<script>", title="a title"), "exchange-refused", "a title"),
        (problem(type=1, detail=2), "exchange-refused", "status 503"),
        (b"[]", "exchange-refused", "status 503"),
        (b"\xff", "exchange-refused", "status 503"),
        (b"[" * 60000, "exchange-refused", "status 503"),
        (b"", "exchange-refused", "status 503"),
    ],
)
def test_problem_documents_become_errors(body: bytes, code: str, text: str) -> None:
    with serve(lambda *_: (503, body)) as url, RelayExchange(url) as way, pytest.raises(Unavailable) as failed:
        way.send(b"sealed")
    assert failed.value.code == code
    assert text in failed.value.message


def test_a_redirection_is_not_followed() -> None:
    with serve(lambda *_: (307, b"")) as url, RelayExchange(url) as way, pytest.raises(Unavailable, match="307"):
        way.send(b"sealed")


def test_a_reply_without_end_is_cut(authority: ScriptedAuthority) -> None:
    with serve(lambda *_: (200, bytes(1 << 20))) as url, RelayExchange(url) as way:  # noqa: SIM117
        with pytest.raises(Unavailable) as failed:
            way.send(b"sealed")
    assert failed.value.code == "reply-size"


def test_hanging_up_is_unavailable() -> None:
    with serve(lambda *_: None) as url, RelayExchange(url) as way, pytest.raises(Unavailable) as failed:
        way.send(b"sealed")
    assert failed.value.code == "exchange-failed"


def test_silence_ends(authority: ScriptedAuthority) -> None:
    def sleep(*_: object) -> tuple[int, bytes]:
        time.sleep(0.6)
        return 200, b""

    with serve(sleep) as url, RelayExchange(url, timeout=0.2) as way, pytest.raises(Unavailable) as failed:
        way.send(b"sealed")
    assert failed.value.code == "exchange-slow"


def test_a_trickle_ends() -> None:
    """Each byte comes in time, the whole does not."""
    listener = socket.create_server(("127.0.0.1", 0))

    def trickle() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            for _ in range(40):
                time.sleep(0.05)
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

    thread = threading.Thread(target=trickle)
    thread.start()
    started = time.monotonic()
    with RelayExchange(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.3) as way:  # noqa: SIM117
        with pytest.raises(Unavailable) as failed:
            way.send(b"sealed")
    assert failed.value.code == "exchange-slow"
    assert time.monotonic() - started < 1.5
    thread.join()
    listener.close()


def test_nobody_there() -> None:
    with RelayExchange("http://127.0.0.1:1") as way, pytest.raises(Unavailable) as failed:
        way.send(b"sealed")
    assert failed.value.code == "exchange-failed"


def test_a_request_that_nobody_would_take_is_not_sent() -> None:
    with RelayExchange("http://127.0.0.1:1") as way, pytest.raises(Unavailable) as failed:
        way.send(bytes(MAX_REQUEST + 1))
    assert failed.value.code == "request-size"


@pytest.mark.parametrize("url", ["http://authority", "authority:8443", "", "file:///etc/passwd"])
def test_the_direct_way_is_https(authority: ScriptedAuthority, url: str) -> None:
    with pytest.raises(UsageError):
        HttpsExchange(url, authority.keys)


@pytest.mark.parametrize("url", ["ftp://relay", "relay:8444", "", "file:///etc/passwd"])
def test_a_relay_speaks_http(url: str) -> None:
    with pytest.raises(UsageError):
        RelayExchange(url)


def test_a_bad_address_is_unavailable() -> None:
    with RelayExchange("http://[bad") as way, pytest.raises(Unavailable):
        way.send(b"sealed")
