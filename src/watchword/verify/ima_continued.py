"""Clause D3 for entries in other PCRs than 10: a kernel may be told to measure into one that the boot used as well.

Firmware and boot loader measure first, the kernel's IMA after them, so such a PCR has the value that the boot log leads
to, extended by the entries of that PCR. Nothing is tried in any other order: where boot events and entries mixed, the
log is refused. Kernel and TPM take one entry at a time, so the entries of all PCRs have one order too: all that stand
before the last one that PCR 10 proves were made before it, and what follows counts up to the next one of PCR 10.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TypeAlias

from watchword.errors import Finding, Rejected
from watchword.verify.ima_replay import Extension, Prefix, extension_for
from watchword.verify.runtime_file import IN_PCR_10
from watchword.wire.ima_log import IMA_PCR, ImaLog
from watchword.wire.tpm.algorithms import HASHES, Alg, hasher
from watchword.wire.tpm.pcr import PcrValues

__all__ = ["Continued", "continued_pcrs", "find_end"]

#: By bank and PCR: the value that the boot log leads to, from where the runtime log goes on.
Continued: TypeAlias = Mapping[Alg, Mapping[int, bytes]]
_le32 = struct.Struct("<I").unpack_from


def continued_pcrs(log: ImaLog) -> frozenset[int]:
    """The PCRs besides 10 that ``log`` has entries of."""
    columns = log.columns
    heads = {raw[:4] for raw, known in zip(columns.raws, columns.extends, strict=True) if known is None}
    return frozenset(_le32(head)[0] for head in heads) - {IMA_PCR}


def find_end(log: ImaLog, start: int, found: Prefix, continued: Continued, quoted: PcrValues) -> int:
    """How many entries of the log lead to the quoted values of all these PCRs, and of PCR 10, which ``found`` proves.

    ``log`` begins at entry ``start``; none before it may be of another PCR than 10. What the entries extend by that are
    not in ``found`` already is put there. Raises Rejected (``runtime-log-replay``).
    """
    values = {(bank, pcr): value for bank, pcrs in continued.items() for pcr, value in pcrs.items()}
    wanted = {(bank, pcr): quoted[bank][pcr] for bank, pcr in values}
    extensions = {bank: extension_for(log, bank, padded=bool(found.findings)) for bank in continued}
    raws, proven = log.columns.raws, found.entries - start
    for index, raw in enumerate(raws):
        if index >= proven and (values == wanted or raw.startswith(IN_PCR_10)):
            return _checked(start + index, values, wanted)
        if not raw.startswith(IN_PCR_10):
            found.computed.setdefault(start + index, b"")
            _extend(values, raw, start + index, extensions)
    return _checked(start + len(raws), values, wanted)


def _extend(values: dict[tuple[Alg, int], bytes], raw: bytes, number: int, extensions: Mapping[Alg, Extension]) -> None:
    for bank, extension in extensions.items():
        place = (bank, _le32(raw)[0])
        if place in values:
            values[place] = hasher(bank)(values[place] + extension(raw, number)).digest()


def _checked(end: int, values: Mapping[tuple[Alg, int], bytes], wanted: Mapping[tuple[Alg, int], bytes]) -> int:
    for (bank, pcr), value in sorted(values.items()):
        if value != wanted[bank, pcr]:
            text = f"boot log and runtime log together do not lead to the quoted PCR {pcr}"
            where = f"pcr {pcr} ({HASHES[bank]})"
            raise Rejected(Finding("D3", "runtime-log-replay", text, wanted[bank, pcr].hex(), value.hex(), where))
    return end
