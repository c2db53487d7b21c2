"""What a row of each table is called outside this folder. Host and anchor carry the types of ``watchword.verify``."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Row

from watchword.verify.ek import EkClass, TrustAnchor
from watchword.verify.ima_log import RuntimeSeen
from watchword.verify.quote import LastSeen
from watchword.verify.runtime_state import RuntimeState

__all__ = [
    "AnchorRow",
    "BundleRow",
    "CrlRow",
    "EkPin",
    "EndorserRow",
    "Host",
    "ProfileRow",
    "StackChange",
    "StackInfo",
    "StackRow",
    "StackRule",
    "StackState",
    "WitnessRow",
    "anchor_row",
    "host_row",
    "pin_row",
    "stack_info",
    "stack_row",
]


class StackState(StrEnum):
    """The life of a stack release: on file only, in force, in force until ``retire_at``, withdrawn."""

    DRAFT = "draft"
    ACTIVE = "active"
    RETIRING = "retiring"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class AnchorRow:
    """A certificate authority whose EK certificates are believed; ``fingerprint`` is the certificate's SHA-256."""

    fingerprint: bytes
    anchor: TrustAnchor
    added_at: int


@dataclass(frozen=True, slots=True)
class BundleRow:
    """The newest edition of a root bundle: ``digest`` is the SHA-256 of its document, ``anchors`` are fingerprints."""

    name: str
    serial: int
    digest: bytes
    added_at: int
    anchors: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class CrlRow:
    """The newest revocation list of an issuer.

    ``issuer`` is a 32-byte hash of the issuer's name and key, ``fingerprint`` the SHA-256 of ``crl`` (DER); times are
    Unix seconds, ``issuer_name`` is for people.
    """

    issuer: bytes
    fingerprint: bytes
    crl: bytes
    issuer_name: str
    this_update: int
    next_update: int
    added_at: int


@dataclass(frozen=True, slots=True)
class EkPin:
    """One EK that an operator vouches for without a certificate. ``ek_public`` is a TPMT_PUBLIC."""

    host_id: bytes
    ek_public: bytes
    ek_class: EkClass
    label: str
    added_at: int


@dataclass(frozen=True, slots=True)
class EndorserRow:
    """Somebody whose signatures on stacks count, wherever ``stacks`` and ``pools`` allow it (None: everywhere).

    ``key_id`` and ``key_type`` are those of ``crypto.dsse``, ``public_key`` a DER SubjectPublicKeyInfo.
    """

    key_id: str
    key_type: str
    public_key: bytes
    name: str
    added_at: int
    stacks: frozenset[str] | None = None
    pools: frozenset[str] | None = None

    def may_endorse(self, name: str, pool: str) -> bool:
        """Whether this endorser's signature counts on stack ``name`` of ``pool``."""
        return (self.stacks is None or name in self.stacks) and (self.pools is None or pool in self.pools)


@dataclass(frozen=True, slots=True)
class StackRule:
    """Releases of stack ``name`` in ``pool`` need signatures by ``threshold`` of ``keys`` (key ids)."""

    name: str
    pool: str
    threshold: int
    keys: frozenset[str]
    added_at: int


@dataclass(frozen=True, slots=True)
class StackChange:
    """One step in the life of a release: its ``state`` from ``time`` on, by whom, and why if somebody said so."""

    time: int
    state: StackState
    retire_at: int | None
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Host:
    """An enrolled host: keys as TPMT_PUBLIC, times in Unix seconds, and what its last accepted quote showed."""

    host_id: bytes
    ek_public: bytes
    ak_public: bytes
    ek_class: EkClass
    enrolled_at: int
    revoked_at: int | None = None
    revoked_reason: str | None = None
    last: LastSeen | None = None
    last_time: int | None = None
    runtime: RuntimeSeen | None = None
    runtime_state: RuntimeState | None = None

    @property
    def revoked(self) -> bool:
        """Whether an operator withdrew this host (clause A5)."""
        return self.revoked_at is not None


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """A profile as it was added: ``id`` is the SHA-256 of ``document``."""

    id: bytes
    document: bytes
    name: str
    added_at: int
    published: bool = False


@dataclass(frozen=True, slots=True)
class StackInfo:
    """A stack release without its content: ``digest`` is the SHA-256 of the document, ``endorsed_by`` has key ids.

    ``activated_at`` is when it was active for the first time, None for a release that never was.
    """

    digest: bytes
    name: str
    version: str
    serial: int
    state: StackState
    retire_at: int | None
    added_at: int
    endorsed_by: frozenset[str]
    pool: str = field(default="default", kw_only=True)
    channel: str = field(default="stable", kw_only=True)
    activated_at: int | None = field(default=None, kw_only=True)

    @property
    def label(self) -> str:
        """Name and version for people, and pool and channel unless they are the ordinary ones."""
        place = "" if (self.pool, self.channel) == ("default", "stable") else f" ({self.pool}/{self.channel})"
        return f"{self.name} {self.version}{place}"


@dataclass(frozen=True, slots=True)
class StackRow(StackInfo):
    """A stack release as it was added: the document, and the DSSE envelope it came in unless nobody endorsed it."""

    document: bytes
    envelope: bytes | None


@dataclass(frozen=True, slots=True)
class WitnessRow:
    """A witness of the log: its verifier key, where to ask it, and the newest size that it cosigned."""

    key: str
    url: str
    seen_size: int
    added_at: int


def anchor_row(row: Row[Any]) -> AnchorRow:
    """The trust anchor that ``row`` of the table ``anchors`` holds."""
    anchor = TrustAnchor(certificate_der=row.certificate, ek_class=EkClass(row.ek_class), label=row.label)
    return AnchorRow(row.fingerprint, anchor, row.added_at)


def pin_row(row: Row[Any]) -> EkPin:
    """The pin that ``row`` of the table ``ek_pins`` holds."""
    return EkPin(row.host_id, row.ek_public, EkClass(row.ek_class), row.label, row.added_at)


def host_row(row: Row[Any]) -> Host:
    """The host that ``row`` of ``hosts`` joined with both tables of what was seen holds."""
    return Host(
        host_id=row.host_id,
        ek_public=row.ek_public,
        ak_public=row.ak_public,
        ek_class=EkClass(row.ek_class),
        enrolled_at=row.enrolled_at,
        revoked_at=row.revoked_at,
        revoked_reason=row.revoked_reason,
        last=_last(row),
        last_time=row.last_time,
        runtime=_runtime(row),
        runtime_state=RuntimeState.parse(row.runtime_state) if row.runtime_state is not None else None,
    )


def stack_info(row: Row[Any], endorsed_by: frozenset[str]) -> StackInfo:
    """What ``row`` of the table ``stacks`` says about a release."""
    return StackInfo(**_stack(row, endorsed_by))


def stack_row(row: Row[Any], endorsed_by: frozenset[str]) -> StackRow:
    """The release that ``row`` of the table ``stacks`` holds."""
    return StackRow(**_stack(row, endorsed_by), document=row.document, envelope=row.envelope)


def _stack(row: Row[Any], endorsed_by: frozenset[str]) -> dict[str, Any]:
    names = ("digest", "name", "version", "serial", "retire_at", "added_at", "pool", "channel", "activated_at")
    fields = {name: getattr(row, name) for name in names}
    return fields | {"state": StackState(row.state), "endorsed_by": endorsed_by}


def _last(row: Row[Any]) -> LastSeen | None:
    if row.last_time is None:
        return None
    return LastSeen(
        reset_count=row.last_reset_count,
        restart_count=row.last_restart_count,
        clock=row.last_clock,
        safe=bool(row.last_safe),
    )


def _runtime(row: Row[Any]) -> RuntimeSeen | None:
    if row.runtime_entries is None:
        return None
    return RuntimeSeen(
        reset_count=row.runtime_reset_count, entries=row.runtime_entries, aggregate=row.runtime_aggregate
    )
