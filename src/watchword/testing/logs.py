"""Builders of firmware event logs and runtime logs, good ones by default.

    events = good_boot()                                   what a plain machine with Secure Boot on measures
    log = event_log(events)                                EventLog; log.encode() is the file
    values = replay(log, Alg.SHA256)                       the PCRs it leads to
    runtime = ima_log([boot_aggregate(values), measured(b"/usr/bin/true", b"…")])

Break one thing in a good log: ``replace(event, data=…)`` keeps the digests, ``boot_event`` makes new ones.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from watchword.wire.ima_log import IMA_PCR, ImaEntry, ImaLog
from watchword.wire.tcg_log import Event, EventLog, EventType, SpecId
from watchword.wire.tpm.algorithms import HASHES, Alg, digest, digest_size
from watchword.wire.uefi import DB, GLOBAL_VARIABLE, UefiVariable

__all__ = [
    "BANKS",
    "boot_aggregate",
    "boot_event",
    "event_log",
    "good_boot",
    "ima_entry",
    "ima_log",
    "measured",
    "note",
    "separator",
    "variable",
    "violation",
]

BANKS = (Alg.SHA1, Alg.SHA256)
_OWNER = uuid.UUID("77777777-7777-7777-7777-777777777777")
_X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")


def boot_event(
    pcr: int, type_: int, data: bytes, *, hashed: bytes | None = None, banks: Sequence[Alg] = BANKS
) -> Event:
    """An event whose digests are those of ``hashed``, or of its data. Its index is set by :func:`event_log`."""
    value = data if hashed is None else hashed
    return Event(0, pcr, type_, tuple((alg, digest(alg, value)) for alg in banks), data)


def note(data: bytes, pcr: int = 0, banks: Sequence[Alg] = BANKS) -> Event:
    """An EV_NO_ACTION event: noted, measured nowhere."""
    return Event(0, pcr, EventType.NO_ACTION, tuple((alg, bytes(digest_size(alg))) for alg in banks), data)


def separator(pcr: int, data: bytes = bytes(4), banks: Sequence[Alg] = BANKS) -> Event:
    """The event that ends what the firmware measures into ``pcr``."""
    return boot_event(pcr, EventType.SEPARATOR, data, banks=banks)


def variable(name: str, data: bytes, guid: uuid.UUID = GLOBAL_VARIABLE) -> bytes:
    """UEFI_VARIABLE_DATA."""
    return UefiVariable(guid, name, data).encode()


def signature_list(certificate: bytes) -> bytes:
    """An EFI_SIGNATURE_LIST with one certificate."""
    size = 16 + len(certificate)
    return _X509.bytes_le + struct.pack("<III", 28 + size, 0, size) + _OWNER.bytes_le + certificate


def good_boot(*, secure_boot: bool = True, kernel: bytes = b"a kernel", banks: Sequence[Alg] = BANKS) -> list[Event]:
    """A short but complete boot: firmware, Secure Boot policy, boot order, separators, a kernel and its options."""

    def event(pcr: int, type_: int, data: bytes, hashed: bytes | None = None) -> Event:
        return boot_event(pcr, type_, data, hashed=hashed, banks=banks)

    config, order = EventType.EFI_VARIABLE_DRIVER_CONFIG, variable("BootOrder", b"\0\0\1\0")
    path = b"\x04\x04\x0c\0/\0k\0\0\0\0\0\x7f\xff\4\0"
    image = struct.pack("<QQQQ", 1, 2, 0, len(path)) + path
    options = b"linux\0root=/dev/vda"
    return [
        event(0, EventType.S_CRTM_VERSION, "1.0\0".encode("utf-16-le")),
        event(0, EventType.EFI_PLATFORM_FIRMWARE_BLOB, bytes(16), b"the firmware itself"),
        event(7, config, variable("SecureBoot", b"\1" if secure_boot else b"\0")),
        event(7, config, variable("PK", signature_list(b"platform key"))),
        event(7, config, variable("KEK", signature_list(b"exchange key"))),
        event(7, config, variable("db", signature_list(b"allowed"), DB)),
        event(7, config, variable("dbx", b"", DB)),
        separator(7, banks=banks),
        event(1, EventType.EFI_VARIABLE_BOOT, order, b"\0\0\1\0"),
        event(4, EventType.EFI_ACTION, b"Calling EFI Application from Boot Option"),
        *(separator(pcr, banks=banks) for pcr in range(7)),
        event(7, EventType.EFI_VARIABLE_AUTHORITY, variable("db", _OWNER.bytes_le + b"allowed", DB)),
        event(4, EventType.EFI_BOOT_SERVICES_APPLICATION, image, kernel),
        event(8, EventType.IPL, b"kernel_cmdline: " + options + b"\0", options),
        event(9, EventType.IPL, b"/initrd\0", b"an initrd"),
        event(5, EventType.EFI_ACTION, b"Exit Boot Services Invocation"),
    ]


def event_log(events: Iterable[Event], banks: Sequence[Alg] = BANKS) -> EventLog:
    """A crypto-agile log of these events, numbered in their order."""
    spec = SpecId(0, (0, 2, 0), 2, tuple((int(alg), digest_size(alg)) for alg in banks), b"")
    return EventLog(spec, tuple(replace(event, index=index) for index, event in enumerate(events)))


def ima_entry(template: str, *fields: bytes, pcr: int = IMA_PCR) -> ImaEntry:
    """An entry with these raw fields and the SHA-1 digest over them. Its number is set by :func:`ima_log`."""
    data = b"".join(struct.pack("<I", len(field)) + field for field in fields)
    return ImaEntry(0, pcr, digest(Alg.SHA1, data), template, data)


def measured(path: bytes, content: bytes, *, signature: bytes | None = None, alg: Alg = Alg.SHA256) -> ImaEntry:
    """A file with this content ran: ima-ng, or ima-sig when there is a signature (which may be empty)."""
    fields = [HASHES[alg].encode() + b":\0" + digest(alg, content), path + b"\0"]
    return ima_entry("ima-ng", *fields) if signature is None else ima_entry("ima-sig", *fields, signature)


def violation(path: bytes) -> ImaEntry:
    """A file that was open for writing while it was measured."""
    return ima_entry("ima-ng", b"sha256:\0" + bytes(32), path + b"\0")._replace(digest=bytes(20))


def boot_aggregate(values: Mapping[int, bytes], alg: Alg = Alg.SHA256, pcrs: Iterable[int] = range(10)) -> ImaEntry:
    """The first entry of a log: a hash over the boot PCRs, those without a value being zero."""
    zero = bytes(digest_size(alg))
    value = digest(alg, *(values.get(pcr, zero) for pcr in pcrs))
    return ima_entry("ima-ng", HASHES[alg].encode() + b":\0" + value, b"boot_aggregate\0")


def ima_log(entries: Iterable[ImaEntry]) -> ImaLog:
    """A binary log of these entries, numbered in their order."""
    return ImaLog(20, tuple(entry._replace(number=number) for number, entry in enumerate(entries)))
