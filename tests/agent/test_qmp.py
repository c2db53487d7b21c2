"""QEMU's control connection: only what is expected is taken for an answer."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from watchword.agent.qmp import Qmp
from watchword.errors import Unavailable

GREETING = {"QMP": {"version": {}, "capabilities": []}}
DONE: dict[str, object] = {"return": {}}


class Qemu:
    """The other end: says ``lines`` and then hangs up."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.control = Qmp(ours, 2.0)

    def say(self, *messages: object) -> None:
        text = b"".join(m if isinstance(m, bytes) else json.dumps(m).encode() + b"\n" for m in messages)
        self.theirs.sendall(text)


@pytest.fixture
def qemu() -> Iterator[Qemu]:
    found = Qemu()
    yield found
    found.control.close()
    found.theirs.close()


def test_a_greeting_and_an_answer(qemu: Qemu) -> None:
    qemu.say(GREETING, {"event": "RESUME"}, DONE)
    qemu.control.greet()
    assert json.loads(qemu.theirs.recv(1000)) == {"execute": "qmp_capabilities"}


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([{"event": "RESUME"}], "qemu-protocol"),
        ([b"no json\n"], "qemu-protocol"),
        ([b"[1]\n"], "qemu-gone"),
        ([b"[" * 100000 + b"\n"], "qemu-protocol"),
        ([GREETING, {"error": {"class": "x"}}], "qemu-protocol"),
        ([GREETING], "qemu-gone"),
        ([], "qemu-gone"),
    ],
)
def test_anything_else_is_a_failure(qemu: Qemu, messages: list[object], code: str) -> None:
    writer = threading.Thread(target=lambda: (qemu.say(*messages), qemu.theirs.shutdown(socket.SHUT_WR)))
    writer.start()
    with pytest.raises(Unavailable) as failed:
        qemu.control.greet()
    writer.join()
    assert failed.value.code == code


def test_silence_ends() -> None:
    ours, theirs = socket.socketpair()
    control = Qmp(ours, 0.1)
    with theirs, pytest.raises(Unavailable) as failed:
        control.greet()
    control.close()
    assert failed.value.code == "qemu-protocol"


def test_nobody_takes_a_command(qemu: Qemu) -> None:
    qemu.say(GREETING)
    qemu.theirs.close()
    with pytest.raises(Unavailable) as failed:
        qemu.control.greet()
    assert failed.value.code == "qemu-gone"
