"""Hosts with logs of a wanted size: boot logs that differ from host to host, runtime logs that grow.

What is made is authentic: digests fit data, the quoted values fit the logs, and a stack lists what it allows. Each host
has boot options of its own in PCR 1, which no stack covers, as real ones have.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from bench.parts import BOOTS
from watchword.testing.logs import boot_aggregate, boot_event, event_log, measured, variable
from watchword.testing.replayed import Recording, ReplayedHost
from watchword.wire import tcg_log
from watchword.wire.ima_log import IMA_PCR, ImaEntry, ImaLog, encode_entry, template_digest
from watchword.wire.messages import AttestRequest, Challenge
from watchword.wire.tcg_log import Event, EventLog, EventType
from watchword.wire.tpm.algorithms import Alg, digest

__all__ = ["GrowingHost", "boot_of", "paths", "programs", "write_boot"]

_BANKS = (Alg.SHA1, Alg.SHA256)
_OPTION = 300  # bytes of a boot option: a name, a device path, a file
_GOOD = BOOTS / "good"


def paths(count: int) -> list[bytes]:
    """So many names of files, as long as those of a distribution are on average."""
    return [b"/usr/lib/python3/dist-packages/a%03d/some_module_%06d.so" % (n % 997, n) for n in range(count)]


def programs(names: Sequence[bytes]) -> list[ImaEntry]:
    """That these files ran, each with a content of its own."""
    return [measured(name, name) for name in names]


def write_boot(folder: Path, files: int) -> Path:
    """The recorded boot in ``folder``, its image having ``files`` more files: what a stack is made of."""
    folder.mkdir()
    listed = json.loads((_GOOD / "files.json").read_text())
    listed |= {name.decode(): f"sha256:{digest(Alg.SHA256, name).hex()}" for name in paths(files)}
    (folder / "files.json").write_text(json.dumps(listed))
    for name in ("eventlog.bin", "pcrs.json", "ima.bin"):
        (folder / name).write_bytes((_GOOD / name).read_bytes())
    return folder


@cache
def _recorded() -> tuple[EventLog, ImaLog]:
    log = EventLog.parse((_GOOD / "eventlog.bin").read_bytes())
    return log, ImaLog.parse((_GOOD / "ima.bin").read_bytes())


def boot_of(size: int) -> Recording:
    """The recorded boot of one more host, its boot log of ``size`` bytes or a little more."""
    recorded, runtime = _recorded()
    events = [
        replace(event, digests=tuple((a, d) for a, d in event.digests if a in _BANKS)) for event in recorded.events
    ]
    place = next(n for n, event in enumerate(events) if event.type == EventType.SEPARATOR)
    missing = size - len(event_log(events).encode())
    one = len(event_log([*events, _option(0)]).encode()) - len(event_log(events).encode())
    events[place:place] = [_option(n) for n in range(max(1, -(-missing // one)))]
    log = event_log(events)
    values = tcg_log.replay(log, Alg.SHA256)
    entries = [boot_aggregate(values), *runtime.entries[1:]]
    pcrs = {pcr: values.get(pcr, bytes(32)) for pcr in range(24)} | {IMA_PCR: _chain(bytes(32), entries)}
    return Recording({Alg.SHA256: pcrs}, log.encode(), b"".join(map(encode_entry, entries)))


def _option(number: int) -> Event:
    data = os.urandom(_OPTION)
    return boot_event(1, EventType.EFI_VARIABLE_BOOT, variable(f"Boot{number:04X}", data), hashed=data, banks=_BANKS)


def _chain(value: bytes, entries: Sequence[ImaEntry]) -> bytes:
    for entry in entries:
        value = digest(Alg.SHA256, value + template_digest(entry, Alg.SHA256))
    return value


@dataclass
class GrowingHost(ReplayedHost):
    """A host whose runtime log grows; it sends what the authority does not have."""

    _entries: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        log = ImaLog.parse(self.recording.runtime_log)
        self._entries = [encode_entry(entry) for entry in log.entries]

    def run(self, entries: Sequence[ImaEntry]) -> None:
        """These files ran."""
        self._entries += map(encode_entry, entries)
        bank = self.recording.pcrs[Alg.SHA256]
        pcrs = {Alg.SHA256: {**bank, IMA_PCR: _chain(bank[IMA_PCR], entries)}}
        self.recording = replace(self.recording, pcrs=pcrs, runtime_log=b"".join(self._entries))

    def attest_request(self, challenge: Challenge) -> tuple[AttestRequest, bytes]:
        """As of any host, with the entries that came since."""
        request, key = super().attest_request(challenge)
        if not challenge.ima_from:
            return request, key
        part = b"".join(self._entries[challenge.ima_from :])
        return AttestRequest(replace(request.evidence, ima_log=part)), key
