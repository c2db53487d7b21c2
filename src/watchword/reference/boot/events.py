"""One predicted event, and the maker of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from watchword.verify.command_line import command_line_words
from watchword.wire.pe import PeImage
from watchword.wire.tpm.algorithms import Alg, digest, digest_size

__all__ = ["Measure", "Predicted", "pcr_values", "utf16"]


@dataclass(frozen=True, slots=True)
class Predicted:
    """An event that will be in the log: its PCR, its digest in each bank, and a note for people.

    ``command_line`` is the kernel's command line when the event measures it.
    """

    pcr: int
    digests: Mapping[Alg, bytes]
    note: str
    command_line: str | None = None


class Measure:
    """Makes events with a digest in each of ``banks``."""

    def __init__(self, banks: Sequence[Alg]) -> None:
        self.banks = tuple(banks)

    def data(self, pcr: int, data: bytes, note: str) -> Predicted:
        """``data`` is hashed as it is."""
        return Predicted(pcr, {bank: digest(bank, data) for bank in self.banks}, note)

    def command_line(self, pcr: int, text: str, note: str) -> Predicted:
        """The kernel's command line as UEFI load options. A text that a stack cannot state is a digest only."""
        stated = text if text and command_line_words(text) is not None else None
        return replace(self.data(pcr, utf16(text), f"{note}: {text}"), command_line=stated)

    def program(self, image: PeImage, note: str) -> Predicted:
        """An EFI program is loaded: PCR 4, by its Authenticode digest (PFP 3.3.4.5)."""
        return Predicted(4, {bank: image.digest(bank) for bank in self.banks}, note)


def pcr_values(events: Sequence[Predicted], bank: Alg, locality: int = 0) -> dict[int, bytes]:
    """The values that ``events`` extend PCRs to, by PCR; PCR 0 starts from ``locality``, the others from zero."""
    values: dict[int, bytes] = {0: locality.to_bytes(digest_size(bank), "big")}
    for event in events:
        values[event.pcr] = digest(bank, values.get(event.pcr, bytes(digest_size(bank))) + event.digests[bank])
    touched = {event.pcr for event in events}
    return {pcr: values[pcr] for pcr in sorted(touched)}


def utf16(text: str) -> bytes:
    """``text`` as UEFI keeps it: UTF-16, little endian, with its NUL."""
    return text.encode("utf-16-le") + b"\0\0"
