"""A host with 100,000 entries in its runtime log: agent, relay, HTTPS, authority, all of them real."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from watchword.agent.transport import HttpsExchange, RelayExchange
from watchword.authority.app import Services, create_app
from watchword.authority.keys.keyring import KeyringSource
from watchword.authority.server import Address, bind, make_server
from watchword.errors import Unavailable
from watchword.relay.server import Relay
from watchword.testing.farm import have_swtpm
from watchword.testing.logs import measured
from watchword.testing.world import TestHost, World, stack_from_recording
from watchword.wire.evidence import MAX_IMA_LOG
from watchword.wire.ima_log import ImaEntry, encode_entry, template_digest

BOOTS = Path(__file__).resolve().parents[2] / "vectors" / "boots"
ENTRIES = 100_000
SIGNATURE = b"\x03\x02\x04" + bytes(4) + b"\1\0" + bytes(256)  # the size that a key of 2048 bits makes

pytestmark = pytest.mark.skipif(not have_swtpm(), reason="swtpm is not installed: tests with a TPM are left out")


@contextmanager
def served(world: World) -> Iterator[str]:
    """The real service in front of the world's authority; its URL."""
    world.keys = world.keys.with_names(["127.0.0.1"], int(time.time()))
    app = create_app(Services(world.launches, world.store, KeyringSource(world.keys), lambda: world.now))
    listener, address = bind(Address("127.0.0.1", 0))
    ready = threading.Event()
    server = make_server(app, world.keys, ready.set)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    assert ready.wait(30)
    try:
        yield address.url
    finally:
        server.should_exit = True
        thread.join(30)


@contextmanager
def relayed(upstream: str, ca: str) -> Iterator[str]:
    with Relay("127.0.0.1", 0, upstream, ca=ca) as relay:
        thread = threading.Thread(target=relay.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{relay.port}"
        finally:
            relay.shutdown()
            thread.join()


def files() -> list[ImaEntry]:
    return [
        measured(b"/usr/lib/python3/dist-packages/package/module_%06d.py" % n, b"%d" % n, signature=SIGNATURE)
        for n in range(ENTRIES)
    ]


def stack(entries: list[ImaEntry]) -> bytes:
    """The stack of the recorded boot, with all these files."""
    document = json.loads(stack_from_recording(BOOTS / "good", version="2", serial=2))
    for entry in entries:
        file = entry.file()
        document["runtime"]["files"][file.path.decode()] = [f"{file.algorithm}:{file.digest.hex()}"]
    return json.dumps(document).encode()


def run_all(host: TestHost, entries: list[ImaEntry]) -> None:
    """All these files run: in the TPM, and in the log."""
    with host.machine.tpm.client() as tpm:
        banks = [selection.bank for selection in tpm.banks() if selection.pcrs]
        for entry in entries:
            tpm.extend(10, {bank: template_digest(entry, bank) for bank in banks})
    with host.machine.ima_log_path.open("ab") as log:
        log.writelines(map(encode_entry, entries))


def test_100000_entries_through_agent_relay_and_service() -> None:
    with World(BOOTS, clock=int(time.time())) as world, served(world) as url:
        entries = files()
        world.add_stack(stack(entries))
        with (
            relayed(url, world.keys.key_list.tls_ca) as relay,
            RelayExchange(relay) as way,
            HttpsExchange(url, world.keys.key_list) as direct,
        ):
            host = world.host(exchange=way)
            run_all(host, entries)
            size = host.machine.ima_log_path.stat().st_size
            assert 30 << 20 < size < MAX_IMA_LOG

            token, started = world.token(), time.monotonic()
            assert host.obtain(token).secret == token.body.secret
            first = time.monotonic() - started
            state = world.store.host(host.host_id).runtime_state
            assert state is not None
            assert state.seen.entries > ENTRIES

            token, started = world.token(), time.monotonic()
            assert host.obtain(token).secret == token.body.secret  # nothing is sent again
            assert time.monotonic() - started < first

            with world.store.transaction() as tx:
                tx.update_runtime(host.host_id, state.seen, None)  # another stack was revoked, say: all of it again
            host.exchange, token = direct, world.token()
            assert host.obtain(token).secret == token.body.secret


def test_a_million_entries_are_refused_by_the_agent() -> None:
    """With a code that says what to do; the authority would not read such a request (``body-too-large``)."""
    with World(BOOTS) as world:
        host = world.host()
        raw = encode_entry(measured(b"/usr/lib/python3/dist-packages/package/module.py", b"same"))
        with host.machine.ima_log_path.open("ab") as log:
            log.write(raw * 1_000_000)
        with pytest.raises(Unavailable) as failed:
            host.obtain(world.token())
    assert failed.value.code == "log-size"
    assert "Reboot" in failed.value.hint
