"""The part of GRUB's script language that is understood: commands, quotes, variables, menu entries.

Everything else is refused by name and line: what GRUB would do with ``if`` or ``$(…)`` may depend on the machine.

Source: GRUB 2.06 manual, "Writing full configuration files directly"; grub-core/script.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from watchword.errors import UsageError

__all__ = ["MAX_SCRIPT", "Command", "MenuEntry", "parse_script", "split_words"]

MAX_SCRIPT = 1 << 20  # bytes
_REFUSED = frozenset(
    {"if", "then", "elif", "else", "fi", "for", "in", "do", "done", "while", "until", "case", "esac"}
    | {"function", "select", "time", "submenu", "!", "[["}
)
_SPECIAL = frozenset("&|<>()*?")  # the last two would match the names of files
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


class Part(NamedTuple):
    """A part of a word: a text, or with ``named`` a variable; its value is taken apart at spaces unless ``quoted``."""

    text: str
    named: bool = False
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """A simple command at a line of its file: its words with the variables in them not looked up yet."""

    line: int
    words: tuple[tuple[Part, ...], ...]

    def expand(self, look_up: Callable[[str, int], str]) -> list[str]:
        """The words; ``look_up`` gives the value of a variable and is told the line. Raises UsageError."""
        found: list[str] = []
        for word in self.words:
            pieces = [""]
            for part in word:
                value = look_up(part.text, self.line) if part.named else part.text
                if part.named and not part.quoted:
                    first, *more = self._split(part.text, value)
                    pieces[-1] += first
                    pieces += more
                else:
                    pieces[-1] += value
            found += pieces
        return found

    def _split(self, name: str, value: str) -> list[str]:
        pieces = value.split(" ")
        if not all(pieces):
            why = f"${name} is empty, or has spaces at an end or together"
            raise UsageError("grub-script", f"grub.cfg line {self.line}: {why}", hint="put it into double quotes")
        return pieces


@dataclass(frozen=True, slots=True)
class MenuEntry:
    """A ``menuentry``: the command before its block, the block as it is written, and the commands in it."""

    command: Command
    source: str
    body: tuple[Command, ...]


def parse_script(text: str) -> list[Command | MenuEntry]:
    """All commands and menu entries of a configuration file. Raises UsageError with the line."""
    if len(text) > MAX_SCRIPT:
        raise UsageError("grub-script", f"grub.cfg: {len(text)} characters, {MAX_SCRIPT} are allowed")
    return _Scanner(text).script()


def split_words(line: str) -> list[str]:
    """The words of one command that GRUB measured: they were joined with a space, quotes and variables resolved."""
    return line.split(" ")


class _Scanner:
    """Reads one file from its start to its end."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.line = text, 0, 1

    def refuse(self, why: str, line: int | None = None) -> UsageError:
        return UsageError(
            "grub-script",
            f"grub.cfg line {line or self.line}: {why}",
            hint="give the commands that will run as a list",
        )

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def next(self) -> str:
        character = self.peek()
        self.at += 1
        self.line += character == "\n"
        return character

    def script(self) -> list[Command | MenuEntry]:
        found: list[Command | MenuEntry] = []
        while self.skip():
            command = self.command()
            if command.words[0] == (Part("menuentry"),):
                found.append(self.entry(command))
            elif self.peek() == "{":
                raise self.refuse("a block that does not belong to a menuentry")
            else:
                found.append(command)
        return found

    def entry(self, command: Command) -> MenuEntry:
        if self.peek() != "{":
            raise self.refuse("a menuentry without a block", command.line)
        start = self.at
        self.next()
        body: list[Command] = []
        while True:
            if not self.skip():
                raise self.refuse("a block has no end", command.line)
            if self.peek() == "}":
                self.next()
                return MenuEntry(command, self.text[start : self.at], tuple(body))
            body.append(self.command())
            if self.peek() == "{":
                raise self.refuse("a block inside a block")

    def skip(self) -> bool:
        """Go on to the next command; False at the end of the file."""
        while self.peek() and (self.peek() in " \t\n;" or self.peek() == "#"):
            if self.peek() == "#":
                while self.peek() not in ("", "\n"):
                    self.next()
            else:
                self.next()
        return bool(self.peek())

    def command(self) -> Command:
        line, words = self.line, []
        while True:
            while self.peek() in (" ", "\t"):
                self.next()
            if self.peek() in ("", "\n", ";", "#", "{", "}"):
                break
            words.append(tuple(self.word()))
        if not words:
            raise self.refuse(f"{self.peek()!r} where a command should begin")
        name = words[0][0]
        if len(words[0]) != 1 or name.named:
            raise self.refuse("a command whose name is not written out", line)
        if name.text in _REFUSED:
            raise self.refuse(f"{name.text} is not understood", line)
        return Command(line, tuple(words))

    def word(self) -> list[Part]:
        parts: list[Part] = []
        while self.peek() not in ("", " ", "\t", "\n", ";"):
            character = self.peek()
            if character in _SPECIAL or character in "{}":
                raise self.refuse(f"{character!r} is not understood")
            if character == "'":
                parts.append(Part(self.single()))
            elif character == '"':
                parts += self.double()
            elif character == "\\":
                self.next()
                if self.peek() in ("", "\n"):
                    raise self.refuse("a line that goes on in the next")
                parts.append(Part(self.next()))
            elif character == "$":
                parts.append(Part(self.variable(), named=True))
            else:
                parts.append(Part(self.next()))
        return _merged(parts)

    def single(self) -> str:
        self.next()
        end = self.text.find("'", self.at)
        if end < 0 or "\n" in self.text[self.at : end]:
            raise self.refuse("a quote without its end in the same line")
        text, self.at = self.text[self.at : end], end + 1
        return text

    def double(self) -> list[Part]:
        self.next()
        parts = [Part("")]
        while self.peek() != '"':
            if self.peek() in ("", "\n", "\\"):
                raise self.refuse("a quote without its end in the same line, or with a backslash in it")
            parts.append(Part(self.variable(), named=True, quoted=True) if self.peek() == "$" else Part(self.next()))
        self.next()
        return parts

    def variable(self) -> str:
        self.next()
        braces = self.peek() == "{"
        if braces:
            self.next()
        start = self.at
        while self.peek() in _NAME and self.peek():
            self.next()
        name = self.text[start : self.at]
        if not name or name[0].isdigit() or (braces and self.next() != "}"):
            raise self.refuse("something after $ that is not the name of a variable")
        return name


def _merged(parts: list[Part]) -> list[Part]:
    """Neighbouring pieces of text as one."""
    found: list[Part] = []
    for part in parts:
        if found and not part.named and not found[-1].named:
            found[-1] = Part(found[-1].text + part.text)
        else:
            found.append(part)
    return found
