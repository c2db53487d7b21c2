"""PCR selections and the digest that a quote signs (TPM 2.0 Part 2, 10.6 and 10.9.7; Part 1, 17.5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

from watchword.errors import MalformedError
from watchword.wire.reader import Reader, Writer
from watchword.wire.tpm.algorithms import Alg, digest_size, hash_name, hasher, read_hash

__all__ = [
    "MAX_PCR",
    "MAX_SELECTIONS",
    "PcrSelection",
    "PcrValues",
    "Selections",
    "encode_selections",
    "parse_selections",
    "pcr_digest",
    "selected_values",
]

MAX_PCR = 31  # four selection bytes, the most any platform profile uses
MAX_SELECTIONS = 16  # HASH_COUNT of the reference implementation
_STANDARD_SIZE = 3  # PCR_SELECT_MIN of the PC client profile


@dataclass(frozen=True, slots=True)
class PcrSelection:
    """TPMS_PCR_SELECTION: the PCRs of one bank.

    ``pcrs`` is ascending and without repetition, each 0..31. ``size`` is the number of bytes of the bit map
    on the wire (0..4); two selections of the same PCRs are equal whatever it is. Raises MalformedError when they
    do not fit.
    """

    bank: Alg
    pcrs: tuple[int, ...]
    size: int = field(default=_STANDARD_SIZE, compare=False)

    def __post_init__(self) -> None:
        digest_size(self.bank)
        if not 0 <= self.size <= 4:
            raise MalformedError(f"a PCR bit map of {self.size} bytes; 0 to 4 are allowed")
        previous = -1
        for pcr in self.pcrs:
            if not previous < pcr < 8 * self.size:
                raise MalformedError("PCR numbers are not ascending, or too large for their bit map")
            previous = pcr

    @classmethod
    def read(cls, reader: Reader) -> PcrSelection:
        bank = read_hash(reader)
        size = reader.u8()
        if size > 4:
            raise reader.fail(f"a PCR bit map of {size} bytes; 0 to 4 are allowed")
        return _selection(bank, reader.take(size))

    def encode(self) -> bytes:
        return _encoded(self.bank, self.pcrs, self.size)

    def __str__(self) -> str:
        return f"{hash_name(self.bank)}:{','.join(map(str, self.pcrs))}"


@lru_cache(maxsize=256)
def _selection(bank: Alg, bit_map: bytes) -> PcrSelection:
    """The same few selections arrive with every quote."""
    size, bits = len(bit_map), int.from_bytes(bit_map, "little")
    return PcrSelection(bank, tuple([pcr for pcr in range(8 * size) if bits >> pcr & 1]), size)


@lru_cache(maxsize=256)
def _encoded(bank: Alg, pcrs: tuple[int, ...], size: int) -> bytes:
    bits = sum(1 << pcr for pcr in pcrs)
    return Writer().u16(bank).u8(size).raw(bits.to_bytes(size, "little")).done()


Selections: TypeAlias = tuple[PcrSelection, ...]
PcrValues: TypeAlias = Mapping[Alg, Mapping[int, bytes]]


def parse_selections(reader: Reader) -> Selections:
    """Read a TPML_PCR_SELECTION: at most 16 selections. Raises MalformedError."""
    count = reader.u32()
    if count > MAX_SELECTIONS:
        raise reader.fail(f"{count} PCR selections; {MAX_SELECTIONS} are allowed")
    return tuple([PcrSelection.read(reader) for _ in range(count)])


def encode_selections(selections: Selections) -> bytes:
    """The TPML_PCR_SELECTION of ``selections``."""
    return len(selections).to_bytes(4, "big") + b"".join([selection.encode() for selection in selections])


def selected_values(selections: Selections, values: PcrValues) -> list[bytes]:
    """The values of the selected PCRs in the order in which the TPM hashes them.

    Each must have the size of its bank's digest: otherwise bytes could move from one PCR to its neighbour
    without changing the concatenation. Raises MalformedError when a value is missing or has another size.
    """
    found = []
    for selection in selections:
        bank, size = values.get(selection.bank, {}), digest_size(selection.bank)
        for pcr in selection.pcrs:
            value = bank.get(pcr)
            if value is None or len(value) != size:
                problem = "is missing" if value is None else f"has {len(value)} bytes, not {size}"
                raise MalformedError(f"the value of PCR {pcr} in bank {hash_name(selection.bank)} {problem}")
            found.append(value)
    return found


def pcr_digest(alg: Alg, selections: Selections, values: PcrValues) -> bytes:
    """The digest over the selected PCR values, as in TPMS_QUOTE_INFO.

    ``alg`` is the hash of the signing scheme (quote) or of the policy session (PolicyPCR).
    Raises MalformedError.
    """
    result: bytes = hasher(alg)(b"".join(selected_values(selections, values))).digest()
    return result
