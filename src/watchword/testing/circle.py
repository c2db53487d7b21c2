"""Several authorities that know the same hosts, and secrets that are split over them; any of them may lie."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from watchword.agent.enrol import enrol
from watchword.agent.host import Host, Link
from watchword.agent.shares import Kept, obtain, reopen
from watchword.agent.transport import Exchange
from watchword.authority.deciding.launches import Launches
from watchword.authority.keys.keyring import Keyring
from watchword.authority.telemetry.work import Work
from watchword.crypto.envelope import LaunchSecret
from watchword.errors import Unavailable, WatchwordError
from watchword.launch.machine import Launch
from watchword.launch.receipt import Decision, launch_key
from watchword.tenant.launches import LaunchRecord
from watchword.tenant.split import create_split
from watchword.testing.emulated import EmulatedHost
from watchword.testing.world import Direct, World
from watchword.verify.ek import EkClass
from watchword.wire.messages import Release
from watchword.wire.share import Bundle
from watchword.wire.token import TokenBody
from watchword.wire.tpm.templates import EkKind

__all__ = ["Circle", "CircleHost", "Slow", "SplitSecret", "Unreachable"]


class LyingAuthority(Launches):
    """Decides and records honestly, and then releases whatever ``lie`` makes of what the token held."""

    lie: Callable[[TokenBody], TokenBody]

    def _release(self, launch: Launch, keys: Keyring, now: int, work: Work) -> Release:
        honest = launch.seal

        def seal(data_key: bytes) -> Release:
            launch._grant = self.lie(launch.grant)
            return honest(data_key)

        launch.seal = seal  # type: ignore[method-assign]
        return super()._release(launch, keys, now, work)


class Unreachable:
    """A way to an authority that does not answer; ``after`` seconds it says so."""

    def __init__(self, after: float = 0.0) -> None:
        self._after = after

    def send(self, sealed: bytes) -> bytes:
        time.sleep(self._after)
        raise Unavailable("exchange-failed", "the authority cannot be reached")

    def close(self) -> None:
        """There is nothing to give back."""


@dataclass(frozen=True)
class SplitSecret:
    """What a tenant made, and still knows for the sake of a test."""

    bundle: Bundle
    record: LaunchRecord
    secret: bytes

    @property
    def text(self) -> str:
        return self.bundle.text()


class Circle:
    """``count`` worlds: authorities named one.test, two.test, … that trust the first one's TPM maker.

    With ``relayed`` each has a relay of its own.
    """

    def __init__(self, boots: Path, count: int = 3, *, relayed: bool = False) -> None:
        self._stack = ExitStack()
        self.boots = boots
        self.worlds = [
            self._stack.enter_context(World(boots, relayed=relayed, name=f"{name}.test"))
            for name in ("one", "two", "three", "four")[:count]
        ]
        for world in self.worlds[1:]:
            world.trust(self.worlds[0].makers.root, EkClass.VIRTUAL)

    def __enter__(self) -> Circle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def host(self, recording: str = "good", *, enrolled: tuple[int, ...] | None = None) -> CircleHost:
        """A host that is enrolled with all authorities, or with those numbered (from 0) in ``enrolled``."""
        host = CircleHost(EmulatedHost(self.worlds[0].tpm(), self.boots / recording), self)
        host.enrol(enrolled if enrolled is not None else tuple(range(len(self.worlds))))
        return host

    def split(self, threshold: int = 2, **changes: Any) -> SplitSecret:
        """A secret split over all authorities: one release, level "full", valid for an hour."""
        world, secret = self.worlds[0], os.urandom(32)
        demands: dict[str, Any] = {
            "name": f"split-{os.urandom(4).hex()}",
            "authorities": [(each.keys.key_list.authority, each.keys.key_list) for each in self.worlds],
            "threshold": threshold,
            "profile": world.profile,
            "rank": 2,
            "inputs": {"disk": bytes(32)},
            "now": world.now,
            "lifetime": 3600,
            "releases": 1,
            **changes,
        }
        bundle, record = create_split(secret=secret, **demands)
        return SplitSecret(bundle, record, secret)

    def lies(self, number: int, lie: Callable[[TokenBody], TokenBody]) -> None:
        """From now on authority ``number`` (from 0) releases what ``lie`` makes of a token's body."""
        world = self.worlds[number]
        world.launches = LyingAuthority(world.store, lambda: world.keys, lambda: world.now)
        world.launches.lie = lie

    def decisions(self, number: int, split: SplitSecret) -> list[Decision]:
        """What authority ``number`` recorded about a launch, oldest first."""
        key = launch_key(bytes.fromhex(split.record.launch_id))
        return [Decision.parse(entry.entry) for entry in self.worlds[number].store.decisions(launch_key=key)]

    def released(self, split: SplitSecret) -> list[int]:
        """How often each authority released its share."""
        every = range(len(self.worlds))
        return [sum(each.outcome == "released" for each in self.decisions(number, split)) for number in every]


class Slow:
    """A way that takes ``seconds`` longer than ``way``."""

    def __init__(self, way: Exchange, seconds: float) -> None:
        self._way, self._seconds = way, seconds

    def send(self, sealed: bytes) -> bytes:
        time.sleep(self._seconds)
        return self._way.send(sealed)

    def close(self) -> None:
        self._way.close()


class CircleHost:
    """An emulated host with a way to each authority; ``ways`` may be changed by a test."""

    def __init__(self, machine: EmulatedHost, circle: Circle) -> None:
        self.machine = machine
        self.circle = circle
        self.host_id = b""
        self.ways: list[Exchange] = [_Late(world) for world in circle.worlds]
        self.told: list[tuple[str, str]] = []

    def use(self, action: Callable[[Host], Any]) -> Any:
        """Run ``action`` with the host's TPM open."""
        with self.machine.tpm.client() as tpm:
            return action(self.view(tpm))

    def view(self, tpm: Any) -> Host:
        """What the agent works with."""
        first, *others = (
            Link(way, world.keys.key_list) for way, world in zip(self.ways, self.circle.worlds, strict=True)
        )
        logs = (self.machine.event_log_path, self.machine.ima_log_path)
        return Host(tpm, first.exchange, first.keys, EkKind.P256, *logs, others=tuple(others))

    def enrol(self, numbers: tuple[int, ...]) -> None:
        """Enrol with these authorities."""
        makers = self.circle.worlds[0].makers
        for number in numbers:

            def action(host: Host, number: int = number) -> bytes:
                return enrol(host.towards(host.links[number]), makers.intermediates)

            self.host_id = self.use(action)

    def obtain(self, text: str, instance: str = "vm-1", *, seconds: float = 60.0) -> LaunchSecret:
        """Collect the shares; ``told`` has what the agent said about authorities."""
        self.told.clear()
        self.kept: Kept = []

        def tell(authority: str, error: WatchwordError) -> None:
            self.told.append((authority, error.code))

        def keep(kept: Kept) -> None:
            self.kept = kept

        secret: LaunchSecret = self.use(
            lambda host: obtain(host, self.host_id, text, instance, keep=keep, tell=tell, seconds=seconds)
        )
        return secret

    def reopen(self, text: str) -> LaunchSecret:
        """Open once more what was kept."""
        secret: LaunchSecret = self.use(lambda host: reopen(host, text, self.kept))
        return secret


class _Late:
    """The way to whatever answers for a world when it is asked."""

    def __init__(self, world: World) -> None:
        self._world = world

    def send(self, sealed: bytes) -> bytes:
        return Direct(self._world.launches).send(sealed)

    def close(self) -> None:
        """There is nothing to give back."""
