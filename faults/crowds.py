"""Too many clients, and clients that take their time."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from faults.judge import judged
from faults.outcome import Outcome
from faults.service import Service
from watchword.agent.transport import new_reply_key
from watchword.crypto.envelope import seal_request
from watchword.testing.replayed import ReplayedHost
from watchword.wire.evidence import Purpose
from watchword.wire.messages import ChallengeRequest, encode_request

__all__ = ["overload", "trickle"]

_CLIENTS = 600  # on as many connections, each asking again at once: more than twice what may wait
_SECONDS = 8.0


def overload(folder: Path, times: int) -> Outcome:
    """600 clients ask without a pause for eight seconds while eight hosts launch, ``times`` times."""
    outcome = Outcome()
    with closing(Service(folder)) as service:
        for _ in range(times):
            with judged(service, outcome, 400) as load:
                load.wait_for(100)
                outcome.said.update(asyncio.run(_flood(service, service.hosts[0])))
    return outcome


async def _flood(service: Service, host: ReplayedHost) -> Counter[str]:
    sealed = seal_request(
        encode_request(ChallengeRequest(host.host_id, Purpose.ATTEST, "")), service.keys, new_reply_key()
    )
    head = b"POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-type: application/octet-stream\r\ncontent-length: "
    request = head + str(len(sealed)).encode() + b"\r\n\r\n" + sealed
    said, until = Counter[str](), time.monotonic() + _SECONDS
    await asyncio.gather(*(_ask_on(service, request, until, said) for _ in range(_CLIENTS)))
    return Counter({f"the crowd: {text}": count for text, count in said.items()})


async def _ask_on(service: Service, request: bytes, until: float, said: Counter[str]) -> None:
    await asyncio.sleep(random.random())
    while time.monotonic() < until:
        try:
            async with asyncio.timeout(40):
                reader, writer = await _connect(service)
                try:
                    while time.monotonic() < until:
                        writer.write(request)
                        status = int((await reader.readline()).split()[1])
                        size = 0
                        while (line := await reader.readline()) not in (b"\r\n", b""):
                            if line.lower().startswith(b"content-length:"):
                                size = int(line.split(b":")[1])
                        await reader.readexactly(size)
                        said[str(status)] += 1
                finally:
                    writer.close()
        except TimeoutError:
            said["hung"] += 1
        except (OSError, IndexError, asyncio.IncompleteReadError):
            said["no answer"] += 1
            await asyncio.sleep(0.1)


async def _connect(service: Service) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context(cadata=service.keys.tls_ca)
    port = int(service.url.rpartition(":")[2])
    return await asyncio.open_connection("localhost", port, ssl=context)


def trickle(folder: Path, times: int) -> Outcome:
    """200 clients send a byte every two seconds, of a head or of a body, while eight hosts launch, ``times`` times."""
    outcome = Outcome()
    with closing(Service(folder)) as service:
        for _ in range(times):
            with judged(service, outcome, 2000):
                held = asyncio.run(_trickle_all(service))
            outcome.notes.append(f"the last slow connection was closed after {max(held):.0f} s")
            if max(held) > 60:
                outcome.broken["a slow client was kept"] += 1
    return outcome


async def _trickle_all(service: Service) -> list[float]:
    head = b"POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-type: application/octet-stream\r\n"
    whole = head + b"content-length: 1000\r\n\r\n"
    return await asyncio.gather(*(_trickle(service, b"" if n % 2 else whole) for n in range(200)))


async def _trickle(service: Service, begin: bytes) -> float:
    """Seconds until the authority had enough."""
    start = time.monotonic()
    reader, writer = await _connect(service)
    try:
        writer.write(begin)
        while time.monotonic() < start + 90:
            writer.write(b"P")
            try:
                async with asyncio.timeout(2):
                    if not await reader.read(4096):
                        break
            except TimeoutError:
                continue
    except OSError:
        pass
    finally:
        writer.close()
    return time.monotonic() - start
