"""One launch on this host, from the tenant's token to a running machine that can prove itself.

The steps of ``docs/spec/launch.md``: hold the inputs still, obtain the secret, compare what the tenant meant with what
is really used, and only then hand the machine its key. After any failure there is no machine and nothing was injected.

Clauses of this side: **L1** a secret serves a fresh boot and no detour; **L2** the machine starts from the inputs that
the tenant's token names.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from watchword.agent.host import Host
from watchword.agent.hypervisor import Machine, Running, free_port, start
from watchword.agent.inject.configdrive import config_drive_file
from watchword.agent.inject.fwcfg import credential_file
from watchword.agent.inputs import COPY_LIMIT, HeldDisk, check_inputs, digest_of
from watchword.agent.shares import check_bundle, obtain
from watchword.agent.turn import in_turn
from watchword.crypto.ssh_key import SshHostKey, derive
from watchword.errors import Finding, Rejected, UsageError, WatchwordError
from watchword.wire.evidence import MAX_INSTANCE
from watchword.wire.inputs import DISK, USER_DATA
from watchword.wire.trace import launch_trace, traced

__all__ = ["BootKind", "Delivery", "Order", "launch"]


class BootKind(StrEnum):
    """Why an orchestrator starts a machine. Only the first kind may receive a secret."""

    FRESH = "fresh"
    RESCUE = "rescue"
    REBUILD = "rebuild"
    EVACUATE = "evacuate"
    UNSHELVE = "unshelve"
    RESIZE = "resize"
    MIGRATION = "migration"
    RESTART = "restart"


class Delivery(StrEnum):
    """How the machine gets its key."""

    CONFIG_DRIVE = "config-drive"
    FW_CFG = "fw-cfg"


@dataclass(frozen=True, slots=True)
class Order:
    """What an orchestrator asks for.

    ``token`` is the tenant's launch token, or its tokens with shares and their launch set; ``instance`` the
    provider's name of the machine (1 to 255 bytes), ``disk`` a raw image, ``user_data`` at most 64 KiB or None,
    ``inputs`` the names that the tenant bound (None: all in use), ``folder`` where logs go. ``ssh_port`` 0 picks a
    free one.
    """

    token: str
    instance: str
    disk: Path
    folder: Path
    user_data: bytes | None = None
    inputs: tuple[str, ...] | None = None
    deliver: Delivery = Delivery.CONFIG_DRIVE
    boot: BootKind = BootKind.FRESH
    name: str = "vm"
    ssh_address: str = "127.0.0.1"
    ssh_port: int = 0
    memory_mib: int = 256
    cpus: int = 1
    accelerator: str = "tcg"
    outbound: bool = False
    copy_limit: int = COPY_LIMIT

    def __repr__(self) -> str:
        return f"Order({self.instance!r}, {self.disk!r})"


def launch(
    host: Host,
    host_id: bytes,
    order: Order,
    tell: Callable[[str, WatchwordError], None] = lambda authority, error: None,
) -> Running:
    """Carry out ``order`` on ``host``, which is enrolled as ``host_id``; returns the running machine.

    ``tell`` hears of each authority that gave no good share of a split secret, by name, and why.
    Raises :class:`Rejected` (``launch-detour``, ``inputs-differ``, ``disk-changed``, or the authority's reason),
    :class:`UsageError`, :class:`MalformedError`, :class:`Unavailable` or a TPM error.
    """
    check_order(order)
    with traced(launch_trace(order.token)), HeldDisk(order.disk, copy_limit=order.copy_limit) as disk:
        used = {DISK: disk.digest}
        if order.user_data is not None:
            used[USER_DATA] = hashlib.sha256(order.user_data).digest()
        actual = digest_of(used, order.inputs)
        with in_turn(host.lock):
            secret = obtain(host, host_id, order.token, order.instance, tell=tell)
        check_inputs(secret.inputs, actual)
        disk.check_unchanged()
        return _boot(order, disk, derive(secret.secret, secret.launch_id))


def check_order(order: Order) -> None:
    """Refuse what cannot or must not be launched, before anybody else is asked.

    A rescue, rebuild or restart runs with the same metadata, token included, but boots something else or
    boots it again: whatever it is, it is not the launch that the tenant sealed a secret for (clause L1).
    """
    if order.boot is not BootKind.FRESH:
        raise Rejected(
            Finding("L1", "launch-detour", "a launch secret is for a fresh boot only", BootKind.FRESH, order.boot),
            hint="Boot without the secret, or ask the tenant for a new launch with a new token.",
        )
    check_bundle(order.token)
    if not 1 <= len(order.instance.encode()) <= MAX_INSTANCE:
        raise UsageError("instance", f"the instance name must have 1 to {MAX_INSTANCE} bytes")


def _boot(order: Order, disk: HeldDisk, key: SshHostKey) -> Running:
    by_drive = order.deliver is Delivery.CONFIG_DRIVE
    with contextlib.ExitStack() as stack:
        drive = credential = -1
        if by_drive or order.user_data is not None:
            # User data travels on the config drive even when the key does not.
            drive = stack.enter_context(
                _closing(config_drive_file(order.instance, order.name, order.user_data, key if by_drive else None))
            )
        if not by_drive:
            credential = stack.enter_context(_closing(credential_file(key)))
        return start(
            Machine(
                name=order.name,
                folder=order.folder,
                disk=disk.fd,
                ssh_port=order.ssh_port or free_port(order.ssh_address),
                ssh_address=order.ssh_address,
                config_drive=drive,
                credential=credential,
                memory_mib=order.memory_mib,
                cpus=order.cpus,
                accelerator=order.accelerator,
                outbound=order.outbound,
            )
        )


@contextlib.contextmanager
def _closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)
