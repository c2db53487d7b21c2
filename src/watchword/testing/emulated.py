"""A compute host without a computer: an emulated TPM that measured what a recorded boot measured.

A recording (``vectors/boots/<name>/``) has the firmware's event log, the kernel's IMA log and the PCR values that a
real TPM had after them. Replaying both logs into another TPM gives a host with its own EK and AK in the same state;
the result is compared with the recorded values, so a host that came up is a host like the recorded one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from watchword.agent.tpm.client import Tpm
from watchword.errors import UsageError
from watchword.testing.farm import SwTpm
from watchword.wire.ima_log import IMA_PCR, ImaEntry, ImaLog, template_digest
from watchword.wire.tcg_log import EventLog, EventType, pcr0_start
from watchword.wire.tpm.algorithms import Alg, alg_by_name, digest, digest_size
from watchword.wire.tpm.pcr import PcrSelection

__all__ = ["EmulatedHost"]

_PCRS = 24
_MAX_LOCALITY = 3  # a start from locality 4 is an H-CRTM, which no recording of ours has


class EmulatedHost:
    """A host in the state of ``recording``, with copies of its logs that may grow.

    ``tpm`` runs already. Raises UsageError (``recording``) when the recording does not lead to its own PCR values.
    """

    def __init__(self, tpm: SwTpm, recording: Path) -> None:
        self.tpm = tpm
        self.recording = recording
        self.event_log_path = tpm.folder / "eventlog.bin"
        self.ima_log_path = tpm.folder / "ima.bin"
        self._padded: frozenset[Alg] = frozenset()
        self._entries = 0
        self.reboot()

    @property
    def tpm_address(self) -> str:
        """The address for an agent."""
        return self.tpm.address

    def reboot(self, recording: Path | None = None, *, orderly: bool = False) -> None:
        """Boot again, into ``recording`` or into the same as before."""
        self.recording = recording or self.recording
        event_log = EventLog.parse((self.recording / "eventlog.bin").read_bytes())
        ima_log = ImaLog.parse((self.recording / "ima.bin").read_bytes())
        expected = _recorded(self.recording / "pcrs.json")
        locality = pcr0_start(event_log)
        if locality > _MAX_LOCALITY:
            raise UsageError("recording", f"{self.recording.name}: a start from locality {locality} is not emulated")
        self.tpm.reset(orderly=orderly, locality=locality)
        self._padded = frozenset(alg for alg in expected if _is_padded(ima_log, alg, expected[alg].get(IMA_PCR)))
        with self.tpm.client() as tpm:
            banks = _banks(tpm)
            _replay_events(tpm, event_log, banks)
            for entry in ima_log.entries:
                tpm.extend(entry.pcr, {alg: self._ima_digest(entry, alg) for alg in banks})
            self._compare(tpm, {alg: values for alg, values in expected.items() if alg in banks})
        self.event_log_path.write_bytes(event_log.encode())
        self.ima_log_path.write_bytes(ima_log.encode())
        self._entries = len(ima_log.entries)

    def extend(self, pcr: int, event: bytes) -> None:
        """Measure ``event`` into ``pcr`` in every bank and write it into no log."""
        with self.tpm.client() as tpm:
            tpm.extend(pcr, {alg: digest(alg, event) for alg in _banks(tpm)})

    def run_file(self, path: bytes, content: bytes) -> None:
        """A program at ``path`` runs: an ima-ng entry with the SHA-256 of ``content``, in the log and in PCR 10."""
        fields = (b"sha256:\0" + digest(Alg.SHA256, content), path + b"\0")
        data = b"".join(len(field).to_bytes(4, "little") + field for field in fields)
        entry = ImaEntry(self._entries, IMA_PCR, digest(Alg.SHA1, data), "ima-ng", data)
        with self.tpm.client() as tpm:
            tpm.extend(IMA_PCR, {alg: self._ima_digest(entry, alg) for alg in _banks(tpm)})
        with self.ima_log_path.open("ab") as log:
            log.write(ImaLog(20, (entry,)).encode())
        self._entries += 1

    def _ima_digest(self, entry: ImaEntry, alg: Alg) -> bytes:
        if alg in self._padded and not entry.violation:
            return entry.digest.ljust(digest_size(alg), b"\0")
        return template_digest(entry, alg)

    def _compare(self, tpm: Tpm, expected: Mapping[Alg, Mapping[int, bytes]]) -> None:
        """Every recorded PCR of every bank must have come out as recorded."""
        selections = tuple(PcrSelection(alg, tuple(sorted(values))) for alg, values in expected.items())
        found = tpm.read_pcrs(selections)
        for alg, values in expected.items():
            for pcr, value in values.items():
                if found[alg][pcr] != value:
                    raise UsageError(
                        "recording",
                        f"{self.recording.name}: PCR {pcr} ({alg.name}) became {found[alg][pcr].hex()}, "
                        f"recorded is {value.hex()}",
                    )


def _banks(tpm: Tpm) -> tuple[Alg, ...]:
    """The banks that are switched on."""
    return tuple(selection.bank for selection in tpm.banks() if selection.pcrs)


def _recorded(path: Path) -> dict[Alg, dict[int, bytes]]:
    banks: Mapping[str, Mapping[str, str]] = json.loads(path.read_text())
    return {
        alg_by_name(name): {int(pcr): bytes.fromhex(value) for pcr, value in values.items()}
        for name, values in banks.items()
    }


def _replay_events(tpm: Tpm, log: EventLog, banks: tuple[Alg, ...]) -> None:
    for event in log.events:
        digests = {alg: value for alg in banks if (value := event.digest(alg)) is not None}
        if event.type != EventType.NO_ACTION and digests:
            tpm.extend(event.pcr, digests)


def _is_padded(log: ImaLog, alg: Alg, expected: bytes | None) -> bool:
    """Did the recorded kernel extend zero-padded SHA-1 digests in this bank?

    It does when the bank's hash is a module that was not loaded yet (security/integrity/ima/ima_crypto.c).
    """
    if alg is Alg.SHA1 or expected is None:
        return False
    value = bytes(digest_size(alg))
    for entry in log.entries:
        padded = entry.digest.ljust(digest_size(alg), b"\0")
        extended = template_digest(entry, alg) if entry.violation else padded
        value = digest(alg, value, extended) if entry.pcr == IMA_PCR else value
    return value == expected
