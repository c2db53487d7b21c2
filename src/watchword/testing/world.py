"""A small world for tests: an authority, hosts with real emulated TPMs, and a tenant's tokens.

The authority runs in this process on a real store and keyring; hosts talk to it through any ``Exchange``. Everything a
test breaks is one thing in a world that works.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from watchword.agent.attest import attest
from watchword.agent.enrol import enrol
from watchword.agent.host import Host
from watchword.agent.shares import obtain
from watchword.agent.transport import Exchange, RelayExchange
from watchword.authority.deciding.launches import Launches
from watchword.authority.keys.keyring import Keyring
from watchword.authority.store import AnchorRow, DatabaseUrl, ProfileRow, StackRow, StackState, Store
from watchword.crypto.envelope import LaunchSecret
from watchword.crypto.token import seal_token
from watchword.errors import MalformedError
from watchword.launch.receipt import Decision, launch_key
from watchword.policy.capture import capture_stack
from watchword.policy.profile import Profile
from watchword.policy.stack import CompiledStack
from watchword.relay.server import Relay
from watchword.testing.ek_authority import EkAuthority
from watchword.testing.emulated import EmulatedHost
from watchword.testing.farm import Farm, SwTpm
from watchword.testing.scripted import serve
from watchword.verify.ek import EkClass, TrustAnchor
from watchword.wire.messages import Attested
from watchword.wire.tcg_log import EventLog, EventType
from watchword.wire.token import TokenBody
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.templates import EkKind

__all__ = ["Direct", "TestHost", "Token", "World", "profile_document", "stack_from_recording"]

BOOT_PCRS = (0, 2, 3, 4, 7, 9, 11)
QUOTED_PCRS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
COMPONENTS: Mapping[str, tuple[int, ...]] = {"firmware": (0, 2, 3), "secure-boot": (7,), "image": (4, 9, 11)}


def stack_from_recording(folder: Path, *, name: str = "compute", version: str = "1", serial: int = 1) -> bytes:
    """A stack document for the boot in ``folder``: its events, and the files of its image as reference values."""
    log = EventLog.parse((folder / "eventlog.bin").read_bytes())
    events: list[tuple[int, Mapping[Alg, bytes], str]] = [
        (event.pcr, {Alg(alg): value for alg, value in event.digests}, f"event {event.index}")
        for event in log.events
        if event.type != EventType.NO_ACTION
    ]
    files: Mapping[str, str] = json.loads((folder / "files.json").read_text())
    listed = [(os.fsencode(path), Alg.SHA256, bytes.fromhex(value.split(":")[1])) for path, value in files.items()]
    return capture_stack(name=name, version=version, serial=serial, events=events, files=listed, components=COMPONENTS)


def profile_document(*, stacks: Iterable[str] = ("compute",), **rules: Any) -> bytes:
    """A profile with the levels "boot" (what booted) and "full" (and everything that ran); ``rules`` go into both."""
    common = {"identity": ["virtual"], "covers": list(BOOT_PCRS), "stacks": list(stacks), **rules}
    document = {
        "format": "watchword-profile/1",
        "name": "test",
        "bank": "sha256",
        "pcrs": list(QUOTED_PCRS),
        "levels": [
            {"name": "boot", "rules": {**common, "runtime": "ignored", "reject_violations": False}},
            {"name": "full", "rules": {**common, "runtime": "listed"}},
        ],
    }
    return json.dumps(document, indent=1).encode()


@dataclass(slots=True)
class Direct:
    """The shortest way to an authority: a call. ``sent`` keeps the sealed bytes that went over."""

    launches: Launches
    sent: list[bytes] = field(default_factory=list)

    def send(self, sealed: bytes) -> bytes:
        self.sent.append(sealed)
        return self.launches.handle(sealed)

    def close(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True, slots=True)
class Token:
    """A tenant's token, with what the tenant put inside."""

    text: str
    body: TokenBody


class TestHost:
    """An emulated host with its agent's view of it."""

    __test__ = False

    def __init__(self, machine: EmulatedHost, world: World, exchange: Exchange) -> None:
        self.machine = machine
        self.world = world
        self.exchange = exchange
        self.host_id = b""

    def use(self, action: Callable[[Host], Any]) -> Any:
        """Run ``action`` with the host's TPM open; an emulated TPM serves one client at a time."""
        with self.machine.tpm.client() as tpm:
            return action(self.view(tpm))

    def view(self, tpm: Any) -> Host:
        """What the agent works with."""
        machine = self.machine
        return Host(
            tpm, self.exchange, self.world.keys.key_list, EkKind.P256, machine.event_log_path, machine.ima_log_path
        )

    def enrol(self) -> bytes:
        """Enrol, for the first time or again."""
        self.host_id = self.use(lambda host: enrol(host, self.world.makers.intermediates))
        return self.host_id

    def obtain(self, token: Token | str, instance: str = "vm-1") -> LaunchSecret:
        """The whole exchange of a launch, up to the secret."""
        text = token if isinstance(token, str) else token.text
        secret: LaunchSecret = self.use(lambda host: obtain(host, self.host_id, text, instance))
        return secret

    def attest(self) -> Attested:
        """Show the host's state, without a launch."""
        found: Attested = self.use(lambda host: attest(host, self.host_id))
        return found


class World:
    """One authority that trusts one maker of emulated TPMs, one stack ("compute") and one profile.

    ``now`` is the authority's clock and moves only when a test moves it. With ``relayed``, hosts reach the authority
    through a relay (at ``relay_url``), over HTTP on loopback, and not by a call. The store is in a file, or in
    ``database``. Use as a context manager.
    """

    def __init__(
        self,
        boots: Path,
        *,
        clock: int = 1_800_000_000,
        relayed: bool = False,
        database: DatabaseUrl | None = None,
        name: str = "authority.test",
    ) -> None:
        self._stack = ExitStack()
        self.boots = boots
        self.now = clock
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ww-world-")))
        self.makers = EkAuthority.create()
        self.farm = self._stack.enter_context(Farm(0, authority=self.makers))
        self.keys = Keyring.create(self.folder / "keyring", authority=name, now=self.now)
        self.where = database or self.folder / "store.sqlite3"
        self.store = self._stack.enter_context(Store.open(self.where))
        self.launches = Launches(self.store, lambda: self.keys, lambda: self.now)
        self.relay_url = self._start_relay() if relayed else ""
        self.profile = Profile.parse(profile_document())
        self.trust(self.makers.root, EkClass.VIRTUAL)
        self.add_profile(profile_document())
        self.stack = self.add_stack(stack_from_recording(boots / "good"))

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # -- the way to the authority ------------------------------------------------------------------------------

    def exchange(self) -> Exchange:
        """A new way to the authority, for one host."""
        if not self.relay_url:
            return Direct(self.launches)
        exchange = RelayExchange(self.relay_url)
        self._stack.callback(exchange.close)
        return exchange

    def _start_relay(self) -> str:
        """A real relay in front of a small HTTP server in front of the authority."""
        relay = Relay("127.0.0.1", 0, self._stack.enter_context(serve(self._respond)))
        thread = threading.Thread(target=relay.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(relay.server_close)
        self._stack.callback(relay.shutdown)
        return f"http://127.0.0.1:{relay.port}"

    def _respond(self, _path: str, sealed: bytes) -> tuple[int, bytes]:
        try:
            return 200, self.launches.handle(sealed)
        except MalformedError as error:
            return 400, json.dumps({"type": f"urn:watchword:problem:{error.code}", "status": 400}).encode()

    # -- what the authority believes ---------------------------------------------------------------------------

    def trust(self, certificate: bytes, ek_class: EkClass) -> None:
        """Add a trust anchor."""
        row = AnchorRow(hashlib.sha256(certificate).digest(), TrustAnchor(certificate, ek_class, "test"), self.now)
        with self.store.transaction() as tx:
            tx.put_anchor(row)

    def add_profile(self, document: bytes) -> Profile:
        """Add a profile and make it the one that tokens name."""
        self.profile = Profile.parse(document)
        with self.store.transaction() as tx:
            tx.put_profile(ProfileRow(self.profile.id, document, self.profile.name, self.now))
        return self.profile

    def watch(self, profile: Profile | None = None) -> None:
        """Judge all hosts by ``profile`` (the newest) whenever they attest."""
        with self.store.transaction() as tx:
            tx.put_watched((profile or self.profile).id, self.now)

    def add_stack(self, document: bytes, endorsed_by: frozenset[str] = frozenset()) -> CompiledStack:
        """Register a stack as active."""
        stack = CompiledStack.parse(document)
        with self.store.transaction() as tx:
            tx.put_stack(
                StackRow(
                    digest=stack.digest,
                    document=document,
                    envelope=None,
                    endorsed_by=endorsed_by,
                    name=stack.name,
                    version=stack.version,
                    serial=stack.serial,
                    state=StackState.ACTIVE,
                    retire_at=None,
                    added_at=self.now,
                    pool=stack.pool,
                    channel=stack.channel,
                )
            )
        return stack

    def set_stack_state(self, stack: CompiledStack, state: StackState, retire_at: int | None = None) -> None:
        """Retire or revoke a stack."""
        with self.store.transaction() as tx:
            tx.set_stack_state(stack.digest, state, retire_at, time=self.now)

    # -- hosts and tokens --------------------------------------------------------------------------------------

    def tpm(self, makers: EkAuthority | None = None) -> SwTpm:
        """One more TPM, from the trusted maker unless another is given."""
        return self.farm.add(makers or self.makers)

    def host(self, recording: str = "good", *, makers: EkAuthority | None = None, enrolled: bool = True,
             exchange: Exchange | None = None) -> TestHost:  # fmt: skip
        """A host that booted ``recording``."""
        machine = EmulatedHost(self.tpm(makers), self.boots / recording)
        host = TestHost(machine, self, exchange or self.exchange())
        if enrolled:
            host.enrol()
        return host

    def token(self, **fields: Any) -> Token:
        """A good token: one release, level "full", valid for an hour; ``fields`` of the body may differ."""
        body = {
            "secret": os.urandom(32),
            "launch_id": os.urandom(16),
            "inputs": bytes(32),
            "profile": self.profile.id,
            "expires": self.now + 3600,
            "releases": 1,
            "level": 2,
            **fields,
        }
        token = TokenBody(**body)
        return Token(seal_token(token, self.keys.key_list.sealing_key()), token)

    def decisions(self, token: Token) -> list[Decision]:
        """What the authority recorded about a launch, oldest first."""
        key = launch_key(token.body.launch_id)
        return [Decision.parse(entry.entry) for entry in self.store.decisions(launch_key=key)]
