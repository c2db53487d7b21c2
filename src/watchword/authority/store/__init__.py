"""What the authority remembers, in a SQLite file or on PostgreSQL: hosts, what is allowed, every decision in order."""

from watchword.authority.store.events import Audience, Fallen, Page, Webhook
from watchword.authority.store.fleet import FleetFilter, FleetHost
from watchword.authority.store.host_file import HostFile
from watchword.authority.store.record import Decision
from watchword.authority.store.rows import (
    AnchorRow,
    BundleRow,
    CrlRow,
    EkPin,
    EndorserRow,
    Host,
    ProfileRow,
    StackChange,
    StackInfo,
    StackRow,
    StackRule,
    StackState,
    WitnessRow,
)
from watchword.authority.store.store import Counts, Head, Store
from watchword.authority.store.transaction import Transaction
from watchword.authority.store.url import DatabaseUrl
from watchword.authority.store.watch import KeptEvidence, PackedLog, Placement, Renewal

__all__ = [
    "AnchorRow",
    "Audience",
    "BundleRow",
    "Counts",
    "CrlRow",
    "DatabaseUrl",
    "Decision",
    "EkPin",
    "EndorserRow",
    "FleetFilter",
    "FleetHost",
    "Head",
    "Fallen",
    "Host",
    "HostFile",
    "KeptEvidence",
    "PackedLog",
    "Page",
    "Placement",
    "ProfileRow",
    "Renewal",
    "StackChange",
    "StackInfo",
    "StackRow",
    "StackRule",
    "StackState",
    "Store",
    "Transaction",
    "Webhook",
    "WitnessRow",
]
