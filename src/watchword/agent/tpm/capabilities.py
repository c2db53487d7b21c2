"""What a TPM says about itself: TPM2_GetCapability (Part 3, 30.2) and the NV storage its maker wrote (clause 31)."""

from __future__ import annotations

from watchword.agent.tpm.commands import Answer, Channel, Code, Entity
from watchword.agent.tpm.errors import RC_HANDLE, TpmError, base_code
from watchword.agent.tpm.sessions import Password
from watchword.wire.reader import Reader, Writer
from watchword.wire.tpm.pcr import Selections, parse_selections

__all__ = ["HANDLE_RANGES", "banks", "handles", "properties", "read_nv", "read_nv_range"]

_CAP_HANDLES, _CAP_PCRS, _CAP_PROPERTIES = 1, 5, 6
_FIXED = 0x100  # PT_FIXED: manufacturer, firmware, limits
_PT_NV_BUFFER_MAX = 0x12C
_MAX_ITEMS = 254
_MAX_PAGES = 16
#: The first handle of each kind that a client can leave behind (TPM_HT, Part 2, 7.2).
HANDLE_RANGES = {"transient": 0x80000000, "loaded session": 0x02000000, "saved session": 0x03000000}
_MAX_NV = 8192  # bytes; the largest certificate we take


def _capability(channel: Channel, capability: int, first: int) -> tuple[bool, Reader]:
    parameters = Writer().u32(capability).u32(first).u32(_MAX_ITEMS).done()
    reader = channel.run(Code.GET_CAPABILITY, (), parameters).reader("TPM2_GetCapability")
    more = bool(reader.u8())
    if reader.u32() != capability:
        raise reader.fail("another capability than the one asked for")
    return more, reader


def banks(channel: Channel) -> Selections:
    """The PCR banks the TPM implements, with the PCRs allocated in each; a bank switched off has none."""
    _, reader = _capability(channel, _CAP_PCRS, 0)
    found = parse_selections(reader)
    reader.finish()
    return found


def handles(channel: Channel, first: int) -> tuple[int, ...]:
    """The handles in use from ``first`` on, of the same kind (one of :data:`HANDLE_RANGES`, or persistent ones)."""
    _, reader = _capability(channel, _CAP_HANDLES, first)
    found = tuple(reader.u32() for _ in range(min(reader.u32(), _MAX_ITEMS)))
    reader.finish()
    return found


def properties(channel: Channel) -> dict[int, int]:
    """TPM_PT: the fixed properties (manufacturer, firmware version, buffer sizes), by number."""
    found: dict[int, int] = {}
    first = _FIXED
    for _ in range(_MAX_PAGES):
        more, reader = _capability(channel, _CAP_PROPERTIES, first)
        for _ in range(min(reader.u32(), _MAX_ITEMS)):
            first = reader.u32()
            found[first] = reader.u32()
        reader.finish()
        first += 1
        if not more:
            break
    return found


def read_nv(channel: Channel, index: int) -> bytes | None:
    """The whole content of NV index ``index`` in chunks the TPM can carry, or None when it does not exist.

    Read with the index's own empty authorization. Raises TpmError for one never written or larger than 8192 bytes.
    """
    size = _nv_size(channel, index)
    if size is None:
        return None
    if size > _MAX_NV:
        raise TpmError("tpm-nv-size", f"NV index 0x{index:08x} has {size} bytes, {_MAX_NV} are allowed")
    chunk = min(properties(channel).get(_PT_NV_BUFFER_MAX, 512), 2048) or 512
    content = bytearray()
    entity = Entity.of(index)  # its Name would matter to an HMAC session only
    while len(content) < size:
        part = min(chunk, size - len(content))
        parameters = Writer().u16(part).u16(len(content)).done()
        answer = channel.run(Code.NV_READ, (entity, entity), parameters, (Password(),))
        content += _exactly(answer, part)
    return bytes(content)


def read_nv_range(channel: Channel, first: int, last: int, limit: int) -> bytes:
    """What the NV indices from ``first`` to ``last`` hold, those that exist, in ascending order.

    Raises TpmError as :func:`read_nv` does, and when all of them together have more than ``limit`` bytes.
    """
    content = b""
    for index in _defined(channel, first, last):
        content += read_nv(channel, index) or b""
        if len(content) > limit:
            raise TpmError("tpm-nv-size", f"NV from 0x{first:08x} on has more than the {limit} bytes that are allowed")
    return content


def _defined(channel: Channel, first: int, last: int) -> tuple[int, ...]:
    found: set[int] = set()
    start = first
    while start <= last:
        page = handles(channel, start)  # what a TPM cannot say in one answer, it says in the next
        found.update(index for index in page if start <= index <= last)
        start = max(page, default=last) + 1
    return tuple(sorted(found))


def _nv_size(channel: Channel, index: int) -> int | None:
    """The size of an NV index in bytes; None when nobody defined it."""
    try:
        answer = channel.run(Code.NV_READ_PUBLIC, (Entity.of(index),))
    except TpmError as error:
        if base_code(error.rc) == RC_HANDLE:
            return None
        raise
    reader = answer.reader("TPM2_NV_ReadPublic")
    fields = Reader(reader.sized16(256, "NV public area"), "TPMS_NV_PUBLIC")
    if fields.u32() != index:
        raise fields.fail("describes another index")
    fields.take(2 + 4)  # nameAlg, attributes
    fields.sized16(64, "authPolicy")
    size = fields.u16()
    fields.finish()
    return size


def _exactly(answer: Answer, size: int) -> bytes:
    reader = answer.reader("TPM2_NV_Read")
    data = reader.sized16(size, "NV data")
    reader.finish()
    if len(data) != size:
        raise reader.fail(f"{len(data)} bytes instead of {size}")
    return data
