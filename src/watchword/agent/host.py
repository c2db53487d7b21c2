"""This compute host as the agent sees it: a TPM, two logs, and a way to one authority."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from watchword.agent.tpm.client import Tpm
from watchword.agent.transport import Exchange
from watchword.crypto.keylist import KeyList
from watchword.wire.tpm.templates import EkKind

__all__ = ["EVENT_LOG", "RUNTIME_LOG", "Host"]

EVENT_LOG = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
RUNTIME_LOG = Path("/sys/kernel/security/ima/binary_runtime_measurements")


@dataclass(frozen=True, slots=True)
class Host:
    """Everything that evidence is made of and sent over.

    ``keys`` are the authority's pinned keys, ``ek_kind`` the endorsement key that this host enrols with, ``event_log``
    and ``runtime_log`` the files of the firmware's and the kernel's binary logs; ``lock`` is a file that agent
    processes of this host take in turn (None: there is only one).
    """

    tpm: Tpm
    exchange: Exchange
    keys: KeyList
    ek_kind: EkKind
    event_log: Path = EVENT_LOG
    runtime_log: Path = RUNTIME_LOG
    lock: Path | None = None
