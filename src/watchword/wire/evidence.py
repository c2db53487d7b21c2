"""Evidence: what a host sends to be appraised, and the hash that its quote is bound to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum

from watchword.errors import MalformedError
from watchword.wire.reader import Reader, Writer, parse_whole
from watchword.wire.share import RUN_SIZE
from watchword.wire.tpm.algorithms import Alg, digest_size
from watchword.wire.tpm.pcr import PcrValues

__all__ = ["MAX_EVENT_LOG", "MAX_IMA_ENTRIES", "MAX_IMA_LOG", "Evidence", "Purpose", "binding", "enrol_proof"]

MAX_TOKEN = 255
MAX_INSTANCE = 255
MAX_EVENT_LOG = 8 << 20  # bytes; the largest real ones are below 128 KiB
MAX_IMA_LOG = 64 << 20  # bytes; 100,000 entries take 15 MB, 42 MB with a signature of 2048 bits each
MAX_IMA_ENTRIES = 1 << 18  # in one request: the smallest have 33 bytes, and each costs some microseconds
_MAX_ATTEST = 1024
_MAX_SIGNATURE = 1024
_MAX_BANKS = 8
_MAX_PCRS = 24
_NONCE_SIZE = 48


class Purpose(IntEnum):
    """What evidence is for; a quote made for one purpose is never good for another."""

    LAUNCH = 1
    ATTEST = 2
    SHARE = 3


@dataclass(frozen=True, slots=True)
class Evidence:
    """One host's evidence for one purpose.

    ``host_id`` 32 bytes; ``nonce`` 48 bytes from the authority; ``token`` the launch token's text; ``instance`` the
    provider's name for the machine (at most 255 bytes); ``attest`` TPMS_ATTEST and ``signature`` TPMT_SIGNATURE as
    the TPM returned them; ``pcrs`` the PCR values the quote is said to cover; ``event_log`` the firmware's, empty if
    the challenge said that the authority has it, ``ima_log`` the kernel's binary log from entry ``ima_from`` on (0: all
    of it). ``run`` (16 bytes) names this host's attempt to collect the shares of a secret; it is empty for any other
    purpose than SHARE.
    """

    host_id: bytes
    nonce: bytes
    purpose: Purpose
    token: str
    instance: str
    attest: bytes
    signature: bytes
    pcrs: PcrValues
    event_log: bytes
    ima_from: int
    ima_log: bytes
    run: bytes = b""

    @classmethod
    def parse(cls, data: bytes) -> Evidence:
        """Read one piece of evidence. Raises :class:`MalformedError`."""
        return parse_whole(data, "evidence", cls.read)

    @classmethod
    def read(cls, r: Reader) -> Evidence:
        host_id, nonce, purpose = r.take(32), r.take(_NONCE_SIZE), read_purpose(r)
        return cls(
            host_id=host_id,
            nonce=nonce,
            purpose=purpose,
            run=r.take(RUN_SIZE) if purpose is Purpose.SHARE else b"",
            token=read_text(r, MAX_TOKEN, "token"),
            instance=read_text(r, MAX_INSTANCE, "instance"),
            attest=r.sized16(_MAX_ATTEST, "attest"),
            signature=r.sized16(_MAX_SIGNATURE, "signature"),
            pcrs=read_pcrs(r),
            event_log=r.sized32(MAX_EVENT_LOG, "event log"),
            ima_from=r.u32(),
            ima_log=r.sized32(MAX_IMA_LOG, "IMA log"),
        )

    def write(self, w: Writer) -> None:
        w.raw(self.host_id).raw(self.nonce).u8(self.purpose).raw(self.run)
        w.sized16(self.token.encode()).sized16(self.instance.encode())
        w.sized16(self.attest).sized16(self.signature)
        write_pcrs(w, self.pcrs)
        w.sized32(self.event_log).u32(self.ima_from).sized32(self.ima_log)

    def encode(self) -> bytes:
        writer = Writer()
        self.write(writer)
        return writer.done()


def binding(
    *, host_id: bytes, nonce: bytes, purpose: Purpose, token: str, instance: str, reply_key: bytes, run: bytes = b""
) -> bytes:
    """The 32 bytes that the quote's ``extraData`` must be.

    Covers every field of the request that the authority relies on and that the TPM does not vouch for otherwise:
    the logs need no place here because they must replay to the quoted PCRs. ``reply_key`` (32 bytes) is the key the
    answer is encrypted under, so nobody can have the answer to this quote sent elsewhere. ``run`` is in it for a share
    alone, which its purpose says too.
    """
    writer = Writer().raw(b"watchword/evidence/1\0").raw(host_id).raw(nonce).u8(purpose).raw(run)
    writer.sized16(token.encode()).sized16(instance.encode())
    writer.raw(hashlib.sha256(b"watchword/reply-key/1\0" + reply_key).digest())
    return hashlib.sha256(writer.done()).digest()


def enrol_proof(secret: bytes, cookie: bytes) -> bytes:
    """What a host answers to an enrolment challenge: 32 bytes that only the activated credential yields."""
    return hashlib.sha256(b"watchword/enrol/1\0" + Writer().sized16(secret).sized16(cookie).done()).digest()


def read_purpose(r: Reader) -> Purpose:
    number = r.u8()
    try:
        return Purpose(number)
    except ValueError:
        raise r.fail(f"has the unknown purpose {number}") from None


def read_text(r: Reader, limit: int, name: str) -> str:
    try:
        return r.sized16(limit, name).decode()
    except UnicodeDecodeError:
        raise r.fail(f"{name} is not UTF-8") from None


def write_pcrs(w: Writer, pcrs: PcrValues) -> None:
    w.u8(len(pcrs))
    for bank in sorted(pcrs):
        w.u16(bank).u8(len(pcrs[bank]))
        for index in sorted(pcrs[bank]):
            w.u8(index).raw(pcrs[bank][index])


def read_pcrs(r: Reader) -> PcrValues:
    banks: dict[Alg, dict[int, bytes]] = {}
    last_bank = -1
    for _ in range(_bounded(r, _MAX_BANKS, "PCR banks")):
        number = r.u16()
        if number <= last_bank:
            raise r.fail("PCR banks are not in ascending order")
        last_bank = number
        bank, size = _bank(r, number)
        each = 1 + size
        together = r.take(_bounded(r, _MAX_PCRS, "PCR values") * each)
        values = {together[at]: together[at + 1 : at + each] for at in range(0, len(together), each)}
        numbers = [*together[::each]]
        if numbers != sorted(values) or (numbers and numbers[-1] >= _MAX_PCRS):
            raise r.fail("PCR numbers are not ascending from 0 to 23")
        banks[bank] = values
    return banks


def _bank(r: Reader, number: int) -> tuple[Alg, int]:
    try:
        bank = Alg(number)
        return bank, digest_size(bank)
    except (ValueError, KeyError, MalformedError):
        raise r.fail(f"0x{number:04x} is not a PCR bank") from None


def _bounded(r: Reader, limit: int, what: str) -> int:
    count = r.u8()
    if count > limit:
        raise r.fail(f"{count} {what}, at most {limit} are allowed")
    return count
