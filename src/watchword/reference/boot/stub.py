"""PCR 11, 12 and 13: systemd's stub in a unified kernel image.

Source: systemd 252, src/boot/efi/stub.c and src/fundamental/tpm-pcr.c. Only that version's stub was compared with
real boots; another one is refused, since later versions measure more sections.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from watchword.errors import MalformedError, UsageError
from watchword.reference.boot.cpio import archive, join
from watchword.reference.boot.events import Measure, Predicted
from watchword.reference.boot.linux import check_kernel, stub_events
from watchword.wire.pe import PeImage

__all__ = ["MEASURED", "Extras", "command_line", "stub_measurements"]

#: In this order, each when it is there and not empty. ``.pcrsig`` is never measured: it signs the result.
MEASURED = (".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".pcrpkey")
_VERSION = "252"
_MAGIC = re.compile(rb"#### LoaderInfo: systemd-stub (\d+)[^#]* ####")
_UNDERSTOOD = frozenset({*MEASURED, ".pcrsig"})
_LATER = frozenset({".ucode", ".uname", ".profile", ".dtbauto", ".hwids", ".efifw"})

Files = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Extras:
    """Files beside the image, (name, content): credentials of the image and of the loader, system extensions."""

    credentials: Files = ()
    global_credentials: Files = ()
    sysexts: Files = ()


def command_line(image: PeImage) -> str:
    """The command line in the image as the kernel gets it; empty when there is none. Raises UsageError.

    The stub drops a newline at the end. What else it changes depends on its version: such texts are refused.
    """
    section = image.section(".cmdline")
    text = "" if section is None else image.content(section).decode("latin-1").removesuffix("\n")
    if not text.isascii() or not text.isprintable() or text != text.strip():
        raise UsageError("boot-unknown", "the command line in the image has characters that the stub may change")
    return text


def stub_measurements(
    measure: Measure, image: PeImage, *, secure_boot: bool, extras: Extras, options: str | None = None
) -> list[Predicted]:
    """All that the stub and the kernel inside measure after ``image`` was loaded.

    ``options`` are the load options that a boot loader passed on, or None. Raises MalformedError, UsageError.
    """
    _check_stub(image)
    kernel = _content(image, ".linux")
    check_kernel(kernel)
    events = _sections(measure, image)
    line = command_line(image)
    if options and (not secure_boot or not line):
        line = options
        events.append(measure.command_line(12, line, "command line from the boot loader"))
    if not line:
        raise UsageError("boot-unknown", "a unified kernel image without a command line, started without one")
    packed, more = _extras(measure, extras)
    events += more
    if not secure_boot:  # with Secure Boot the stub vouches for the kernel, and firmware neither checks nor measures it
        events.append(measure.program(PeImage.parse(kernel), "kernel in the image, loaded by systemd's stub"))
    return events + stub_events(measure, line, _initrd(image, packed))


def _check_stub(image: PeImage) -> None:
    section = image.section(".sdmagic")
    magic = None if section is None else _MAGIC.search(image.content(section))
    if magic is None:
        raise MalformedError("not a unified kernel image: it does not begin with systemd's stub")
    version = magic[1].decode("ascii")
    if version != _VERSION:
        raise UsageError(
            "boot-unknown",
            f"what systemd's stub {version} measures is not known here, only that of {_VERSION}",
            hint="capture this component from a host, and please tell us",
        )
    strange = sorted({section.name for section in image.sections} & _LATER)
    if strange:
        raise UsageError("boot-unknown", f"the section {strange[0]} means nothing to systemd's stub {_VERSION}")


def _content(image: PeImage, name: str) -> bytes:
    section = image.section(name)
    if section is None or not section.memory_size:
        raise MalformedError(f"not a unified kernel image: it has no section {name}")
    return image.content(section)


def _sections(measure: Measure, image: PeImage) -> list[Predicted]:
    events = []
    for name in MEASURED:
        section = image.section(name)
        if section is None or not section.memory_size:
            continue
        events.append(measure.data(11, name.encode() + b"\0", f"section {name}: its name"))
        events.append(measure.data(11, image.content(section), f"section {name}: {section.memory_size} bytes"))
    return events


def _extras(measure: Measure, extras: Extras) -> tuple[list[bytes], list[Predicted]]:
    """The archives of the files beside the image, in the order of the initrd, and their events."""
    plans = (
        (12, ".extra/credentials", extras.credentials, 0o500, 0o400, "credentials"),
        (12, ".extra/global_credentials", extras.global_credentials, 0o500, 0o400, "credentials of the boot loader"),
        (13, ".extra/sysext", extras.sysexts, 0o555, 0o444, "system extensions"),
    )
    packed = [(pcr, archive(folder, files, d, f), note) for pcr, folder, files, d, f, note in plans if files]
    return [data for _, data, _ in packed], [measure.data(*each) for each in packed]


def _initrd(image: PeImage, packed: list[bytes]) -> bytes | None:
    """What the kernel gets as its initrd: the section, then the archives; without any, the section as it is."""
    section = image.section(".initrd")
    parts = [image.content(section)] if section is not None and section.memory_size else []
    more = list(packed)
    for name, file in ((".pcrsig", "tpm2-pcr-signature.json"), (".pcrpkey", "tpm2-pcr-public-key.pem")):
        found = image.section(name)
        if found is not None and found.memory_size:
            more.append(archive(".extra", [(file, image.content(found))], 0o555, 0o444))
    if not more:
        return parts[0] if parts else None
    return join([*parts, *more])
