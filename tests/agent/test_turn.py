from __future__ import annotations

import threading
from pathlib import Path

import pytest

from watchword.agent.turn import in_turn
from watchword.errors import Unavailable


def test_one_after_the_other(tmp_path: Path) -> None:
    order: list[str] = []
    held = threading.Event()

    def second() -> None:
        held.wait(5)
        with in_turn(tmp_path / "state" / "lock"):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with in_turn(tmp_path / "state" / "lock"):
        held.set()
        thread.join(0.2)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_waiting_ends(tmp_path: Path) -> None:
    with in_turn(tmp_path / "lock"), pytest.raises(Unavailable) as caught, in_turn(tmp_path / "lock", timeout=0.1):
        raise AssertionError("two hold it")
    assert caught.value.code == "agent-busy"


def test_without_a_lock_nobody_waits() -> None:
    with in_turn(None), in_turn(None):
        pass


def test_the_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), in_turn(tmp_path / "lock"):
        raise RuntimeError
    with in_turn(tmp_path / "lock", timeout=0.1):
        pass
