"""The kernel's command line as a fact: only what was measured, and only when everything measured agrees (clause C6).

Boot loaders measure it in these ways; in each, the text is in the log and its hash is the digest (clause C3):

    PCR 8    GRUB        EV_IPL "kernel_cmdline: PATH ARGUMENTS"; the label is not part of what was hashed
    PCR 12   systemd     EV_IPL, the text in UTF-16: the override of systemd-stub, the entry of systemd-boot
    PCR 9    Linux       EV_EVENT_TAG "LOADED_IMAGE::LoadOptions": the text is *not* in the log, only its hash is

Event types and GRUB's labels are not measured, so a host could hide a command line behind another type or label. An
event of PCR 8 or 12 whose data is not tied, and a second text, therefore leave the command line unknown.
Source: GRUB, grub-core/commands/tpm.c; systemd, src/boot/efi/measure.c; Linux,
drivers/firmware/efi/libstub/efi-stub-helper.c and lib/cmdline.c (next_arg).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from watchword.verify.boot_event import BootEvent

__all__ = [
    "COMMAND_LINE_PCRS",
    "CommandLine",
    "MeasuredText",
    "command_line_forms",
    "command_line_words",
    "measured_text",
]

COMMAND_LINE_PCRS = (8, 9, 12)  # of GRUB, of the kernel's own EFI stub, of systemd
_GRUB, _SYSTEMD = 8, 12
_KERNEL = b"kernel_cmdline: "
_MAX = 2047  # characters: x86 kernels cut off the rest, so what stands there may or may not count


@dataclass(frozen=True, slots=True)
class MeasuredText:
    """What a boot log says about the command line by itself.

    ``texts`` are the different ones that were measured, without GRUB's path of the kernel; ``unclear`` the PCRs, of 8
    and 12, with an event whose data is not tied: there may be more texts.
    """

    texts: tuple[str, ...] = ()
    unclear: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command line that is known: ``kernel`` are the words for the kernel, ``init`` those after "--"."""

    text: str
    kernel: tuple[str, ...]
    init: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> CommandLine | None:
        """Split as the kernel does; None when it cannot be told how the kernel would (not ASCII, or too long)."""
        words = command_line_words(text)
        if words is None:
            return None
        stop = words.index("--") if "--" in words else len(words)
        return cls(text, words[:stop], words[stop + 1 :])

    def values(self, name: str) -> tuple[str, ...]:
        """The values given to the kernel's parameter ``name``, in order; hyphen and underscore are one in names."""
        found = (word.partition("=") for word in self.kernel)
        return tuple(value for given, sign, value in found if sign and same_name(given, name))


def same_name(one: str, other: str) -> bool:
    """Whether two parameter names are one to the kernel."""
    return one.replace("-", "_") == other.replace("-", "_")


def measured_text(events: Iterable[BootEvent]) -> MeasuredText:
    """The command lines that events of PCR 8 and 12 prove."""
    texts: dict[str, None] = {}
    unclear: set[int] = set()
    for event in events:
        if event.pcr not in (_GRUB, _SYSTEMD):
            continue
        text = _text(event)
        if text is None:
            unclear.add(event.pcr)
        elif event.pcr == _SYSTEMD:
            texts[text] = None
        elif event.data.startswith(_KERNEL) or text.startswith(("/", "(")):  # no command begins like a path
            texts[text.partition(" ")[2]] = None
    return MeasuredText(tuple(texts), frozenset(unclear))


def _text(event: BootEvent) -> str | None:
    """The text that the digest of ``event`` proves; None when it proves none, or nothing that is plain text."""
    if event.measured is None:
        return None
    data = event.measured
    try:
        text = data.decode("utf-16-le" if len(data) > 1 and data[1] == 0 else "utf-8")
    except UnicodeDecodeError:
        return None
    return text.rstrip("\0") if "\0" not in text.rstrip("\0") else None


def command_line_forms(text: str) -> tuple[bytes, ...]:
    """The bytes as which a command line is measured: UEFI load options, and plain text, each with and without a NUL."""
    return tuple(f"{text}{end}".encode(form) for form in ("utf-16-le", "utf-8") for end in ("\0", ""))


def command_line_words(text: str) -> tuple[str, ...] | None:
    """The words, quotes taken away as the kernel does; None for what is not printable ASCII of at most 2047."""
    if len(text) > _MAX or not text.isascii() or not text.isprintable():
        return None
    words, at = [], 0
    while at < len(text):
        if text[at] == " ":
            at += 1
            continue
        stop, quoted = at, False
        while stop < len(text) and (quoted or text[stop] != " "):
            quoted ^= text[stop] == '"'
            stop += 1
        words.append(_unquoted(text[at:stop]))
        at = stop
    return tuple(words)


def _unquoted(word: str) -> str:
    """``"name=value"`` and ``name="value"`` are name=value to the kernel."""
    whole = word.startswith('"')
    name, sign, value = word[whole:].partition("=")
    inner = value.startswith('"')
    if (inner or whole) and value.endswith('"'):
        value = value[:-1]
    elif whole and not sign:
        name = name.removesuffix('"')
    return f"{name}{sign}{value[inner:] if value else value}"
