"""One measured event: which part of its data its digest proves, and what it says in words.

Firmware and boot loaders hash different things. These are the ties (clause C3), each seen on real machines:

    the whole data                          variables, separators, actions, GPT, tagged events, post codes
    the content of the variable, no name    EV_EFI_VARIABLE_BOOT (PFP 10.4.1)
    the variable and a few stray bytes      EV_EFI_VARIABLE_AUTHORITY of old shims: all but the last byte is hashed
    the text after its label                EV_IPL of GRUB: "grub_cmd: ", "kernel_cmdline: ", "module_cmdline: "
    the text without its NUL                EV_IPL, actions and post codes of some firmware

A program (EV_EFI_BOOT_SERVICES_APPLICATION, …) or a blob is hashed itself: its event only says where it came from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from watchword.errors import MalformedError
from watchword.wire.tcg_log import Event, EventType
from watchword.wire.tpm.algorithms import Alg, hasher
from watchword.wire.uefi import GptEvent, ImageLoad, LoadOption, UefiVariable, device_path_text

__all__ = ["BootEvent", "describe", "labelled", "measured_part"]

_T = EventType
_LABELS: Final = (b"grub_cmd: ", b"kernel_cmdline: ", b"module_cmdline: ")
_TEXTS: Final = frozenset({_T.IPL, _T.ACTION, _T.EFI_ACTION, _T.POST_CODE, _T.COMPACT_HASH})
_VARIABLE_HEAD: Final = 32  # GUID, size of the name, size of the content
_STRAY: Final = 8  # bytes: what rounding up the size of a structure may add
_SHOWN: Final = 200  # characters of a description
_LOOKED_AT: Final = 4 * _SHOWN  # bytes of a text, since it may be megabytes long


@dataclass(frozen=True, slots=True)
class BootEvent:
    """A measured event of one bank. ``measured`` is the part of ``data`` that ``digest`` proves, None when untied."""

    index: int
    pcr: int
    type: int
    digest: bytes
    data: bytes
    measured: bytes | None

    @property
    def tied(self) -> bool:
        """Whether the digest proves (some of) the data. What is not tied is never a fact."""
        return self.measured is not None

    @property
    def type_name(self) -> str:
        """ "EV_SEPARATOR", or the number of a type that we have no name for."""
        try:
            return f"EV_{_T(self.type).name}"
        except ValueError:
            return f"{self.type:#x}"

    @property
    def text(self) -> str:
        """One printable line about it, for people."""
        return describe(self.type, self.data)


def measured_part(event: Event, value: bytes, bank: Alg) -> bytes | None:
    """The part of the event's data that digest ``value`` proves; None when it does not prove any."""
    new = hasher(bank)
    if new(event.data).digest() == value:
        return event.data
    for hashed, part in _candidates(event.type, event.data):
        if new(hashed).digest() == value:
            return part
    return None


def _candidates(type_: int, data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """What may have been hashed instead of the whole data, and what of it is meant."""
    if type_ == _T.EFI_VARIABLE_BOOT:
        start, stop = _variable_bounds(data)
        if stop <= len(data):
            yield data[start:stop], data[start:stop]
    elif type_ == _T.EFI_VARIABLE_AUTHORITY:
        stop = _variable_bounds(data)[1]
        if stop < len(data) <= stop + _STRAY:
            yield data[:-1], data[:stop]
    elif type_ in _TEXTS:
        text = data.removesuffix(b"\0")
        if len(text) < len(data):
            yield text, text
        for label in _LABELS:
            if text.startswith(label):
                yield text[len(label) :], text[len(label) :]


def labelled(type_: int, data: bytes) -> bool:
    """Whether this is a line of GRUB's, which is always measured as it is logged."""
    return type_ == _T.IPL and data.startswith(_LABELS)


def _variable_bounds(data: bytes) -> tuple[int, int]:
    """Where the content of a UEFI_VARIABLE_DATA starts and stops, by its own sizes."""
    if len(data) < _VARIABLE_HEAD:
        return 0, len(data) + 1
    start = _VARIABLE_HEAD + 2 * int.from_bytes(data[16:24], "little")
    return start, start + int.from_bytes(data[24:32], "little")


def describe(type_: int, data: bytes) -> str:
    """One printable line about event data, whether it is true or not."""
    try:
        text = _describe(type_, data)
    except MalformedError as error:
        text = f"({error})"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:_SHOWN])


def _describe(type_: int, data: bytes) -> str:
    match type_:
        case _T.EFI_VARIABLE_DRIVER_CONFIG | _T.EFI_VARIABLE_AUTHORITY | _T.EFI_VARIABLE_BOOT | _T.EFI_VARIABLE_BOOT2:
            start, stop = _variable_bounds(data)
            variable = UefiVariable.parse(data[: max(stop, start)])
            return f"{variable.name}: {_variable_text(variable)}"
        case _T.EFI_BOOT_SERVICES_APPLICATION | _T.EFI_BOOT_SERVICES_DRIVER | _T.EFI_RUNTIME_SERVICES_DRIVER:
            return device_path_text(ImageLoad.parse(data).device_path) or "(no path)"
        case _T.EFI_GPT_EVENT | _T.EFI_GPT_EVENT2:
            gpt = GptEvent.parse(data)
            return f"disk {gpt.disk}, {len(gpt.partitions)} partitions"
        case _T.S_CRTM_VERSION:
            return data[:_LOOKED_AT].decode("utf-16-le", "backslashreplace").rstrip("\0")
        case _ if type_ in _TEXTS or type_ == _T.EFI_HCRTM_EVENT:
            data = data[:_LOOKED_AT]
            wide = len(data) >= 4 and len(data) % 2 == 0 and data[1] == data[3] == 0
            return data.decode("utf-16-le" if wide else "utf-8", "backslashreplace").rstrip("\0")
        case _:
            return data[:64].hex()


def _variable_text(variable: UefiVariable) -> str:
    if variable.name.startswith("Boot") and len(variable.name) == 8:
        option = LoadOption.parse(variable.data)
        return f"{option.description} {device_path_text(option.device_path)}"
    return variable.data.hex() if len(variable.data) <= 32 else f"{len(variable.data)} bytes"
