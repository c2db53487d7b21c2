"""PCR 9: the EFI stub of the Linux kernel measures its load options and its initrd.

Source: Linux, drivers/firmware/efi/libstub/efi-stub-helper.c; compared with Linux 6.1. The kernel's program itself is
measured by whoever loads it.
"""

from __future__ import annotations

import re

from watchword.errors import MalformedError, UsageError
from watchword.reference.boot.events import Measure, Predicted

__all__ = ["check_kernel", "kernel_version", "stub_events"]

_FIRST = (6, 1)  # older ones measure less, and only this one was looked at on a running machine
_HEADER = 0x202  # "HdrS" of the boot protocol
_SETUP = 0x200
_MAX_VERSION = 256


def kernel_version(kernel: bytes) -> str:
    """What a bzImage says its version is (Linux, Documentation/x86/boot.rst). Raises MalformedError."""
    if kernel[_HEADER : _HEADER + 4] != b"HdrS":
        raise MalformedError("kernel: not a bzImage: there is no boot protocol header")
    start = int.from_bytes(kernel[0x20E:0x210], "little") + _SETUP
    text = kernel[start : start + _MAX_VERSION].partition(b"\0")[0]
    return text.decode("ascii", "replace").partition(" ")[0]


def check_kernel(kernel: bytes) -> str:
    """The version of a kernel whose EFI stub is understood. Raises MalformedError or UsageError."""
    version = kernel_version(kernel)
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < _FIRST:
        raise UsageError("boot-unknown", f"what the EFI stub of Linux {version!r} measures is not known here")
    return version


def stub_events(measure: Measure, options: str, initrd: bytes | None) -> list[Predicted]:
    """``options`` are the load options, which lie in memory as UTF-16 with a NUL; ``initrd`` all of it, or None."""
    found = [measure.command_line(9, options, "command line")]
    if initrd is not None:
        found.append(measure.data(9, initrd, f"initrd, {len(initrd)} bytes"))
    return found
