"""One thread while that is enough, more when it is held up, none when there is nothing to do."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from watchword.authority.serving import workers
from watchword.authority.serving.workers import Workers

PATIENCE = 20.0  # seconds in which a slow machine gets there


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


def test_short_jobs_are_done_by_one_thread_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "HELD_UP", PATIENCE)
    monkeypatch.setattr(workers, "WAITED", PATIENCE)
    done: list[int] = []
    names: set[int] = set()

    def job(number: int) -> int:
        names.add(threading.get_ident())
        done.append(number)
        return number

    async def main() -> list[int]:
        made = Workers(8)
        return await asyncio.gather(*(made.run(lambda n=n: job(n)) for n in range(200)))  # type: ignore[misc]

    assert asyncio.run(main()) == done == list(range(200))
    assert len(names) == 1


def test_a_job_that_takes_long_keeps_nobody_out() -> None:
    async def main() -> None:
        made, gate = Workers(2), threading.Event()
        long = asyncio.create_task(made.run(lambda: gate.wait(PATIENCE)))
        assert [await made.run(lambda n=n: n) for n in range(3)] == [0, 1, 2]  # type: ignore[misc]
        assert not long.done()
        gate.set()
        assert await long
        await until(lambda: made.threads == 1)  # one of them waits, the other has ended

    asyncio.run(main())


def test_there_are_no_more_threads_than_allowed() -> None:
    async def main() -> None:
        made, gate, inside = Workers(3), threading.Event(), []

        def job() -> None:
            inside.append(threading.get_ident())
            gate.wait(PATIENCE)

        tasks = [asyncio.create_task(made.run(job)) for _ in range(5)]
        await until(lambda: len(inside) == 3)
        await asyncio.sleep(10 * workers.HELD_UP)
        assert (len(inside), made.threads) == (3, 3)
        gate.set()
        await asyncio.gather(*tasks)
        assert len(inside) == 5

    asyncio.run(main())


def test_many_that_wait_for_long_get_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "WAITED", 0.05)

    async def main() -> None:
        made, most = Workers(4), 0
        tasks = [asyncio.create_task(made.run(lambda: time.sleep(0.005))) for _ in range(200)]
        while not all(task.done() for task in tasks):
            most = max(most, made.threads)
            await asyncio.sleep(0.005)
        assert 1 < most <= 4

    asyncio.run(main())


@pytest.mark.parametrize(("raised", "seen"), [(ValueError("x"), ValueError), (StopIteration(), RuntimeError)])
def test_what_a_job_raises_reaches_who_waits(raised: Exception, seen: type[Exception]) -> None:
    def job() -> None:
        raise raised

    async def main() -> None:
        made = Workers(1)
        with pytest.raises(seen):
            await made.run(job)
        assert await made.run(lambda: 1) == 1

    asyncio.run(main())


def test_who_is_cancelled_waits_for_the_end_of_the_job() -> None:
    async def main() -> None:
        made, entered, gate, ended = Workers(1), threading.Event(), threading.Event(), []

        def job() -> None:
            entered.set()
            gate.wait(PATIENCE)
            ended.append(1)

        task = asyncio.create_task(made.run(job))
        await until(entered.is_set)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0.01)
        assert not task.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended

    asyncio.run(main())


def test_the_last_thread_ends_and_another_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "IDLE", 0.01)

    async def main() -> None:
        made = Workers(2)
        for _ in range(20):  # also at the moment when the last one ends
            assert await made.run(lambda: 1) == 1
            await asyncio.sleep(0.01)
        await until(lambda: made.threads == 0)
        assert await made.run(lambda: 2) == 2

    asyncio.run(main())
