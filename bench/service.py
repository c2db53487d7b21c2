"""A release end to end: what it costs the authority, and what a launch waits for.

A real authority process over TLS on loopback, one emulated host, one token per launch. The authority's CPU is what the
kernel accounts to its process, so it includes HTTP, TLS, Python and the durable write.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.measure import Figure
from bench.parts import BOOTS
from watchword.agent.enrol import enrol
from watchword.agent.host import Host
from watchword.agent.shares import obtain
from watchword.agent.transport import HttpsExchange
from watchword.agent.unseal import prepare_request
from watchword.authority.data import DATABASE_FILE
from watchword.authority.keys.keyfiles import write_file
from watchword.authority.store import DatabaseUrl
from watchword.crypto.envelope import open_reply, seal_request
from watchword.crypto.keylist import KeyList, verify_chain
from watchword.crypto.token import seal_token
from watchword.policy.profile import Profile
from watchword.testing.emulated import EmulatedHost
from watchword.testing.farm import Farm
from watchword.testing.world import profile_document, stack_from_recording
from watchword.wire.messages import Release, encode_request, parse_reply
from watchword.wire.token import TokenBody
from watchword.wire.tpm.templates import EkKind

__all__ = ["authority", "cpu", "new_token", "run"]

_TICK = os.sysconf("SC_CLK_TCK")


def run(launches: int = 300) -> Iterator[Figure]:
    """The figures: CPU of the authority per release, how much of it is HTTP and TLS, and latency of a launch."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ww-bench-")))
        farm = stack.enter_context(Farm(1))
        process, url, keys = authority(stack, folder, farm.authority.root, profile_document())
        machine = EmulatedHost(farm.tpms[0], BOOTS / "good")
        profile = Profile.parse(profile_document())
        exchange = HttpsExchange(url, keys)
        stack.callback(exchange.close)
        tpm = stack.enter_context(machine.tpm.client())
        host = Host(tpm, exchange, keys, EkKind.P256, machine.event_log_path, machine.ima_log_path)
        host_id = enrol(host, farm.authority.intermediates)
        tokens = [new_token(keys, profile) for _ in range(launches + 20)]
        for token in tokens[:20]:  # warm up
            obtain(host, host_id, token, "warm")
        stat = Path(f"/proc/{process.pid}/stat")
        front = Path(f"/proc/{process.pid}/task/{process.pid}/stat")  # the thread of the event loop
        before, front_before, times = cpu(stat), cpu(front), []
        for number, token in enumerate(tokens[20:]):
            start = time.perf_counter()
            obtain(host, host_id, token, f"vm-{number}")
            times.append((time.perf_counter() - start) * 1e6)
        spent = (cpu(stat) - before) / launches * 1e6
        front_spent = (cpu(front) - front_before) / launches * 1e6
        busy = _back_to_back(host, host_id, [new_token(keys, profile) for _ in range(launches)], stat)
    note = "challenge and release over TLS, with the durable write"
    yield Figure("release, authority CPU", spent, spent, spent, launches, note)
    note = "the part of it in the event loop; the rest decides"
    yield Figure("release, HTTP and TLS", front_spent, front_spent, front_spent, launches, note)
    note = "the release alone, when requests follow each other without a pause"
    yield Figure("release, CPU when busy", busy, busy, busy, launches, note)
    yield Figure(
        "release, added latency", statistics.median(times), min(times), max(times), launches, "wall time, TPM included"
    )


def _back_to_back(host: Host, host_id: bytes, tokens: list[str], stat: Path) -> float:
    """Microseconds of CPU for one release request when the evidence is ready beforehand.

    One launch at a time finds the processor's caches cold: TPM, agent and authority take turns on the same machine. A
    busy authority does not have that cost, and this is what it then spends.
    """
    ready = [prepare_request(host, host_id, token, f"busy-{number}") for number, token in enumerate(tokens)]
    sealed = [seal_request(encode_request(request), host.keys, reply_key) for request, reply_key, _ in ready]
    before = cpu(stat)
    replies = [host.exchange.send(request) for request in sealed]
    spent = (cpu(stat) - before) / len(tokens) * 1e6
    for reply, (_, reply_key, _) in zip(replies, ready, strict=True):
        if not isinstance(parse_reply(open_reply(reply, reply_key)), Release):
            raise RuntimeError("the authority refused a release that is being measured")
    return spent


def authority(
    stack: ExitStack,
    folder: Path,
    root: bytes | None,
    profile: bytes,
    watch: bytes | None = None,
    database: DatabaseUrl | None = None,
    boot: Path = BOOTS / "good",
) -> tuple[subprocess.Popen[bytes], str, KeyList]:
    """A running authority with one maker's root, the stack of ``boot`` and one profile; it judges hosts by ``watch``.

    Its store is in a file, or in ``database``.
    """
    data, ready = folder / "authority", folder / "ready"
    data.mkdir(mode=0o700)
    if database is not None:
        write_file(data / DATABASE_FILE, database.text.encode())
    log = stack.enter_context((folder / "log").open("wb"))
    command = [sys.executable, "-m", "watchword", "authority"]
    process = subprocess.Popen(
        [
            *command,
            "serve",
            "--data",
            str(data),
            "--listen",
            "127.0.0.1:0",
            "--per-host",
            "0",
            "--ready-file",
            str(ready),
        ],
        stdout=log,
        stderr=log,
    )
    stack.callback(lambda: (process.send_signal(signal.SIGTERM), process.wait(20)))
    deadline = time.monotonic() + 60
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError((folder / "log").read_text())
        time.sleep(0.05)
    for name, content, arguments in (
        ("root.der", root, ["anchor", "add", "--class", "virtual"]),
        ("stack.json", stack_from_recording(boot), ["stack", "add", "--unendorsed"]),
        ("profile.json", profile, ["profile", "add"]),
    ):
        if content is None:
            continue
        (folder / name).write_bytes(content)
        subprocess.run(
            [*command, *arguments, str(folder / name), "--data", str(data)], check=True, stdout=subprocess.DEVNULL
        )
    if watch is not None:
        subprocess.run(
            [*command, "watch", "add", watch.hex(), "--data", str(data)], check=True, stdout=subprocess.DEVNULL
        )
    answer = json.loads(ready.read_text())
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the fingerprint is the check
    with urllib.request.urlopen(answer["url"] + "/v1/keys", context=context, timeout=10) as response:
        chain = [json.dumps(envelope).encode() for envelope in json.load(response)["keys"]]
    return process, answer["url"], verify_chain(chain, answer["fingerprint"])


def new_token(keys: KeyList, profile: Profile) -> str:
    """One launch, level "full"."""
    body = TokenBody(os.urandom(32), os.urandom(16), bytes(32), profile.id, int(time.time()) + 3600, 1, 2)
    return seal_token(body, keys.sealing_key())


def cpu(stat: Path) -> float:
    """User and system seconds of a process with all its threads, or of one thread, by its ``stat`` in /proc."""
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK
