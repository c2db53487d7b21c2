"""What is written in one turn is one piece; nothing is lost, nothing waits for long, nothing changes places."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from watchword.authority.serving.joining import JoiningTransport


class Kept(asyncio.Transport):
    """Keeps what reaches it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.seen.append(data)

    def close(self) -> None:
        self.seen.append("close")

    def abort(self) -> None:
        self.seen.append("abort")


def seen(use: Callable[[JoiningTransport], None]) -> list[Any]:
    async def main() -> list[Any]:
        kept = Kept()
        use(JoiningTransport(kept, asyncio.get_running_loop()))
        await asyncio.sleep(0)
        return kept.seen

    return asyncio.run(main())


def test_two_writes_are_one() -> None:
    assert seen(lambda t: (t.write(b"head"), t.write(bytearray(b"body")))) == [b"headbody"]  # type: ignore[arg-type, return-value, func-returns-value]


def test_much_is_sent_at_once_and_in_order() -> None:
    large = b"x" * (1 << 16)
    assert seen(lambda t: t.writelines([b"head", large, b"tail"])) == [b"head" + large + b"tail"]
    assert seen(lambda t: [t.write(part) for part in (b"head", large, b"tail")]) == [b"head" + large, b"tail"]  # type: ignore[func-returns-value, arg-type, return-value]


def test_what_waits_is_sent_before_the_end_and_not_after_an_abort() -> None:
    assert seen(lambda t: (t.write(b"bye"), t.close())) == [b"bye", "close"]  # type: ignore[arg-type, return-value, func-returns-value]
    assert seen(lambda t: (t.write(b"bye"), t.abort())) == ["abort"]  # type: ignore[arg-type, return-value, func-returns-value]
