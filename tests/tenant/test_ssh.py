"""V1: only a machine that holds the host key of the launch is believed, and every wait ends."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import asyncssh
import pytest

from watchword.crypto.ssh_key import derive
from watchword.errors import Rejected, Unavailable, UsageError
from watchword.tenant.ssh import Address, known_hosts_line, known_hosts_name, parse_address, prove_host_key
from watchword.testing.interceptor import Interceptor
from watchword.testing.ssh_server import SshServer, public_half_only

KEY = derive(bytes(range(32)), bytes(16))
OTHER = derive(bytes(32), bytes(16))
PRIVATE = asyncssh.import_private_key(KEY.private_openssh)


@contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[Address]:
    """A TCP server that treats each connection with ``answer``."""
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            held.append(connection)
            try:
                answer(connection)
            except OSError:
                pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Address("127.0.0.1", listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
        for connection in held:
            connection.close()


def test_the_machine_that_holds_the_key_is_believed() -> None:
    with SshServer([PRIVATE]) as server:
        prove_host_key(Address(server.host, server.port), KEY.public_openssh, 10)


def test_another_key_is_rejected_with_both_fingerprints() -> None:
    other = asyncssh.import_private_key(OTHER.private_openssh)
    with SshServer([other]) as server, pytest.raises(Rejected) as caught:
        prove_host_key(Address(server.host, server.port), KEY.public_openssh, 10)
    assert (caught.value.code, caught.value.clause) == ("ssh-host-key", "V1")
    assert (caught.value.findings[0].expected, caught.value.findings[0].actual) == (KEY.fingerprint, OTHER.fingerprint)


def test_knowing_only_the_public_key_is_not_enough() -> None:
    with SshServer([public_half_only(KEY.public_openssh)]) as server, pytest.raises(Rejected) as caught:
        prove_host_key(Address(server.host, server.port), KEY.public_openssh, 10)
    assert caught.value.code == "ssh-host-key"
    assert "proof" in caught.value.findings[0].expected


def test_a_machine_in_the_middle_that_ends_the_connection_is_rejected() -> None:
    with SshServer([PRIVATE]) as genuine, Interceptor(genuine.host, genuine.port) as middle:
        prove_host_key(Address(genuine.host, genuine.port), KEY.public_openssh, 10)
        with pytest.raises(Rejected) as caught:
            prove_host_key(Address(middle.address, middle.port), KEY.public_openssh, 10)
    assert caught.value.code == "ssh-host-key"


def test_a_relay_to_another_machine_is_rejected() -> None:
    with SshServer([asyncssh.generate_private_key("ssh-ed25519")]) as other:

        def pass_on(connection: socket.socket) -> None:
            behind = socket.create_connection((other.host, other.port))
            for source, sink in ((connection, behind), (behind, connection)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()

        with raw_server(pass_on) as address, pytest.raises(Rejected) as caught:
            prove_host_key(address, KEY.public_openssh, 10)
    assert caught.value.code == "ssh-host-key"


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        sink.close()


def test_other_kinds_of_host_keys_are_not_even_asked_for() -> None:
    with SshServer([asyncssh.generate_private_key("ecdsa-sha2-nistp256")]) as server, pytest.raises(Rejected) as caught:
        prove_host_key(Address(server.host, server.port), KEY.public_openssh, 10)
    assert caught.value.code == "ssh-host-key"
    assert "proof" in caught.value.findings[0].expected  # no exchange took place


def _ssh_packet(payload: bytes) -> bytes:
    padding = 8 - (5 + len(payload)) % 8
    padding += 8 if padding < 4 else 0
    return (1 + len(payload) + padding).to_bytes(4, "big") + bytes([padding]) + payload + bytes(padding)


@pytest.mark.parametrize("reason", [11, 14])
def test_a_farewell_in_clear_proves_nothing(reason: int) -> None:
    """Anybody on the path can send SSH_MSG_DISCONNECT before there are keys, also with the code that a server uses
    after a failed login."""

    def answer(connection: socket.socket) -> None:
        farewell = b"\x01" + reason.to_bytes(4, "big") + (4).to_bytes(4, "big") + b"done" + bytes(4)
        connection.sendall(b"SSH-2.0-x\r\n" + _ssh_packet(farewell))

    with raw_server(answer) as address, pytest.raises(Unavailable) as caught:
        prove_host_key(address, KEY.public_openssh, 1.2)
    assert caught.value.code == "ssh-no-handshake"


@pytest.mark.parametrize(
    "answer",
    [
        lambda connection: None,
        lambda connection: connection.close(),
        lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        lambda connection: connection.sendall(b"SSH-2.0-x\r\n"),
    ],
    ids=["silent", "closes", "other-protocol", "stops-after-version"],
)
def test_a_machine_that_never_finishes_ends_at_the_deadline(answer: Callable[[socket.socket], None]) -> None:
    started = time.monotonic()
    with raw_server(answer) as address, pytest.raises(Unavailable) as caught:
        prove_host_key(address, KEY.public_openssh, 1.2)
    assert caught.value.code == "ssh-no-handshake"
    assert time.monotonic() - started < 5


def test_a_machine_that_comes_up_later_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    started = threading.Event()

    def later() -> None:
        time.sleep(0.8)
        with SshServer([PRIVATE], port):
            started.wait(20)

    thread = threading.Thread(target=later, daemon=True)
    thread.start()
    try:
        prove_host_key(Address("127.0.0.1", port), KEY.public_openssh, 15)
    finally:
        started.set()
        thread.join(10)


def test_user_configuration_has_no_part_in_it(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text("Host *\n  ProxyCommand false\n  HostKeyAlgorithms ssh-rsa\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with SshServer([PRIVATE]) as server:
        prove_host_key(Address(server.host, server.port), KEY.public_openssh, 10)


def test_openssh_accepts_the_known_hosts_line_by_alias(tmp_path) -> None:
    (tmp_path / "known").write_text(known_hosts_line(["Web1"], KEY.public_openssh) + "\n")

    def ssh(private) -> str:
        with SshServer([private]) as server:
            options = {
                "UserKnownHostsFile": tmp_path / "known",
                "GlobalKnownHostsFile": "none",
                "StrictHostKeyChecking": "yes",
                "HostKeyAlias": "Web1",
                "BatchMode": "yes",
                "UpdateHostKeys": "no",
            }
            flags = [f"-o{name}={value}" for name, value in options.items()]
            command = ["ssh", "-F", "none", *flags, "-p", str(server.port), "nobody@127.0.0.1", "true"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            return done.stderr

    assert "Permission denied" in ssh(PRIVATE)  # past the host key, at the login
    assert "Host key verification failed" in ssh(asyncssh.generate_private_key("ssh-ed25519"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host", Address("host", 22)),
        ("192.0.2.7:2222", Address("192.0.2.7", 2222)),
        ("[2001:db8::1]:2222", Address("2001:db8::1", 2222)),
        ("[2001:db8::1]", Address("2001:db8::1", 22)),
        ("2001:db8::1", Address("2001:db8::1", 22)),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":22",
        "host:0",
        "host:65536",
        "host:x",
        "host:²",
        "-oProxyCommand=x",
        "a b",
        "[::1",
        "[::1]x",
        "h\n:1",
        "[]:1",
    ],
)
def test_what_is_not_an_address(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert caught.value.code == "bad-address"


def test_names_as_openssh_writes_them() -> None:
    assert known_hosts_name(Address("192.0.2.7")) == "192.0.2.7"
    assert known_hosts_name(Address("192.0.2.7", 2222)) == "[192.0.2.7]:2222"
    assert str(Address("2001:db8::1", 2222)) == "[2001:db8::1]:2222"
