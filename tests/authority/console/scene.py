"""A small fleet in every state there is, and the people who look at it: real emulated TPMs, a real service with TLS."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from watchword.authority.access import Access
from watchword.authority.acts.admin import Admin
from watchword.authority.acts.stacks import Activation
from watchword.authority.app import Services
from watchword.authority.console import Console
from watchword.authority.deciding.snapshot import Snapshots
from watchword.authority.publishing.witness import Witnesses
from watchword.authority.server import Address
from watchword.crypto import dsse
from watchword.errors import Rejected
from watchword.policy.stack import PAYLOAD_TYPE
from watchword.testing.people import ClientFiles, PeopleCa, access_file
from watchword.testing.witness import Witness
from watchword.testing.world import TestHost, World, stack_from_recording

from ..conftest import serving

HOSTILE = b"/tmp/<script>alert(1)</script>\xe2\x80\xae\x1b[31m<img src=x onerror=alert(2)>"
MARKED = b'/opt/<script>alert(1)</script>"'  # printable, so it is told as it is
PEOPLE = {"ada": ("auditor",), "olga": ("operator",), "rosa": ("read-only",), "tom": ("tenant",), "eve": ("endorser",)}


@dataclass
class Scene:
    """The service at ``address``, its hosts by what became of them, and everybody's certificate."""

    world: World
    address: Address
    context: ssl.SSLContext
    hosts: dict[str, TestHost]
    files: dict[str, ClientFiles]
    secret: bytes
    ids: dict[str, str] = field(default_factory=dict)

    def client(self, person: str | None = "rosa") -> httpx2.Client:
        """A browser without a window: it shows ``person``'s certificate, or none."""
        context = ssl.create_default_context(cadata=self.world.keys.key_list.tls_ca)
        if person is not None:
            context.load_cert_chain(self.files[person].certificate, self.files[person].key)
        return httpx2.Client(base_url=self.address.url, verify=context, timeout=60)

    def get(self, path: str, person: str | None = "rosa") -> httpx2.Response:
        with self.client(person) as client:
            return client.get(path)


@contextmanager
def scene(boots: Path, folder: Path) -> Iterator[Scene]:
    """The fleet, served with a console."""
    now = int(time.time())
    with World(boots, clock=now - 9000) as world, Witness("witness.example", world.keys.key_list) as witness:
        world.keys = world.keys.with_names(["127.0.0.1"], now)
        world.watch()
        stacks(world)
        hosts = fleet(world)
        secret = launches(world, hosts)
        snapshots = Snapshots(world.store)
        people, access = PeopleCa.make(folder), folder / "access.toml"
        access_file(access, PEOPLE)
        services = Services(
            world.launches, world.store, lambda: world.keys, lambda: world.now, witness_seconds=3600,
            access=Access(access),
        )  # fmt: skip
        with world.store.transaction() as tx:
            tx.put_witness(witness.verifier_key, witness.url, world.now)
        world.now += 75
        Witnesses(world.store, services.log, lambda: world.now).ask_all(world.keys)
        with serving(services, world.keys, people.file, Console(snapshots)) as address:
            context = ssl.create_default_context(cadata=world.keys.key_list.tls_ca)
            yield Scene(world, address, context, hosts, {name: people.issue(name) for name in PEOPLE}, secret)


def stacks(world: World) -> None:
    """A release in force that two of three signed, a draft with one signature, one that ends, one that was revoked."""
    keys = {name: Ed25519PrivateKey.generate() for name in ("build farm", "security team", "auditor")}
    admin = Admin(world.store, world.now, "root")
    ids = {name: admin.add_endorser(key.public_key(), name).key_id for name, key in keys.items()}

    def signed(recording: str, version: str, serial: int, *names: str, channel: str = "stable") -> bytes:
        document = stack_from_recording(world.boots / recording, version=version, serial=serial)
        if channel != "stable":
            document = json.dumps({**json.loads(document), "channel": channel}).encode()
        return dsse.sign(document, PAYLOAD_TYPE, [keys[name] for name in names])

    admin.stacks.add(signed("good", "1", 1, "build farm", "auditor"), Activation())
    bad = admin.stacks.add(signed("initrd", "1.1", 2, "build farm"), Activation(), draft=True)
    admin.stacks.revoke(bad.row, "its initrd has a known hole")
    admin.stacks.add(signed("release-2", "2", 3, "security team"), Activation(), draft=True)
    beta = admin.stacks.add(signed("kernel", "2-rc1", 4, "build farm", channel="beta"), Activation())
    admin.stacks.retire(beta.row, world.now + 30 * 86400, "followed by 2")
    admin.set_stack_rule("compute", "default", frozenset(ids.values()), 2)


def fleet(world: World) -> dict[str, TestHost]:
    """Hosts by what became of them; the clock stands at the present when all is done."""
    hosts = {
        name: world.host()
        for name in (
            "one",
            "two",
            "three",
            "four",
            "stale",
            "degraded",
            "hostile",
            "marked",
            "failed",
            "revoked",
            "unknown",
        )
    }
    for name, host in hosts.items():
        if name != "unknown":
            host.attest()
    world.now += 8400
    hosts["degraded"].machine.reboot(world.boots / "altered-binary")
    hosts["hostile"].machine.run_file(HOSTILE, b"not on any list")
    hosts["marked"].machine.run_file(MARKED, b"nor this")
    hosts["failed"].machine.reboot(world.boots / "release-2")
    world.now += 600
    for name, host in hosts.items():
        if name not in ("unknown", "stale"):
            host.attest()
    Admin(world.store, world.now, "root").revoke_host(hosts["revoked"].host_id, "returned to its vendor")
    return hosts


def launches(world: World, hosts: dict[str, TestHost]) -> bytes:
    """One secret that was released, and one that was not; the former."""
    token = world.token()
    hosts["one"].obtain(token)
    with suppress(Rejected):
        hosts["failed"].obtain(world.token(), "vm-2")
    return token.body.secret
