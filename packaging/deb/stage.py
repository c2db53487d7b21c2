"""The files of one package while it is built: everything in place, with the times and modes that it will have."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import tempfile
from email.utils import formatdate
from importlib import metadata
from pathlib import Path

__all__ = ["MAINTAINER", "PYTHON", "Stage"]

PYTHON = "/usr/bin/python3"
_DROPPED = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")
MAINTAINER = "The Watchword authors <watchword@localhost>"


class Stage:
    """A root folder that becomes the package; ``epoch`` is the time of all that is in it, in seconds."""

    def __init__(self, root: Path, epoch: int) -> None:
        self.root, self.epoch = root, epoch
        self._licenses: dict[str, str] = {}
        root.mkdir()

    def text(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        target.chmod(mode)

    def copy(self, source: Path, path: str, mode: int = 0o644) -> None:
        """Copy a file."""
        self.text(path, source.read_bytes(), mode)

    def compressed(self, source: Path, path: str) -> None:
        """Copy a file, compressed with gzip, without name and time."""
        self.text(path, gzip.compress(source.read_bytes(), 9, mtime=0))

    def example(self, source: Path, package: str) -> None:
        """Copy a file to where examples are; scripts stay executable."""
        mode = 0o755 if os.access(source, os.X_OK) else 0o644
        self.copy(source, f"usr/share/doc/{package}/examples/{source.name}", mode)

    def install(self, folder: str, requirements: str) -> None:
        """Install locked wheels below ``folder``, exactly those that ``requirements`` names, by their hashes."""
        target = self.root / folder
        uv = shutil.which("uv") or str(Path(__file__).resolve().parents[2] / ".tools/bin/uv")
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(requirements)
            file.flush()
            command = [uv, "pip", "install", "--quiet", "--python", PYTHON, "--target", str(target), "--no-deps"]
            command += ["--require-hashes", "--only-binary", ":all:", "--link-mode", "copy", "--requirement", file.name]
            subprocess.run(command, check=True)
        shutil.rmtree(target / "bin", ignore_errors=True)
        (target / ".lock").unlink(missing_ok=True)
        for name in _DROPPED:  # about this installation, not about the distribution
            for path in target.glob(f"*.dist-info/{name}"):
                path.unlink()
        for each in metadata.distributions(path=[str(target)]):
            terms = each.metadata.get("License-Expression") or each.metadata.get("License") or ""
            kinds = [value for key, value in each.metadata.items() if key == "Classifier" and value.startswith("Lic")]
            short = terms.splitlines()[0][:80] if terms else ", ".join(kind.rpartition(":: ")[2] for kind in kinds)
            self._licenses[f"{each.name} {each.version}"] = short

    def compile(self, folder: str) -> None:
        """Compile all modules. What is compiled is bound to its source by the package, not by times or hashes."""
        command = [PYTHON, "-S", "-m", "compileall", "-q", "-f", "-s", str(self.root), "-p", "/"]
        command += ["--invalidation-mode", "unchecked-hash", str(self.root / folder)]
        environment = {"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
        subprocess.run(command, check=True, env=environment)

    def documents(self, package: str, checkout: Path) -> None:
        """Copyright, with the terms of all that is in the package, and changelogs."""
        folder = f"usr/share/doc/{package}"
        bundled = "".join(f"  {name}: {terms}\n" for name, terms in sorted(self._licenses.items()))
        about = """\
Watchword is licensed under the Apache License, version 2.0, which is on Debian
systems in /usr/share/common-licenses/Apache-2.0.

Copyright 2026 the Watchword authors
"""
        if bundled:
            about += f"""
The package also has these distributions of Python, unchanged. Their notices
and licenses are in their *.dist-info folders below /usr/lib/watchword.

{bundled}"""
        self.text(f"{folder}/copyright", about)
        self.compressed(checkout / "CHANGELOG.md", f"{folder}/changelog.gz")

    def settle(self) -> None:
        """Give every file and folder the time of the package, and folders the usual mode."""
        for path in [self.root, *self.root.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
            elif not path.is_symlink():
                program = path.stat().st_mode & 0o100 and path.suffix != ".py" and ".so" not in path.name
                path.chmod(0o755 if program else 0o644)
            os.utime(path, (self.epoch, self.epoch), follow_symlinks=False)

    def debian_changelog(self, package: str, version: str) -> None:
        """The short changelog that Debian's tools look for."""
        date = formatdate(self.epoch)
        entry = f"{package} ({version}) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- {MAINTAINER}  {date}\n"
        self.text(f"usr/share/doc/{package}/changelog.Debian.gz", gzip.compress(entry.encode(), 9, mtime=0))
