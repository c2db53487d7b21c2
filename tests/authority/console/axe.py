"""axe-core, which checks pages for accessibility: an npm package of a fixed version, fetched once, never kept here."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

__all__ = ["axe_source"]

VERSION = "4.14.1"
SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"


def axe_source() -> str:
    """The script; the test is left out where npm, or the package, is not to be had."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "watchword-tests"
    archive = cache / f"axe-core-{VERSION}.tgz"
    if not archive.exists():
        _fetch(cache)
    if not archive.exists():
        pytest.skip(f"axe-core {VERSION} is not here, and npm cannot fetch it")
    with tarfile.open(archive) as package:
        member = package.extractfile("package/axe.min.js")
        assert member
        source = member.read()
    assert hashlib.sha256(source).hexdigest() == SHA256
    return source.decode()


def _fetch(cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    if shutil.which("npm"):
        command = ["npm", "pack", "--silent", f"axe-core@{VERSION}"]
        try:
            subprocess.run(command, cwd=cache, capture_output=True, timeout=60, check=False)
        except subprocess.TimeoutExpired:
            return
