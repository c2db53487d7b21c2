"""Certificates that lie one behind the other, as TPM makers leave their intermediates in NV memory.

Framing only: where each one begins and ends. Who reads what is in them is :mod:`watchword.verify.certificate`.
"""

from __future__ import annotations

from typing import Final

from watchword.errors import MalformedError

__all__ = ["FIRST_CHAIN_INDEX", "LAST_CHAIN_INDEX", "MAX_CERTIFICATE", "MAX_CHAIN", "MAX_NV_CHAIN", "split_der_chain"]

#: The NV indices that hold a maker's chain (TCG EK Credential Profile for TPM 2.0, 2.2.1.5).
FIRST_CHAIN_INDEX: Final = 0x01C00100
LAST_CHAIN_INDEX: Final = 0x01C001FF
MAX_CERTIFICATE: Final = 8192  # bytes; the largest we have seen has 2100
MAX_CHAIN: Final = 8  # certificates
MAX_NV_CHAIN: Final = 32768  # bytes; TPMs have far less NV memory

_SEQUENCE: Final = 0x30
_PADDING: Final = (0x00, 0xFF)


def split_der_chain(data: bytes) -> tuple[bytes, ...]:
    """The elements of ``data``, at most 32 KiB: at most 8 DER SEQUENCEs of at most 8192 bytes each.

    Nothing but padding, all zeros or all ones, may follow the last. Raises MalformedError (ek-certificate-malformed).
    """
    if len(data) > MAX_NV_CHAIN:
        raise _malformed(f"it is longer than {MAX_NV_CHAIN} bytes")
    found: list[bytes] = []
    at = 0
    while at < len(data) and not _is_padding(data[at:]):
        if len(found) == MAX_CHAIN:
            raise _malformed(f"it has more than {MAX_CHAIN} certificates")
        size = _element_size(data, at)
        found.append(data[at : at + size])
        at += size
    return tuple(found)


def _element_size(data: bytes, at: int) -> int:
    """The size of the SEQUENCE that begins at ``at``, header included; its length in the shortest form."""
    header = data[at : at + 4]  # two bytes of length tell more than we take
    if len(header) < 2 or header[0] != _SEQUENCE:
        raise _malformed(f"at byte {at} there is neither a certificate nor padding to the end")
    digits = header[1] - 0x80 if header[1] >= 0x80 else 0
    if header[1] == 0x80 or len(header) < 2 + digits:
        raise _malformed(f"at byte {at} there is no certificate of at most {MAX_CERTIFICATE} bytes")
    length = int.from_bytes(header[2 : 2 + digits], "big") if digits else header[1]
    if digits and length < (0x80 if digits == 1 else 0x100):
        raise _malformed(f"at byte {at} a length is not in its shortest form")
    size = 2 + digits + length
    if size > MAX_CERTIFICATE:
        raise _malformed(f"at byte {at} a certificate has {size} bytes, {MAX_CERTIFICATE} are allowed")
    if size > len(data) - at:
        raise _malformed(f"at byte {at} a certificate has {size} bytes, {len(data) - at} are left")
    return size


def _is_padding(tail: bytes) -> bool:
    return tail[0] in _PADDING and not tail.strip(tail[:1])


def _malformed(why: str) -> MalformedError:
    return MalformedError(f"chain of certificates: {why}", code="ek-certificate-malformed")
