"""The stack document of a release, computed from its artifacts.

    release file ─▶ Release ─▶ components (firmware, secure-boot, boot) ─▶ stack document and PCR values

Artifacts are read once each, bounded, relative to the folder of the release file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import msgspec

from watchword.errors import MalformedError, UsageError
from watchword.policy.document import DIGEST_NAMES, digest_name
from watchword.policy.stack import CompiledStack
from watchword.reference.boot.events import Measure, Predicted, pcr_values
from watchword.reference.boot.firmware import disk_and_exit
from watchword.reference.boot.secureboot import SecureBoot, policy
from watchword.reference.boot.sheet import MAX_SHEET_SIZE, Sheet
from watchword.reference.boot.variables import key_database, variable_store
from watchword.reference.boots import Artifacts, boot_events
from watchword.reference.earlier import earlier_releases
from watchword.reference.release_file import Release, boot_name, owner_guid
from watchword.wire.tpm.algorithms import Alg

__all__ = ["Computed", "Progress", "ReadRuntime", "Variant", "compute_stack"]

Progress = Callable[[str, int, int], None]  # what is being done, how many steps are done, and of how many
#: Turns the table [runtime] and the folder of the release file into the runtime part of a stack document.
ReadRuntime = Callable[[Mapping[str, Any], Path], Mapping[str, Any]]

_ALWAYS = (4, 7, 8, 9, 11, 12, 13, 14)  # where nothing is predicted, nothing may be measured
_DISK_PCR = 5
_DISK_BYTES = 1 << 20  # a partition table of the usual size is in the first 17 KiB
_MAX_COMBINATIONS = 256


@dataclass(frozen=True, slots=True)
class Variant:
    """One alternative of a component."""

    name: str
    events: tuple[Predicted, ...]
    locality: int = 0


@dataclass(frozen=True, slots=True)
class Computed:
    """A stack document and what it was made of: variants by component, in the order in which they measure."""

    document: bytes
    components: tuple[tuple[str, tuple[Variant, ...]], ...]
    banks: tuple[Alg, ...]

    def pcrs(self) -> list[dict[str, Any]]:
        """For each choice of variants the predicted PCR values, bank to PCR to hex. PCR 0 to 7 without sheets: none."""
        choices = list(product(*(variants for _, variants in self.components)))[:_MAX_COMBINATIONS]
        return [
            {
                "variants": {name: v.name for (name, _), v in zip(self.components, choice, strict=True)},
                "pcrs": {digest_name(bank): _values(choice, bank) for bank in self.banks},
            }
            for choice in choices
        ]


def _values(choice: tuple[Variant, ...], bank: Alg) -> dict[str, str]:
    events = [event for variant in choice for event in variant.events]
    values = pcr_values(events, bank, max(variant.locality for variant in choice))
    return {str(pcr): value.hex() for pcr, value in values.items()}


def compute_stack(
    release: Release, folder: Path, *, read_runtime: ReadRuntime | None = None, progress: Progress = lambda *_: None
) -> Computed:
    """Compute the stack of ``release``, whose artifacts are below ``folder``.

    Raises UsageError or MalformedError, both with the name of the artifact that is wrong.
    """
    if release.runtime is not None and read_runtime is None:
        raise UsageError("release-runtime", "[runtime] cannot be measured by this version", hint="leave it out")
    artifacts, banks = Artifacts(folder), tuple(DIGEST_NAMES[name] for name in release.banks)
    measure = Measure(banks)
    steps = len(release.boot) + 2
    progress("firmware", 0, steps)
    components: list[tuple[str, tuple[Variant, ...]]] = []
    if release.firmware is not None:
        components.append(("firmware", _firmware(release, artifacts, banks)))
    state = _secure_boot(release, artifacts)
    components.append(("secure-boot", (Variant(release.secure_boot.state, tuple(policy(measure, state))),)))
    boots = []
    for i in range(len(release.boot)):
        name = boot_name(release, i)
        progress(name, 1 + i, steps)
        boots.append(Variant(name, tuple(boot_events(measure, release.boot[i], state, artifacts))))
    components.append(("boot", tuple(boots)))
    if release.disk is not None:
        part = artifacts.named(release.disk, lambda data: disk_and_exit(measure, data), limit=_DISK_BYTES, part=True)
        components.append(("disk", (Variant("disk", tuple(part)),)))
    superseded = earlier_releases(release, artifacts)
    progress("files", steps - 1, steps)
    runtime = read_runtime(release.runtime, folder) if release.runtime is not None and read_runtime else None
    progress("done", steps, steps)
    return Computed(_document(release, components, superseded, runtime), tuple(components), banks)


def _firmware(release: Release, artifacts: Artifacts, banks: tuple[Alg, ...]) -> tuple[Variant, ...]:
    assert release.firmware is not None
    sheets = [artifacts.named(name, Sheet.parse, limit=MAX_SHEET_SIZE) for name in release.firmware.sheets]
    for name, sheet in zip(release.firmware.sheets, sheets, strict=True):
        if sheet.pcrs != sheets[0].pcrs:
            raise UsageError("release-sheets", f"{name}: it is about other PCRs than {release.firmware.sheets[0]}")
        if {*_ALWAYS, _DISK_PCR} & set(sheet.pcrs):
            raise UsageError("release-sheets", f"{name}: it has PCRs that are computed from the release")
    return tuple(Variant(sheet.name, sheet.in_banks(banks), sheet.locality) for sheet in sheets)


def _secure_boot(release: Release, artifacts: Artifacts) -> SecureBoot:
    table = release.secure_boot
    if table.variables is not None:
        databases = artifacts.named(table.variables, variable_store)
    else:
        owner = owner_guid(table)
        databases = {
            name: b"".join(artifacts.named(file, lambda data: key_database([data], owner)) for file in files)
            for name, files in table.lists().items()
        }
    if table.state == "on" and not {"PK", "KEK", "db"} <= set(databases):
        missing = sorted({"PK", "KEK", "db"} - set(databases))
        raise UsageError("secure-boot", f"{table.variables}: no {missing[0]}, so Secure Boot cannot be on")
    return SecureBoot(table.state == "on", databases)


def _document(
    release: Release,
    components: list[tuple[str, tuple[Variant, ...]]],
    superseded: tuple[str, ...],
    runtime: Mapping[str, Any] | None,
) -> bytes:
    touched = {event.pcr for _, variants in components for v in variants for event in v.events}
    document: dict[str, Any] = {
        "format": "watchword-stack/1",
        "name": release.name,
        "version": release.version,
        "serial": release.serial,
        "origin": "computed",
        "pool": release.pool,
        "channel": release.channel,
        "pcrs": sorted(touched | set(_ALWAYS)),
        "components": [
            {"name": name, "variants": [{"name": v.name, "events": [_event(e) for e in v.events]} for v in variants]}
            for name, variants in components
        ],
    }
    optional = {
        "issued": release.issued,
        "not_before": release.not_before,
        "not_after": release.not_after,
        "supersedes": superseded or None,
        "known_bad": release.known_bad or None,
        "runtime": runtime,
    }
    document |= {key: value for key, value in optional.items() if value is not None}
    data = msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
    try:
        CompiledStack.parse(data)  # what we write must be what we read
    except MalformedError as error:
        raise UsageError("release-stack", f"the release makes no valid stack: {error.message}") from error
    return data


def _event(event: Predicted) -> dict[str, Any]:
    note = "".join(c if c.isprintable() else " " for c in event.note)[:200]
    digests = {digest_name(bank): value.hex() for bank, value in event.digests.items()}
    line = {} if event.command_line is None else {"command_line": event.command_line}
    return {"pcr": event.pcr, "digests": digests, "note": note, **line}
