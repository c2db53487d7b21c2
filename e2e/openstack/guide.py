"""The operator's and the tenant's guide, as a program: what they print is what the run does, so they cannot differ."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Guide", "toml"]

_BLOCK = re.compile(r"^```([a-z]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Guide:
    """``docs/howto`` and ``packaging`` of the ``checkout``; LookupError when a page does not have it any more."""

    def __init__(self, checkout: Path) -> None:
        self._checkout = checkout

    def _blocks(self, page: str, language: str) -> list[str]:
        text = (self._checkout / "docs" / "howto" / f"{page}.md").read_text()
        return [body for kind, body in _BLOCK.findall(text) if kind == language]

    def block(self, page: str, language: str, having: str) -> str:
        """The one code block of ``page`` in which ``having`` occurs."""
        found = [body for body in self._blocks(page, language) if having in body]
        if len(found) != 1:
            raise LookupError(f"{page}.md has {len(found)} blocks of {language} with {having!r}")
        return found[0]

    def command(self, page: str, beginning: str) -> list[str]:
        """The arguments behind ``watchword`` of the first command of ``page`` that begins with ``beginning``."""
        for body in self._blocks(page, "console"):
            for line in body.replace("\\\n", " ").splitlines():
                words = shlex.split(line.lstrip("#$ "))
                if words[:1] == ["watchword"] and " ".join(words[1:]).startswith(beginning):
                    return words[1:]
        raise LookupError(f"{page}.md has no command that begins with: watchword {beginning}")

    def typed(self, page: str, having: str) -> tuple[bool, str]:
        """Whether root types it (a prompt ``#``), and the one command line of ``page`` in which ``having`` occurs."""
        lines = {
            line
            for body in self._blocks(page, "console")
            for line in body.replace("\\\n", " ").splitlines()
            if line.startswith(("# ", "$ ")) and having in line
        }
        if len(lines) != 1:
            raise LookupError(f"{page}.md has {len(lines)} command lines with {having!r}")
        [line] = lines
        return line.startswith("#"), line[2:]

    def settings(self, page: str, having: str) -> dict[str, dict[str, object]]:
        """Sections of an oslo.config snippet; an option that is repeated is a list."""
        parser = _Repeating(strict=False, interpolation=None, default_section="none")
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(self.block(page, "ini", having))
        return {name: dict(_values(parser[name])) for name in parser.sections()}

    def packaged(self, name: str) -> str:
        """A file of ``packaging``."""
        return (self._checkout / "packaging" / name).read_text()

    def packaged_settings(self, name: str, **sections: Mapping[str, object]) -> str:
        """A TOML file of ``packaging`` with ``sections`` changed: all that differs from what the guide says to do."""
        document: dict[str, Any] = tomllib.loads(self.packaged(name))
        for section, options in sections.items():
            document.setdefault(section, {}).update(options)
        return toml(document)


class _Repeating(configparser.ConfigParser):
    """Keeps every value of an option that is repeated, one a line: what oslo.config calls a MultiStrOpt."""

    def __init__(self, **options: Any) -> None:
        super().__init__(dict_type=_Joined, **options)


class _Joined(dict[str, Any]):
    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, list) and isinstance(self.get(key), list):
            value = [*self[key], *value]
        super().__setitem__(key, value)


def _values(section: Mapping[str, str]) -> dict[str, object]:
    return {key: value.split("\n") if "\n" in value else value for key, value in section.items()}


def toml(document: Mapping[str, Mapping[str, object]]) -> str:
    """Sections of numbers, texts and lists of texts, as TOML: JSON writes these like TOML does."""
    lines = []
    for section, options in document.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in options.items())]
    return "\n".join(lines) + "\n"
