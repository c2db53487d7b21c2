"""PCR 8 and 9: GRUB measures each command before it runs, each file that it reads, and the kernel's command line.

Which commands run is told in two parts. First a list, as GRUB logs them ("grub_cmd: …"): what the configuration that
is built into the program does depends on the disk. When the list ends with ``source`` (or ``configfile``), that file is
read as GRUB reads it, as far as ``grub_script`` understands; else the list is all that runs.

Source: GRUB 2.06, grub-core/commands/tpm.c and lib/cmdline.c, with Debian's patches to the Linux loader; compared with
real boots of Debian's signed GRUB under shim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from watchword.errors import MalformedError, UsageError
from watchword.reference.boot.events import Measure, Predicted
from watchword.reference.boot.grub_script import Command, MenuEntry, parse_script, split_words
from watchword.wire.pe import PeImage

__all__ = ["Grub", "check_grub"]

_VERSION = "2.06-"

_SOURCES = frozenset({"source", ".", "configfile"})
_KERNELS = frozenset({"linux", "linuxefi"})
_INITRDS = frozenset({"initrd", "initrdefi"})
#: Commands that read no file. Whatever else a command does shows in the later ones.
_HARMLESS = frozenset({"set", "unset", "export", "echo", "clear", "sleep", "setparams", "menuentry", "true"}) | {
    "[",
    "test",
}
_MAX_COMMANDS = 10_000


def check_grub(data: bytes) -> PeImage:
    """GRUB's program, when it is one that was compared. Raises MalformedError, UsageError."""
    image = PeImage.parse(data)
    section = image.section(".sbat")
    text = "" if section is None else image.content(section).decode("ascii", "replace")
    rows = [line.split(",") for line in text.splitlines() if line.startswith("grub")]
    if not rows:
        raise MalformedError("not GRUB: it does not say so in its SBAT section")
    if not any(row[0] == "grub.debian" and len(row) > 4 and row[4].startswith(_VERSION) for row in rows):
        raise UsageError(
            "boot-unknown",
            f"what this GRUB measures is not known here, only that of Debian's {_VERSION.rstrip('-')}",
            hint="capture this component from a host, and please tell us",
        )
    return image


class Grub:
    """One run of GRUB. ``files`` maps each path, as the commands write it, to its content.

    ``built_in`` are modules inside the program: ``insmod`` of them reads no file. ``verified`` tells that shim checks
    the kernel for it, which measures the program twice (by GRUB's verifier and by its loader).
    """

    def __init__(
        self, measure: Measure, files: Mapping[str, bytes], built_in: Sequence[str] = (), *, verified: bool
    ) -> None:
        self.measure, self.files, self.built_in, self.verified = measure, files, frozenset(built_in), verified
        self.events: list[Predicted] = []
        self.kernel: bytes | None = None
        self.initrds: list[bytes] = []
        self.variables: dict[str, str] = {}
        self._used: set[str] = set()
        self._count = 0

    def run(self, commands: Sequence[str]) -> list[Predicted]:
        """All events of GRUB after it was started. Raises UsageError for what is not understood."""
        for i, line in enumerate(commands):
            words = split_words(line)
            self.command(words)
            if words[0] in _SOURCES and i == len(commands) - 1:
                self.script(self.files[words[-1]])
        if self.kernel is None:
            raise UsageError("grub-script", "the commands of GRUB load no kernel")
        unused = sorted(set(self.files) - self._used)
        if unused:
            raise UsageError("grub-script", f"GRUB reads no file {unused[0]} when these commands run")
        return self.events

    def script(self, data: bytes) -> None:
        """A configuration file, and then its default menu entry."""
        try:
            text = data.decode("ascii")
        except UnicodeDecodeError:
            raise UsageError("grub-script", "grub.cfg: not plain ASCII") from None
        entries: list[tuple[MenuEntry, list[str]]] = []
        for statement in parse_script(text):
            if isinstance(statement, MenuEntry):
                words = statement.command.expand(self.look_up)
                self.command([*words, statement.source])
                entries.append((statement, words))
            else:
                self.scripted(statement)
        self.choose(entries)

    def choose(self, entries: Sequence[tuple[MenuEntry, list[str]]]) -> None:
        """Run the entry that GRUB takes when nobody is there: the number in ``default``, 0 if it is not set."""
        default = self.variables.get("default", "0")
        if not default.isdecimal() or int(default) >= len(entries):
            raise UsageError("grub-script", f"grub.cfg: default is {default!r}, not the number of a menuentry")
        entry, words = entries[int(default)]
        if len(words) < 2:
            raise UsageError("grub-script", f"grub.cfg line {entry.command.line}: a menuentry without a title")
        self.command(["setparams", words[1]])
        for command in entry.body:
            self.scripted(command)

    def scripted(self, command: Command) -> None:
        words = command.expand(self.look_up)
        if words[0] in _SOURCES:
            raise UsageError("grub-script", f"grub.cfg line {command.line}: another configuration file")
        self.command(words)
        if words[0] == "set":
            for assignment in words[1:]:
                name, equals, value = assignment.partition("=")
                if not equals or not name:
                    raise UsageError("grub-script", f"grub.cfg line {command.line}: not an assignment")
                self.variables[name] = value
        elif words[0] == "unset":
            for name in words[1:]:
                self.variables.pop(name, None)

    def look_up(self, name: str, line: int) -> str:
        if name not in self.variables:
            raise UsageError("grub-script", f"grub.cfg line {line}: ${name} is not set in this file")
        return self.variables[name]

    def command(self, words: list[str]) -> None:
        """One command: it is measured as its words, then it does what it does."""
        self._count += 1
        if self._count > _MAX_COMMANDS:
            raise UsageError("grub-script", f"more than {_MAX_COMMANDS} commands")
        text = " ".join(words)
        self.events.append(self.measure.data(8, text.encode(), f"grub_cmd: {text.splitlines()[0] if text else ''}"))
        name, arguments = words[0], words[1:]
        if name in _SOURCES or name in _KERNELS:
            if not arguments:
                raise UsageError("grub-script", f"the command {name} without a file")
            content = self.read(arguments[0], name)
            if name in _KERNELS:
                self.load(content, arguments)
        elif name in _INITRDS:
            self.initrds += [self.read(path, name) for path in arguments]
        elif name == "insmod":
            self.insert(arguments)
        elif name not in _HARMLESS:
            raise UsageError("grub-script", f"what GRUB's command {name} reads is not known here")

    def load(self, content: bytes, arguments: list[str]) -> None:
        self.kernel = content
        if self.verified:
            program = PeImage.parse(content)
            self.events.append(self.measure.program(program, "kernel, verified by shim for GRUB's verifier"))
            self.events.append(self.measure.program(program, "kernel, verified by shim for GRUB's loader"))
        line = " ".join(map(_quoted, arguments))
        self.events.append(self.measure.data(8, line.encode(), f"kernel_cmdline: {line}"))

    def insert(self, modules: list[str]) -> None:
        for module in modules:
            if module not in self.built_in:
                raise UsageError(
                    "grub-script",
                    f"insmod {module}: not among the modules that are built in",
                    hint='add it to "built-in"',
                )

    def read(self, path: str, command: str) -> bytes:
        """A file is measured when GRUB reads it."""
        content = self.files.get(path)
        if content is None:
            raise UsageError("grub-script", f"{command} reads {path}, which is not among the files", hint='see "files"')
        self._used.add(path)
        self.events.append(self.measure.data(9, content, f"GRUB reads {path}"))
        return content


def _quoted(argument: str) -> str:
    """An argument on the kernel's command line (GRUB, grub_create_loader_cmdline)."""
    text = "".join(f"\\{c}" if c in "\\'\"" else c for c in argument)
    return f'"{text}"' if " " in text else text
