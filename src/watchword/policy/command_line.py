"""Which command line a host's kernel was started with, when log and stack together tell (clause C6)."""

from __future__ import annotations

from collections.abc import Iterator

from watchword.policy.match import StackMatch
from watchword.verify.boot_log import VerifiedBootLog
from watchword.verify.command_line import COMMAND_LINE_PCRS, CommandLine

__all__ = ["known_command_line"]

_BOOT_IMAGE = "BOOT_IMAGE="  # GRUB puts it before what it measures


def known_command_line(boot: VerifiedBootLog, found: StackMatch | None) -> CommandLine | None:
    """The one command line that everything measured agrees on; None when there is none, or more than one.

    The log may prove a text, and so may the matched stack: the endorsers say which of its events measures the command
    line, and the event's digest is that of the text. What the log leaves unclear in a PCR that such a stack covers is
    exactly what the endorsers expect there.
    """
    if not boot.pcrs.issuperset(COMMAND_LINE_PCRS):
        return None
    measured = boot.facts.command_line
    stated = set(_stated(found)) if found else set()
    settled = set(found.stack.pcrs) if found and stated else set()
    texts = {_without_image(text) for text in stated.union(measured.texts)}
    if len(texts) != 1 or measured.unclear - settled:
        return None
    return CommandLine.of(texts.pop())


def _stated(found: StackMatch) -> Iterator[str]:
    """The command lines that the chosen variants measure."""
    chosen = dict(found.variants)
    for component in found.stack.components:
        for variant in component.variants:
            if chosen[component.name] == variant.name:
                yield from (e.command_line for e in variant.events if e.command_line is not None)


def _without_image(text: str) -> str:
    first, _, rest = text.partition(" ")
    return rest if first.startswith(_BOOT_IMAGE) else text
