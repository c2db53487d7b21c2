"""PCR 4 and 5: what firmware itself measures around the programs that it starts.

Source: PFP 1.06, sections 3.3.4.5 and 3.3.4.6; compared with OVMF 2022.11.
"""

from __future__ import annotations

import struct

from watchword.errors import MalformedError
from watchword.reference.boot.events import Measure, Predicted
from watchword.wire.reader import Reader

__all__ = ["before_boot", "boot_attempt", "disk_and_exit"]

_SEPARATOR = bytes(4)
_CALLING = b"Calling EFI Application from Boot Option"
_EXITING = (b"Exit Boot Services Invocation", b"Exit Boot Services Returned with Success")
_SECTOR = 512
_HEADER = 92
_ENTRY = 128
_MAX_ENTRIES = 1024


def boot_attempt(measure: Measure) -> list[Predicted]:
    """PCR 4 when firmware starts the boot option: the attempt, then the end of what firmware measures."""
    return [measure.data(4, _CALLING, _CALLING.decode()), measure.data(4, _SEPARATOR, "separator")]


def before_boot(measure: Measure, pcr: int) -> Predicted:
    """The separator in ``pcr``."""
    return measure.data(pcr, _SEPARATOR, "separator")


def disk_and_exit(measure: Measure, disk: bytes) -> list[Predicted]:
    """PCR 5: the separator, the partition table of ``disk`` (its first bytes are enough), leaving boot services."""
    table = measure.data(5, gpt_event(disk), "partition table of the disk that is booted from")
    return [before_boot(measure, 5), table, *(measure.data(5, text, text.decode()) for text in _EXITING)]


def gpt_event(disk: bytes) -> bytes:
    """UEFI_GPT_DATA of a disk with sectors of 512 bytes: header, number and content of the used entries (PFP 10.2.4).

    Raises MalformedError.
    """
    header = Reader(disk[_SECTOR : _SECTOR + _HEADER], "partition table")
    whole = header.take(_HEADER)
    if whole[:8] != b"EFI PART":
        raise MalformedError("partition table: no GPT header in the second sector of 512 bytes")
    start, count, size = struct.unpack_from("<QII", whole, 72)
    if size != _ENTRY or count > _MAX_ENTRIES:
        raise MalformedError(f"partition table: {count} entries of {size} bytes")
    if start * _SECTOR + count * size > len(disk):
        raise MalformedError("partition table: its entries lie beyond the end")
    entries = [disk[at : at + size] for at in range(start * _SECTOR, start * _SECTOR + count * size, size)]
    used = [entry for entry in entries if any(entry[:16])]
    return whole + struct.pack("<Q", len(used)) + b"".join(used)
