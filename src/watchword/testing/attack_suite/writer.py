"""Scenarios to files: one JSON document each, logs beside them and each of them once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from watchword.conformance.scenario import Blob, Scenario

__all__ = ["write"]


def write(folder: Path, scenarios: Sequence[Scenario]) -> None:
    """Write all of them into ``folder`` and remove what an earlier run left there."""
    blobs = folder / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.json"), *blobs.iterdir()):
        old.unlink()
    for scenario in scenarios:
        document = msgspec.to_builtins(_with_references(scenario, blobs))
        text = json.dumps(document, indent=1, ensure_ascii=True)
        (folder / f"{scenario.name}.json").write_text(text + "\n")


def _with_references(scenario: Scenario, blobs: Path) -> Scenario:
    evidence = scenario.inputs.evidence
    if evidence is None:
        return scenario
    logs = {name: _stored(getattr(evidence, name), blobs) for name in ("event_log", "ima_log")}
    return replace(scenario, inputs=replace(scenario.inputs, evidence=replace(evidence, **logs)))


def _stored(log: bytes | Blob | None, blobs: Path) -> bytes | Blob | None:
    if not isinstance(log, bytes) or not log:
        return log
    name = hashlib.sha256(log).hexdigest()
    (blobs / name).write_bytes(log)
    return Blob(sha256=name)
