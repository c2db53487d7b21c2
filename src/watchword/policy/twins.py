"""Do two stacks match the same boot? Then which one a host is told to run is decided by levels and serials."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from watchword.policy.stack import CompiledStack, CompiledVariant
from watchword.wire.tpm.algorithms import Alg

__all__ = ["same_boot"]

_MAX_BOOTS = 4096  # different boots of one stack that are compared
_Boot = tuple[bytes, ...]  # a hash over the events of each PCR, in the order of the PCRs


def same_boot(one: CompiledStack, other: CompiledStack) -> bool | None:
    """Whether some boot matches both, judged by the PCRs and a bank that both have.

    None when it cannot be told: nothing in common, or too many boots to compare.
    """
    pcrs = sorted(set(one.pcrs) & set(other.pcrs))
    banks = sorted(one.banks & other.banks)
    if not pcrs or not banks:
        return None
    first, second = _boots(one, pcrs, banks[0]), _boots(other, pcrs, banks[0])
    return None if first is None or second is None else not first.isdisjoint(second)


def _boots(stack: CompiledStack, pcrs: Sequence[int], bank: Alg) -> set[_Boot] | None:
    boots: set[_Boot] = {(b"",) * len(pcrs)}
    slots = {pcr: slot for slot, pcr in enumerate(pcrs)}
    for component in stack.components:
        boots = {_after(boot, variant, slots, bank) for boot in boots for variant in component.variants}
        if len(boots) > _MAX_BOOTS:
            return None
    return boots


def _after(boot: _Boot, variant: CompiledVariant, slots: dict[int, int], bank: Alg) -> _Boot:
    values = list(boot)
    for event in variant.events:
        slot = slots.get(event.pcr)
        if slot is not None:
            values[slot] = hashlib.sha256(values[slot] + event.digests[bank]).digest()
    return tuple(values)
