"""Collects evidence: a quote, the PCR values it covers, and the logs that explain them.

The order matters. The firmware's log never changes after boot. The kernel's log grows all the time, so it is read
*after* the quote: it then holds everything that the quote covers and perhaps a little more (D3 allows a log that runs
ahead, and nothing could allow one that lags behind).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from watchword.agent.tpm.client import Tpm
from watchword.errors import Unavailable
from watchword.wire import ima_log
from watchword.wire.evidence import MAX_EVENT_LOG, MAX_IMA_LOG
from watchword.wire.ima_log import ImaLog
from watchword.wire.tpm.attest import Attest
from watchword.wire.tpm.pcr import PcrValues, Selections

__all__ = ["RUNTIME_PCR", "Measurements", "OnFile", "measure", "read_log"]

RUNTIME_PCR = 10
_CHUNK = 256 * 1024
_RUNTIME = "the kernel's measurement log (IMA)"
_HINT = "Reboot the host, and look at what its measurement policy measures."


@dataclass(frozen=True, slots=True)
class Measurements:
    """``attest`` TPMS_ATTEST and ``signature`` TPMT_SIGNATURE, the ``pcrs`` that they cover, and both binary logs."""

    attest: bytes
    signature: bytes
    pcrs: PcrValues
    event_log: bytes
    ima_log: bytes
    ima_from: int = 0


class OnFile(NamedTuple):
    """What the authority has of the boot with this ``reset_count``: so many ``entries`` of the kernel's log, and the
    firmware's log or not."""

    entries: int = 0
    reset_count: int = 0
    boot_log: bool = False


def measure(
    tpm: Tpm,
    selections: Selections,
    extra_data: bytes,
    *,
    event_log: Path,
    runtime_log: Path,
    on_file: OnFile = OnFile(),  # noqa: B008 - it cannot be changed
) -> Measurements:
    """Quote ``selections`` with ``extra_data`` (at most 64 bytes) and read the logs.

    The kernel's log is read only when PCR 10 is asked for. What is ``on_file`` is left out. Raises
    :class:`Unavailable`: ``tpm-bank`` when the TPM does not have what was selected, ``log-unreadable``, ``log-size``;
    or a TPM error.
    """
    _check_banks(tpm, selections)
    attest, signature, pcrs = tpm.quote_values(selections, extra_data)
    reset_count = Attest.parse(attest).clock_info.reset_count
    firmware = b""
    if not (on_file.boot_log and on_file.reset_count == reset_count):
        firmware = read_log(event_log, "the firmware's event log", MAX_EVENT_LOG)
    asked = any(RUNTIME_PCR in selection.pcrs for selection in selections)
    runtime = read_log(runtime_log, _RUNTIME, ima_log.MAX_LOG) if asked else b""
    ima_from, runtime = _new_part(runtime, on_file, reset_count)
    if len(runtime) > MAX_IMA_LOG:
        raise Unavailable("log-size", f"{_RUNTIME} has {len(runtime)} new bytes, {MAX_IMA_LOG} can be sent", hint=_HINT)
    return Measurements(attest, signature, pcrs, firmware, runtime, ima_from)


def _new_part(log: bytes, on_file: OnFile, reset_count: int) -> tuple[int, bytes]:
    """The entries that the authority does not have, and the number of the first; all of them in another boot."""
    known = on_file.entries
    if not known or on_file.reset_count != reset_count or not log:
        return 0, log
    entries = ImaLog.parse(log).columns.raws
    return (known, b"".join(entries[known:])) if len(entries) >= known else (0, log)


def _check_banks(tpm: Tpm, selections: Selections) -> None:
    """A TPM quotes a bank that it does not have without complaint, as nothing at all: say so before the authority."""
    allocated = {bank.bank: set(bank.pcrs) for bank in tpm.banks()}
    for wanted in selections:
        if not set(wanted.pcrs) <= allocated.get(wanted.bank, set()):
            raise Unavailable(
                "tpm-bank",
                f"this TPM does not have the PCRs that the profile asks for: {wanted}",
                hint="Activate that PCR bank in the firmware setup, or ask for a profile over another bank.",
            )


def read_log(path: Path, what: str, limit: int) -> bytes:
    """The whole of a kernel log file, at most ``limit`` bytes.

    Raises :class:`Unavailable` (``log-unreadable``, ``log-size``).
    """
    data = bytearray()
    try:
        with path.open("rb", buffering=0) as file:
            # Files of securityfs have no size: read until the end.
            while chunk := file.read(_CHUNK):
                data += chunk
                if len(data) > limit:
                    raise Unavailable("log-size", f"{what} is larger than {limit} bytes", hint=_HINT)
    except OSError as error:
        raise Unavailable(
            "log-unreadable",
            f"{what} cannot be read at {path}: {error.strerror}",
            hint="It needs root and a mounted securityfs; the runtime log needs a kernel that measures (IMA).",
        ) from None
    return bytes(data)
