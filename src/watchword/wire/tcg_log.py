"""The firmware's event log: bytes to :class:`EventLog` and back, and what it extends the PCRs to.

    EventLog
    ├── spec: SpecId | None    the header of a crypto-agile log; a SHA-1 log has none
    ├── events: Event…         what was measured, or only noted (EV_NO_ACTION), in order
    └── padding                firmware hands out its whole log area: 0xFF or zero bytes up to the end

Source: TCG PC Client Platform Firmware Profile 1.06, section 10 (event logging); TCG EFI Platform
Specification 1.22 (the SHA-1 format); Guest-Host-Communication Interface for TDX, CCEL (same bytes, other registers).

Nothing here is verified. The event type, the event data and the header are not covered by any PCR: only a
replay that reaches quoted values proves the digests, and only a digest proves data (``verify.boot_log``).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from watchword.errors import MalformedError
from watchword.wire.reader import Reader
from watchword.wire.tpm.algorithms import HASHES, Alg, digest_size, hasher

__all__ = ["MAX_EVENTS", "MAX_LOG", "Event", "EventLog", "EventType", "SpecId", "pcr0_start", "replay"]

MAX_LOG = 16 << 20  # bytes of one log; the largest real ones are below 128 KiB
MAX_EVENTS = 1 << 16
_MAX_ALGORITHMS = 16
_MAX_DIGEST = 64
_PCRS = 24

_SPEC_ID = b"Spec ID Event03\0"
_STARTUP = b"StartupLocality\0"
_HEAD1 = struct.Struct("<II20sI")  # TCG_PCR_EVENT: PCR, type, SHA-1 digest, size of the data
_HEAD2 = struct.Struct("<III")  # TCG_PCR_EVENT2: PCR, type, number of digests
_LE16, _LE32 = struct.Struct("<H"), struct.Struct("<I")


class EventType(IntEnum):
    """The event types that this project looks at; any other number is kept as it is."""

    PREBOOT_CERT = 0x0
    POST_CODE = 0x1
    NO_ACTION = 0x3
    SEPARATOR = 0x4
    ACTION = 0x5
    EVENT_TAG = 0x6
    S_CRTM_CONTENTS = 0x7
    S_CRTM_VERSION = 0x8
    CPU_MICROCODE = 0x9
    PLATFORM_CONFIG_FLAGS = 0xA
    TABLE_OF_DEVICES = 0xB
    COMPACT_HASH = 0xC
    IPL = 0xD
    IPL_PARTITION_DATA = 0xE
    NONHOST_CODE = 0xF
    NONHOST_CONFIG = 0x10
    NONHOST_INFO = 0x11
    OMIT_BOOT_DEVICE_EVENTS = 0x12
    POST_CODE2 = 0x13
    EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
    EFI_VARIABLE_BOOT = 0x80000002
    EFI_BOOT_SERVICES_APPLICATION = 0x80000003
    EFI_BOOT_SERVICES_DRIVER = 0x80000004
    EFI_RUNTIME_SERVICES_DRIVER = 0x80000005
    EFI_GPT_EVENT = 0x80000006
    EFI_ACTION = 0x80000007
    EFI_PLATFORM_FIRMWARE_BLOB = 0x80000008
    EFI_HANDOFF_TABLES = 0x80000009
    EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000A
    EFI_HANDOFF_TABLES2 = 0x8000000B
    EFI_VARIABLE_BOOT2 = 0x8000000C
    EFI_GPT_EVENT2 = 0x8000000D
    EFI_HCRTM_EVENT = 0x80000010
    EFI_VARIABLE_AUTHORITY = 0x800000E0
    EFI_SPDM_FIRMWARE_BLOB = 0x800000E1
    EFI_SPDM_FIRMWARE_CONFIG = 0x800000E2
    EFI_SPDM_DEVICE_POLICY = 0x800000E3
    EFI_SPDM_DEVICE_AUTHORITY = 0x800000E4


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the log.

    ``index`` counts from 0 without the header, ``type`` is an :class:`EventType` where known, ``digests`` are
    (algorithm identifier, digest) in the order of the log, ``data`` is what the log says was measured.
    """

    index: int
    pcr: int
    type: int
    digests: tuple[tuple[int, bytes], ...]
    data: bytes

    def digest(self, bank: int) -> bytes | None:
        """The digest for ``bank``, or None when this event has none."""
        for alg, value in self.digests:
            if alg == bank:
                return value
        return None


@dataclass(frozen=True, slots=True)
class SpecId:
    """TCG_EfiSpecIdEvent, the header of a crypto-agile log (PFP 10.4.5.1).

    ``algorithms`` are (identifier, digest size in bytes). ``vendor_outside`` tells that the firmware left the vendor
    information out of the declared size of the header event, which some do; it is measured nowhere.
    """

    platform_class: int
    version: tuple[int, int, int]  # minor, major, errata, in the order of the bytes
    uintn_size: int
    algorithms: tuple[tuple[int, int], ...]
    vendor_info: bytes
    vendor_outside: bool = False
    header_pcr: int = 0  # 1 in confidential-computing logs
    header_digest: bytes = bytes(20)

    def encode(self) -> bytes:
        """The whole header event."""
        algorithms = b"".join(struct.pack("<HH", *pair) for pair in self.algorithms)
        fixed = struct.pack("<I4BI", self.platform_class, *self.version, self.uintn_size, len(self.algorithms))
        data = _SPEC_ID + fixed + algorithms + bytes([len(self.vendor_info)]) + self.vendor_info
        size = len(data) - (len(self.vendor_info) if self.vendor_outside else 0)
        return _HEAD1.pack(self.header_pcr, EventType.NO_ACTION, self.header_digest, size) + data


@dataclass(frozen=True, slots=True)
class EventLog:
    """A whole event log as the firmware wrote it; see the module for what of it may be believed."""

    spec: SpecId | None
    events: tuple[Event, ...]
    padding: bytes = field(default=b"", repr=False)

    @property
    def format(self) -> str:
        """ "crypto-agile" or "sha1"."""
        return "crypto-agile" if self.spec else "sha1"

    @property
    def banks(self) -> tuple[Alg, ...]:
        """The banks that the log declares and this project can compute."""
        if self.spec is None:
            return (Alg.SHA1,)
        known = {int(alg) for alg in HASHES}
        return tuple(Alg(alg) for alg, _ in self.spec.algorithms if alg in known)

    @classmethod
    def parse(cls, data: bytes | memoryview) -> EventLog:
        """Parse a whole log, at most ``MAX_LOG`` bytes, of either format.

        Raises MalformedError for anything that is cut short, too large, or has digests the header does not declare.
        """
        data = bytes(data)
        if not data:
            raise MalformedError("event log: it is empty")
        if len(data) > MAX_LOG:
            raise MalformedError(f"event log: {len(data)} bytes long, {MAX_LOG} are allowed")
        if data[32:48] == _SPEC_ID:
            spec, start = _parse_spec(data)
            return cls(spec, *_parse_agile(data, start, dict(spec.algorithms)))
        return cls(None, *_parse_sha1(data))

    def encode(self) -> bytes:
        """The same bytes that were parsed."""
        parts: list[bytes] = [self.spec.encode()] if self.spec else []
        for event in self.events:
            if self.spec is None:
                parts.append(_HEAD1.pack(event.pcr, event.type, event.digests[0][1], len(event.data)))
            else:
                parts.append(_HEAD2.pack(event.pcr, event.type, len(event.digests)))
                parts.extend(_LE16.pack(alg) + value for alg, value in event.digests)
                parts.append(_LE32.pack(len(event.data)))
            parts.append(event.data)
        return b"".join((*parts, self.padding))


def _bad(why: str, pos: int) -> MalformedError:
    return MalformedError(f"event log: {why} (at byte {pos})")


def _parse_spec(data: bytes) -> tuple[SpecId, int]:
    """The header event, and where the next event starts."""
    reader = Reader(data, "event log header")
    pcr, type_, digest, size = reader.le32(), reader.le32(), reader.take(20), reader.le32()
    if type_ != EventType.NO_ACTION:
        raise reader.fail(f"its type is {type_:#x}, not EV_NO_ACTION")
    body = Reader(reader.view(size), "event log header")
    body.take(len(_SPEC_ID))
    platform_class, version, uintn_size = body.le32(), (body.u8(), body.u8(), body.u8()), body.u8()
    count = body.le32()
    if not 1 <= count <= _MAX_ALGORITHMS:
        raise body.fail(f"declares {count} digest algorithms, 1 to {_MAX_ALGORITHMS} are allowed")
    algorithms = tuple((body.le16(), body.le16()) for _ in range(count))
    _check_algorithms(algorithms)
    vendor_size = body.u8()
    outside = vendor_size > 0 and body.left == 0
    vendor_info = (reader if outside else body).take(vendor_size)
    body.finish()
    spec = SpecId(platform_class, version, uintn_size, algorithms, vendor_info, outside, pcr, digest)
    return spec, reader.pos


def _check_algorithms(algorithms: tuple[tuple[int, int], ...]) -> None:
    if len({alg for alg, _ in algorithms}) != len(algorithms):
        raise MalformedError("event log header: declares an algorithm twice")
    for alg, size in algorithms:
        known = digest_size(Alg(alg)) if alg in HASHES else None
        if not 1 <= size <= _MAX_DIGEST or (known is not None and size != known):
            raise MalformedError(f"event log header: algorithm {alg:#06x} cannot have digests of {size} bytes")


def _padding_start(data: bytes) -> int:
    """From here on the log is only zero bytes or only 0xFF: computed once, so that parsing stays linear."""
    return min(len(data.rstrip(b"\0")), len(data.rstrip(b"\xff")))


def _parse_sha1(data: bytes) -> tuple[tuple[Event, ...], bytes]:
    events: list[Event] = []
    pos, end, padding = 0, len(data), _padding_start(data)
    while pos < end:
        if pos >= padding:
            if not events:
                raise _bad("nothing but padding", pos)
            return tuple(events), data[pos:]
        if end - pos < _HEAD1.size:
            raise _bad("cut short in an event header", pos)
        pcr, type_, digest, size = _HEAD1.unpack_from(data, pos)
        start = pos + _HEAD1.size
        events.append(_event(len(events), pcr, type_, ((Alg.SHA1, digest),), data, start, size))
        pos = start + size
    return tuple(events), b""


def _parse_agile(data: bytes, pos: int, sizes: Mapping[int, int]) -> tuple[tuple[Event, ...], bytes]:
    events: list[Event] = []
    end, padding = len(data), _padding_start(data)
    while pos < end:
        if pos >= padding:
            return tuple(events), data[pos:]
        if end - pos < _HEAD2.size:
            raise _bad("cut short in an event header", pos)
        pcr, type_, count = _HEAD2.unpack_from(data, pos)
        digests, start = _parse_digests(data, pos + _HEAD2.size, count, sizes)
        if end - start < 4:
            raise _bad("cut short in the size of an event", start)
        size: int = _LE32.unpack_from(data, start)[0]
        start += 4
        events.append(_event(len(events), pcr, type_, digests, data, start, size))
        pos = start + size
    return tuple(events), b""


def _parse_digests(
    data: bytes, pos: int, count: int, sizes: Mapping[int, int]
) -> tuple[tuple[tuple[int, bytes], ...], int]:
    """TPML_DIGEST_VALUES, each algorithm at most once and only as declared in the header."""
    if not 1 <= count <= len(sizes):
        raise _bad(f"an event has {count} digests, the header declares {len(sizes)} algorithms", pos)
    digests: list[tuple[int, bytes]] = []
    for _ in range(count):
        alg = data[pos] | data[pos + 1] << 8 if pos + 2 <= len(data) else -1
        size = sizes.get(alg)
        if size is None:
            raise _bad("an event has a digest that the header does not declare, or is cut short", pos)
        stop = pos + 2 + size
        if stop > len(data):
            raise _bad("cut short in a digest", pos)
        digests.append((alg, data[pos + 2 : stop]))
        pos = stop
    if count > 1 and len({alg for alg, _ in digests}) != count:
        raise _bad("an event has two digests of one algorithm", pos)
    return tuple(digests), pos


def _event(
    index: int, pcr: int, type_: int, digests: tuple[tuple[int, bytes], ...], data: bytes, start: int, size: int
) -> Event:
    stop = start + size
    if stop > len(data):
        raise _bad(f"an event declares {size} bytes of data, {len(data) - start} are left", start)
    if index >= MAX_EVENTS:
        raise _bad(f"more than {MAX_EVENTS} events", start)
    # Windows notes its "trust point" at PCR 0xFFFFFFFF; EV_NO_ACTION is never extended, so its index means nothing.
    if pcr >= _PCRS and type_ != EventType.NO_ACTION:
        raise _bad(f"an event is measured into PCR {pcr}, there are {_PCRS}", start)
    return Event(index, pcr, type_, digests, data[start:stop])


def pcr0_start(log: EventLog) -> int:
    """The last byte of PCR 0 before the first extend: the locality of TPM2_Startup, 4 after an H-CRTM.

    The first EV_NO_ACTION "StartupLocality" event says it (PFP 10.4.5.3); without one, a log whose first PCR 0
    measurement is an EV_EFI_HCRTM_EVENT starts from 4 (TPM 2.0 Library part 1, H-CRTM before TPM2_Startup).
    """
    first: int | None = None
    for event in log.events:
        if event.pcr != 0:
            continue
        if event.type != EventType.NO_ACTION:
            first = event.type if first is None else first
        elif len(event.data) == 17 and event.data.startswith(_STARTUP) and event.data[16] <= 4:
            return event.data[16]
    return 4 if first == EventType.EFI_HCRTM_EVENT else 0


def replay(log: EventLog, bank: Alg) -> dict[int, bytes]:
    """The value of every PCR that the log extends in ``bank``, by PCR index.

    An event without a digest for ``bank`` does not extend it: each bank is judged by itself.
    Raises MalformedError when this machine cannot compute the algorithm.
    """
    new, size = hasher(bank), digest_size(bank)
    values: dict[int, bytes] = {0: pcr0_start(log).to_bytes(size, "big")}
    extended: set[int] = set()
    zero = bytes(size)
    for event in log.events:
        if event.type == EventType.NO_ACTION:
            continue
        digest = event.digest(bank)
        if digest is not None:
            values[event.pcr] = new(values.get(event.pcr, zero) + digest).digest()
            extended.add(event.pcr)
    return {pcr: values[pcr] for pcr in sorted(extended)}
