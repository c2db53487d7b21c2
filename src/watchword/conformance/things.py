"""In which one thing an attack may differ from its control, and which inputs belong to that thing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from watchword.conformance.scenario import Inputs

__all__ = ["THINGS", "differences"]

_QUOTE = frozenset({"evidence.attest", "evidence.signature"})
_QUOTED = _QUOTE | {"evidence.pcrs"}

#: Thing -> paths below ``inputs``. What a machine really measured is in a log, in the PCRs and under the quote.
THINGS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "time": frozenset({"time"}),
        "classes": frozenset({"classes"}),
        "pins": frozenset({"pins"}),
        "ek-certificate": frozenset({"ek.certificate", "ek.intermediates"}),
        "ek-template": frozenset({"ek.template"}),
        "ek-public": frozenset({"ek.public", "pins"}),
        "ek": frozenset({"ek.certificate", "ek.intermediates", "credential"}),
        "ak": frozenset({"ak_public", "credential"}) | _QUOTE,
        "qualifying-data": frozenset({"request.qualifying_data"}),
        "selection": frozenset({"request.selection", "request.bank"}) | _QUOTED,
        "last-seen": frozenset({"request.last_seen"}),
        "runtime-seen": frozenset({"request.runtime_seen"}),
        "firmware-allowed": frozenset({"request.firmware_allowed"}),
        "attest": frozenset({"evidence.attest"}),
        "signature": frozenset({"evidence.signature"}),
        "quote": _QUOTE,
        "pcrs": frozenset({"evidence.pcrs"}),
        "event-log": frozenset({"evidence.event_log"}),
        "ima-log": frozenset({"evidence.ima_log"}),
        "boot": _QUOTED | {"evidence.event_log"},
        "runtime": _QUOTED | {"evidence.ima_log"},
    }
)
_PARTS = ("ek", "request", "evidence")


def differences(one: Inputs, other: Inputs) -> frozenset[str]:
    """The paths at which two inputs are not the same."""
    left, right = _flat(one), _flat(other)
    return frozenset(path for path in left.keys() | right.keys() if left.get(path) != right.get(path))


def _flat(inputs: Inputs) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in msgspec.to_builtins(inputs).items():
        parts = value if name in _PARTS and value else None
        flat |= {f"{name}.{part}": each for part, each in parts.items()} if parts else {name: value}
    return flat
