"""This compute host as the agent sees it: a TPM, two logs, and a way to each of its authorities."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from watchword.agent.tpm.client import Tpm
from watchword.agent.transport import Exchange
from watchword.crypto.keylist import KeyList
from watchword.crypto.token import sealing_key_id
from watchword.errors import Unavailable
from watchword.wire.token import Token
from watchword.wire.tpm.templates import EkKind

__all__ = ["EVENT_LOG", "RUNTIME_LOG", "Host", "Link"]

EVENT_LOG = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
RUNTIME_LOG = Path("/sys/kernel/security/ima/binary_runtime_measurements")


@dataclass(frozen=True, slots=True)
class Link:
    """A way to one authority, and its pinned keys."""

    exchange: Exchange
    keys: KeyList

    def has_key(self, key_id: bytes) -> bool:
        """Whether this authority has the sealing key with this 4-byte id."""
        return key_id in map(sealing_key_id, self.keys.sealing)


@dataclass(frozen=True, slots=True)
class Host:
    """Everything that evidence is made of and sent over.

    ``keys`` are the authority's pinned keys, ``others`` the ways to further authorities, ``ek_kind`` the
    endorsement key that this host enrols with, ``event_log`` and ``runtime_log`` the files of the firmware's and
    the kernel's binary logs; ``lock`` is a file that agent processes of this host take in turn (None: there is only
    one).
    """

    tpm: Tpm
    exchange: Exchange
    keys: KeyList
    ek_kind: EkKind
    event_log: Path = EVENT_LOG
    runtime_log: Path = RUNTIME_LOG
    lock: Path | None = None
    others: tuple[Link, ...] = ()

    @property
    def links(self) -> tuple[Link, ...]:
        """The ways to all authorities, in the order of the settings."""
        return (Link(self.exchange, self.keys), *self.others)

    def towards(self, link: Link) -> Host:
        """This host as it talks to one of them."""
        return replace(self, exchange=link.exchange, keys=link.keys, others=())

    def link_for(self, token: str) -> Link:
        """The way to the authority that ``token`` is sealed to; with one authority that is always the one.

        Raises :class:`MalformedError`, :class:`Unavailable` (``authority-unpinned``).
        """
        key_id = Token.parse(token).key_id
        for link in self.links:
            if not self.others or link.has_key(key_id):
                return link
        raise Unavailable(
            "authority-unpinned",
            f"no authority of this host has the key {key_id.hex()} that a token is sealed to",
            hint="Add the authority to the agent's settings; after a change of its keys, fetch its key list again.",
        )
