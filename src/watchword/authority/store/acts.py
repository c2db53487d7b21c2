"""Which administrative acts the public log shows in clear: those that change what is believed or allowed.

Anything else, and any detail that is not listed, stays behind the commitment: an act that somebody adds later is
private until it is named here. Operators' names and labels never are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from watchword.wire.log_leaf import MAX_PUBLIC

__all__ = ["public_details", "public_text"]

_FORMAT: Final = "watchword-public-act/1"
_PUBLIC: Final[Mapping[str, tuple[str, ...]]] = {
    "anchor-add": ("ek_class",),
    "anchor-import": ("name", "serial", "anchors", "intermediates"),
    "anchor-remove": (),
    "crl-add": ("issuer", "this_update"),
    "crl-remove": (),
    "endorser-add": (),
    "endorser-remove": (),
    "stack-add": ("name", "version", "endorsed_by"),
    "stack-endorsed": ("name", "version", "endorsed_by"),
    "stack-rule-set": ("pool", "threshold", "keys"),
    "stack-rule-remove": ("pool",),
    "stack-active": ("name", "version"),
    "stack-retiring": ("name", "version", "retire_at"),
    "stack-revoked": ("name", "version"),
    "profile-add": (),
    "keys-rotate-signing": ("from_version",),
    "keys-rotate-sealing": ("from_version",),
    "keys-rotate-log": ("from_version",),
    "keys-rotate-root": ("from_version",),
    "keys-drop-sealing": ("from_version",),
    "epoch-open": ("from_version", "entries", "known_entries", "known_root", "reason"),
    "recovery-resume": ("entries", "root", "reason"),
    "challenges-void": ("forgotten", "reason"),
    "keys-export-root": ("from_version",),
    "witness-add": (),
    "witness-remove": (),
}


def public_text(time: int, act: str, subject: str, details: Mapping[str, Any]) -> bytes:
    """What everybody may read about an act: JSON of at most 16 KiB, or nothing."""
    if act not in _PUBLIC:
        return b""
    shown = {name: details[name] for name in _PUBLIC[act] if name in details}
    text = msgspec.json.encode({"format": _FORMAT, "time": time, "act": act, "subject": subject, "details": shown})
    return (
        text
        if len(text) <= MAX_PUBLIC
        else msgspec.json.encode({"format": _FORMAT, "time": time, "act": act, "subject": subject, "details": {}})
    )


def public_details(act: str) -> tuple[str, ...] | None:
    """The details of an act that everybody may know; None when nobody may know of it."""
    return _PUBLIC.get(act)
