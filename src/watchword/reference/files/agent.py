"""What the agent itself is made of: a virtual environment, the interpreter under it, and its standard library.

Nothing of the environment is run to find out: ``pyvenv.cfg`` says where the interpreter is.
Source: PEP 405; Python, Lib/site.py (path configuration files).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from watchword.reference.files.refuse import bad_source
from watchword.reference.files.source import Source

__all__ = ["agent_sources"]

_SETTING = re.compile(r"^\s*(?P<key>[a-z_-]+)\s*=\s*(?P<value>.*?)\s*$", re.MULTILINE)
_VERSION = re.compile(r"3\.[0-9]{1,3}")
_MAX_CONFIGURATION = 64 * 1024
_INSTALL = "python3 -m venv /opt/watchword && /opt/watchword/bin/pip install watchword"


def agent_sources(environment: Path) -> list[Source]:
    """The virtual environment at the absolute path ``environment``, as it is there on the hosts too.

    System libraries (the C library, OpenSSL) are not among them: they belong to packages. Raises UsageError.
    """
    environment = environment.resolve()
    settings = _settings(environment / "pyvenv.cfg")
    version = _VERSION.match(settings.get("version") or settings.get("version_info") or "")
    interpreter = (environment / "bin/python").resolve()
    if version is None or not interpreter.is_file():
        bad_source(str(environment), "its pyvenv.cfg or bin/python does not lead to an interpreter", _INSTALL)
    base = Path(settings.get("home", "")).resolve().parent
    library = (base / f"lib/python{version[0]}").resolve()
    if not library.is_dir():
        bad_source(str(environment), f"its interpreter has no standard library in {library}")
    folders = [environment, library, *_path_files(environment / f"lib/python{version[0]}/site-packages")]
    singles = {interpreter, *(link.resolve() for link in (base / "lib").glob("libpython3*.so*"))}
    if settings.get("include-system-site-packages") == "true":
        folders += [folder for folder in (base / "lib/python3/dist-packages",) if folder.is_dir()]
    folders = [each for each in folders if not any(each.is_relative_to(other) and each != other for other in folders)]
    for folder in folders:
        singles |= set(_linked(folder))
    return [Source(folder, str(folder)) for folder in dict.fromkeys(folders)] + [
        Source(file, str(file), single=True)
        for file in sorted(singles)
        if not any(file.is_relative_to(folder) for folder in folders)
    ]


def _settings(file: Path) -> dict[str, str]:
    try:
        with file.open(encoding="utf-8") as stream:
            text = stream.read(_MAX_CONFIGURATION)
    except (OSError, UnicodeError):
        bad_source(str(file.parent), "is not a virtual environment of Python: pyvenv.cfg cannot be read", _INSTALL)
    return {found["key"]: found["value"] for found in _SETTING.finditer(text)}


def _path_files(site: Path) -> Iterator[Path]:
    """Folders that path configuration files add: packages that are installed in place."""
    for file in sorted(site.glob("*.pth")):
        for line in file.read_text("utf-8", "replace").splitlines():
            if line.strip() and not line.startswith(("#", "import ", "import\t")):
                folder = (site / line.strip()).resolve()
                if folder.is_dir():
                    yield folder


def _linked(folder: Path) -> Iterator[Path]:
    """Files outside of ``folder`` that symbolic links in it lead to: the kernel logs what a link leads to."""
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            if path.is_symlink() and path.is_file():
                yield path.resolve()
