"""PCR values that somebody else computed, for ``watchword stack check --expect``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from watchword.cli.output import printable
from watchword.cli.profile import read_bounded
from watchword.policy.document import digest_name
from watchword.policy.stack import CompiledStack
from watchword.reference.interop.expect import MAX_EXPECTATION, Comparison, Expectation, compare, read_expectations

__all__ = ["compare_with", "in_json", "in_words"]


def compare_with(stack: CompiledStack, file: Path) -> list[Comparison]:
    """``stack`` beside every set of values in ``file``. Of the phases of one boot, one has to hold.

    A stack describes one moment of a boot, so when one phase of a bank holds the others are not judged.
    """
    found = [compare(stack, expectation) for expectation in _expectations(read_bounded(file, MAX_EXPECTATION))]
    banks = {e.expectation.bank for e in found if e.holds == "yes" and e.expectation.label}
    kept = [e for e in found if not e.expectation.label or e.holds == "yes" or e.expectation.bank not in banks]
    # A bank that the stack does not have is passed over when another one of the same file was compared.
    compared = [e for e in kept if not e.skipped]
    return compared or kept


def _expectations(data: bytes) -> tuple[Expectation, ...]:
    """CoRIM begins with a CBOR tag, and no JSON does."""
    if data[:1] and data[0] >> 5 == 6:
        from watchword.cli.stack_corim import read_registers

        return read_registers(data)
    return read_expectations(data)


def in_json(file: str, found: Comparison) -> dict[str, Any]:
    """One comparison as ``--json`` has it."""
    return {
        "file": file,
        "bank": digest_name(found.expectation.bank),
        "label": found.expectation.label,
        "holds": found.holds,
        "variants": dict(found.chosen),
        "wrong": [{"pcr": pcr, "expected": a.hex(), "computed": b.hex()} for pcr, a, b in found.wrong],
        "skipped": found.skipped,
    }


def in_words(file: str, found: Comparison) -> list[str]:
    """One comparison as lines for people."""
    label = f" ({found.expectation.label})" if found.expectation.label else ""
    head = printable(f"{file}{label}, {digest_name(found.expectation.bank)}: ")
    if found.skipped:
        return [f"{head}not compared: {found.skipped}."]
    chosen = " with " + ", ".join(f"{c} {v}" for c, v in found.chosen) if found.chosen else ""
    pcrs = ", ".join(map(str, found.expectation.values))
    if not found.wrong:
        return [f"{head}the stack leads to these values of PCRs {pcrs}{chosen}."]
    return [f"{head}the stack does not lead to these values; nearest{chosen}:"] + [
        f"  - PCR {pcr}: expected {wanted.hex()}, computed {value.hex()}" for pcr, wanted, value in found.wrong
    ]
