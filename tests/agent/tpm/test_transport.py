"""Frames and their limits, over sockets, TCP and a device, with a peer that answers whatever the test wants."""

from __future__ import annotations

import os
import socket
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from watchword.agent.tpm.client import Tpm
from watchword.agent.tpm.transport import MAX_RESPONSE, DeviceTransport, SocketTransport, connect
from watchword.errors import MalformedError, Unavailable, UsageError
from watchword.testing.farm import SwTpm

COMMAND = bytes.fromhex("80010000000a00000181")


def response(body: bytes = b"", size: int | None = None) -> bytes:
    return b"\x80\x01" + (10 + len(body) if size is None else size).to_bytes(4, "big") + bytes(4) + body


@pytest.fixture
def pair() -> Iterator[tuple[SocketTransport, socket.socket]]:
    ours, theirs = socket.socketpair()
    transport = SocketTransport(ours, timeout=0.1)
    yield transport, theirs
    transport.close()
    theirs.close()


def test_carries_a_command_and_its_response(pair: tuple[SocketTransport, socket.socket]) -> None:
    transport, peer = pair
    peer.sendall(response(b"abc"))
    assert transport.send(COMMAND) == response(b"abc")
    assert peer.recv(100) == COMMAND


@pytest.mark.parametrize("size", [0, 9, MAX_RESPONSE + 1, 0xFFFFFFFF])
def test_refuses_an_impossible_size(pair: tuple[SocketTransport, socket.socket], size: int) -> None:
    transport, peer = pair
    peer.sendall(response(size=size))
    with pytest.raises(MalformedError, match="announces"):
        transport.send(COMMAND)


def test_says_when_the_tpm_goes_away(pair: tuple[SocketTransport, socket.socket]) -> None:
    transport, peer = pair
    peer.sendall(response(b"abc")[:-1])
    peer.shutdown(socket.SHUT_WR)
    with pytest.raises(Unavailable) as caught:
        transport.send(COMMAND)
    assert caught.value.code == "tpm-gone"


def test_waits_no_longer_than_its_timeout_and_is_closed_then(pair: tuple[SocketTransport, socket.socket]) -> None:
    transport, peer = pair
    peer.sendall(response(b"abc")[:-1])
    with pytest.raises(Unavailable) as caught:
        transport.send(COMMAND)
    assert caught.value.code == "tpm-timeout"
    # The rest of a late answer must never be taken for the answer to the next command.
    peer.close()
    with pytest.raises(Unavailable) as caught:
        transport.send(COMMAND)
    assert caught.value.code == "tpm-gone"


def test_one_byte_now_and_then_does_not_hold_it_for_ever() -> None:
    ours, theirs = socket.socketpair()
    stop = threading.Event()

    def dribble() -> None:
        for byte in response(bytes(1000)):
            if stop.wait(0.02):
                return
            theirs.send(bytes([byte]))

    thread = threading.Thread(target=dribble)
    thread.start()
    try:
        with pytest.raises(Unavailable) as caught:
            SocketTransport(ours, timeout=0.15).send(COMMAND)
        assert caught.value.code == "tpm-timeout"
    finally:
        stop.set()
        thread.join()
        theirs.close()


@pytest.mark.parametrize(
    "address", ["", "unix:", "device:", "/dev/tpmrm0", "tcp:2321", "tcp:host:", "tcp:host:99999", "tcp::1", "ssh:a:1"]
)
def test_refuses_what_is_no_address(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        connect(address)
    assert caught.value.code == "tpm-address"


def test_refuses_a_socket_path_that_the_kernel_cannot_take() -> None:
    with pytest.raises(UsageError, match="107"):
        connect("unix:/" + "x" * 107)


@pytest.mark.parametrize("scheme", ["unix", "device"])
def test_says_that_nothing_is_there(tmp_path: Path, scheme: str) -> None:
    with pytest.raises(Unavailable) as caught:
        connect(f"{scheme}:{tmp_path.name}/none")
    assert caught.value.code == "tpm-unreachable"


@pytest.mark.parametrize("leaves", [True, False])
def test_waits_for_a_tpm_that_serves_somebody_else(tmp_path: Path, leaves: bool) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(path)
        busy.listen(0)
        first.connect(path)  # fills the queue

        def accept() -> None:
            busy.accept()[0].close()

        later = threading.Timer(0.3, accept)
        if leaves:
            later.start()
            connect(f"unix:{path}", 20.0).close()
            later.join()
        else:
            with pytest.raises(Unavailable, match="no TPM answers") as caught:
                connect(f"unix:{path}", 0.2)
            assert caught.value.code == "tpm-unreachable"


def test_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport = connect(f"tcp:127.0.0.1:{server.getsockname()[1]}", 1)
        peer, _ = server.accept()
        with peer:
            peer.sendall(response(b"x"))
            assert transport.send(COMMAND) == response(b"x")
        transport.close()


@pytest.fixture
def device() -> Iterator[tuple[DeviceTransport, int]]:
    """A character device that behaves enough like /dev/tpmrm0: a terminal in raw mode."""
    peer, slave = os.openpty()
    tty.setraw(slave)
    transport = DeviceTransport(os.ttyname(slave), timeout=0.2)
    yield transport, peer
    transport.close()
    os.close(slave)
    os.close(peer)


def test_device(device: tuple[DeviceTransport, int]) -> None:
    transport, peer = device
    os.write(peer, response(b"abc"))
    assert transport.send(COMMAND) == response(b"abc")
    assert os.read(peer, 100) == COMMAND


@pytest.mark.parametrize("answer", [response(b"abc", size=12), response(b"abc", size=14), b"\x80\x01\0"])
def test_device_refuses_a_response_whose_size_disagrees(device: tuple[DeviceTransport, int], answer: bytes) -> None:
    transport, peer = device
    os.write(peer, answer)
    with pytest.raises(MalformedError):
        transport.send(COMMAND)
    with pytest.raises(Unavailable):
        transport.send(COMMAND)


def test_device_timeout(device: tuple[DeviceTransport, int]) -> None:
    with pytest.raises(Unavailable) as caught:
        device[0].send(COMMAND)
    assert caught.value.code == "tpm-timeout"


def test_a_second_client_of_one_tpm_gets_a_timeout_not_a_hang(swtpm: SwTpm) -> None:
    with swtpm.client() as first:
        first.read_clock()
        with swtpm.client(timeout=0.1) as second, pytest.raises(Unavailable) as caught:
            second.read_clock()
        assert caught.value.code == "tpm-timeout"
        first.read_clock()
    with Tpm.open(swtpm.address) as third:
        third.read_clock()
