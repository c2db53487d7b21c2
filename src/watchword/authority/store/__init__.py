"""What the authority remembers, in one SQLite file: who enrolled, what is allowed, every decision in order."""

from watchword.authority.store.chain import Decision
from watchword.authority.store.rows import (
    AnchorRow,
    BundleRow,
    CrlRow,
    EkPin,
    EndorserRow,
    Host,
    ProfileRow,
    StackInfo,
    StackRow,
    StackState,
)
from watchword.authority.store.store import Counts, Head, Store
from watchword.authority.store.transaction import Transaction

__all__ = [
    "AnchorRow",
    "BundleRow",
    "Counts",
    "CrlRow",
    "Decision",
    "EkPin",
    "EndorserRow",
    "Head",
    "Host",
    "ProfileRow",
    "StackInfo",
    "StackRow",
    "StackState",
    "Store",
    "Transaction",
]
