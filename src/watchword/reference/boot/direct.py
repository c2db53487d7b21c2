"""PCR 4 and 9: QEMU's ``-kernel`` with OVMF.

QEMU writes into the kernel's header before OVMF sees it: its own loader type, where it would put the command line and
the heap, and the place and size of the initrd, which depend on the machine's memory. The digest of the kernel's
program moves with all of them.

Source: QEMU 7.2, hw/i386/x86.c (x86_load_linux) and hw/i386/pc_q35.c; EDK2, OvmfPkg/Library/X86QemuLoadImageLib;
Linux, Documentation/x86/boot.rst. Compared with QEMU 7.2 and machines of type q35.
"""

from __future__ import annotations

import struct

from watchword.errors import MalformedError, UsageError
from watchword.reference.boot.events import Measure, Predicted
from watchword.reference.boot.linux import check_kernel, stub_events
from watchword.wire.pe import PeImage

__all__ = ["direct_boot", "patched"]

_ACPI = 0x28000  # bytes below the end of low memory that QEMU keeps for ACPI tables
_PAGE = 4096
_COMMAND_LINE, _HEAP = 0x20000, 0x10000
_QEMU = 0xB0  # type_of_loader
_CAN_USE_HEAP = 0x80
_ABOVE_4G = 0x02  # XLF_CAN_BE_LOADED_ABOVE_4G
_SPLIT, _LOW = 0xB0000000, 0x80000000  # with so much memory, q35 puts what is beyond the second above 4 GiB


def patched(kernel: bytes, initrd_size: int | None, memory: int) -> bytes:
    """``kernel`` as QEMU hands it to OVMF on a q35 machine of ``memory`` bytes. Raises MalformedError, UsageError."""
    check_kernel(kernel)
    if len(kernel) < 0x268:
        raise MalformedError("kernel: not a bzImage: it is cut short")
    protocol = int.from_bytes(kernel[0x206:0x208], "little")
    if protocol < 0x20C or not kernel[0x211] & 0x01:
        raise UsageError("boot-unknown", f"a kernel of boot protocol {protocol:#x}, or one that is not loaded high")
    header = bytearray(kernel)
    header[0x210] = _QEMU
    header[0x211] |= _CAN_USE_HEAP
    struct.pack_into("<H", header, 0x224, _COMMAND_LINE - _HEAP - 0x200)
    struct.pack_into("<I", header, 0x228, _COMMAND_LINE)
    if initrd_size is not None:
        struct.pack_into("<II", header, 0x218, _initrd_place(kernel, initrd_size, memory), initrd_size)
    return bytes(header)


def _initrd_place(kernel: bytes, size: int, memory: int) -> int:
    low = _LOW if memory >= _SPLIT else memory
    above = kernel[0x236] & _ABOVE_4G
    limit = 0xFFFFFFFF if above else int.from_bytes(kernel[0x22C:0x230], "little")
    limit = min(limit, low - _ACPI - 1)
    if size >= limit:
        raise UsageError("boot-unknown", f"the initrd of {size} bytes does not fit a machine of {memory} bytes")
    return (limit - size) & ~(_PAGE - 1)


def direct_boot(
    measure: Measure, kernel: bytes, initrd: bytes | None, command: str, memory: int
) -> tuple[Predicted, list[Predicted]]:
    """The event of the kernel, which comes before anything else in PCR 4, and the events after it."""
    program = PeImage.parse(patched(kernel, None if initrd is None else len(initrd), memory))
    options = command if initrd is None else f"{command} initrd=initrd"
    note = f"kernel, as QEMU changes it for {memory >> 20} MiB of memory"
    return measure.program(program, note), stub_events(measure, options, initrd)
