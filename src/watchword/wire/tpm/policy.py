"""Policy digests computed without a TPM (TPM 2.0 Part 3, 23; Part 1, 19.7).

Each function takes the digest so far (``previous``, the start is :func:`start`) and returns the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from watchword.wire.tpm.algorithms import Alg, digest, digest_size
from watchword.wire.tpm.pcr import Selections, encode_selections

__all__ = [
    "Operation",
    "RH_ENDORSEMENT",
    "policy_auth_value",
    "policy_authorize",
    "policy_command_code",
    "policy_counter_timer",
    "policy_nv",
    "policy_or",
    "policy_pcr",
    "policy_secret",
    "policy_signed",
    "start",
]

RH_ENDORSEMENT = 0x4000000B  # TPM_RH_ENDORSEMENT: a permanent handle is its own name

_CC_POLICY_NV = 0x149
_CC_POLICY_SECRET = 0x151
_CC_POLICY_SIGNED = 0x160
_CC_POLICY_AUTHORIZE = 0x16A
_CC_POLICY_AUTH_VALUE = 0x16B
_CC_POLICY_COMMAND_CODE = 0x16C
_CC_POLICY_COUNTER_TIMER = 0x16D
_CC_POLICY_OR = 0x171
_CC_POLICY_PCR = 0x17F


class Operation(IntEnum):
    """TPM_EO: how PolicyCounterTimer and PolicyNV compare the TPM's value with the operand."""

    EQ = 0
    NEQ = 1
    SIGNED_GT = 2
    UNSIGNED_GT = 3
    SIGNED_LT = 4
    UNSIGNED_LT = 5
    SIGNED_GE = 6
    UNSIGNED_GE = 7
    SIGNED_LE = 8
    UNSIGNED_LE = 9
    BITSET = 10
    BITCLEAR = 11


def start(alg: Alg = Alg.SHA256) -> bytes:
    """The digest of a fresh policy session: zeros."""
    return bytes(digest_size(alg))


def _extend(alg: Alg, previous: bytes, command: int, *parts: bytes) -> bytes:
    return digest(alg, previous, command.to_bytes(4, "big"), *parts)


def _update(alg: Alg, previous: bytes, command: int, name: bytes, policy_ref: bytes) -> bytes:
    # PolicyUpdate(): the reference is a second step, present even when it is empty.
    return digest(alg, _extend(alg, previous, command, name), policy_ref)


def _compared(alg: Alg, operand: bytes, offset: int, operation: Operation) -> bytes:
    return digest(alg, operand, offset.to_bytes(2, "big"), operation.to_bytes(2, "big"))


def policy_pcr(previous: bytes, selections: Selections, pcr_digest: bytes, alg: Alg = Alg.SHA256) -> bytes:
    """TPM2_PolicyPCR: ``pcr_digest`` is the hash by ``alg`` over the selected values, in order."""
    return _extend(alg, previous, _CC_POLICY_PCR, encode_selections(selections), pcr_digest)


def policy_counter_timer(
    previous: bytes, operand: bytes, offset: int, operation: Operation, alg: Alg = Alg.SHA256
) -> bytes:
    """TPM2_PolicyCounterTimer: compares ``operand`` with TPMS_TIME_INFO from ``offset`` (bytes).

    Offset 8 is the clock (8 bytes), 16 resetCount (4 bytes), 20 restartCount (4 bytes).
    """
    args = _compared(alg, operand, offset, operation)
    return _extend(alg, previous, _CC_POLICY_COUNTER_TIMER, args)


def policy_nv(
    previous: bytes, operand: bytes, offset: int, operation: Operation, nv_name: bytes, alg: Alg = Alg.SHA256
) -> bytes:
    """TPM2_PolicyNV: compares ``operand`` with the content of the NV index called ``nv_name``."""
    return _extend(alg, previous, _CC_POLICY_NV, _compared(alg, operand, offset, operation), nv_name)


def policy_secret(previous: bytes, entity_name: bytes, policy_ref: bytes = b"", alg: Alg = Alg.SHA256) -> bytes:
    """TPM2_PolicySecret: knowledge of the authorisation of the entity called ``entity_name``."""
    return _update(alg, previous, _CC_POLICY_SECRET, entity_name, policy_ref)


def policy_signed(previous: bytes, key_name: bytes, policy_ref: bytes = b"", alg: Alg = Alg.SHA256) -> bytes:
    """TPM2_PolicySigned: a signature by the key called ``key_name``."""
    return _update(alg, previous, _CC_POLICY_SIGNED, key_name, policy_ref)


def policy_authorize(key_name: bytes, policy_ref: bytes = b"", alg: Alg = Alg.SHA256) -> bytes:
    """TPM2_PolicyAuthorize: any policy that the key called ``key_name`` signed; forgets what went before."""
    return _update(alg, start(alg), _CC_POLICY_AUTHORIZE, key_name, policy_ref)


def policy_command_code(previous: bytes, command: int, alg: Alg = Alg.SHA256) -> bytes:
    """TPM2_PolicyCommandCode: only for the command with code ``command``."""
    return _extend(alg, previous, _CC_POLICY_COMMAND_CODE, command.to_bytes(4, "big"))


def policy_auth_value(previous: bytes, alg: Alg = Alg.SHA256) -> bytes:
    """TPM2_PolicyAuthValue and TPM2_PolicyPassword: the object's own authorisation value is needed too."""
    return _extend(alg, previous, _CC_POLICY_AUTH_VALUE)


def policy_or(digests: Sequence[bytes], alg: Alg = Alg.SHA256) -> bytes:
    """TPM2_PolicyOR: any of two to eight ``digests``; forgets what went before. Else ValueError."""
    if not 2 <= len(digests) <= 8:
        raise ValueError(f"PolicyOR over {len(digests)} digests; a TPM takes two to eight")
    return _extend(alg, start(alg), _CC_POLICY_OR, *digests)
