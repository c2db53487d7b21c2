"""One binary package out of a staged root: control file, maintainer scripts, sums, and the archive by dpkg-deb."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stage import MAINTAINER, Stage

__all__ = ["Package", "build"]


@dataclass(frozen=True, slots=True)
class Package:
    """Name, version, and the entry of packages.toml."""

    name: str
    version: str
    about: dict[str, Any]

    @property
    def architecture(self) -> str:
        """The machine's, unless nothing in the package is compiled for one."""
        ask = ["dpkg", "--print-architecture"]
        return "all" if self.about.get("all") else subprocess.check_output(ask, text=True).strip()


def build(package: Package, stage: Stage, scripts: Path, out: Path, compression: str) -> Path:
    """Write ``OUT/NAME_VERSION_ARCHITECTURE.deb`` with a ``compression`` of dpkg-deb's, and return its path."""
    stage.debian_changelog(package.name, package.version)
    files = sorted(path for path in stage.root.rglob("*") if path.is_file())
    sums = "".join(
        f"{hashlib.md5(f.read_bytes(), usedforsecurity=False).hexdigest()}  {f.relative_to(stage.root)}\n"
        for f in files
    )
    size = sum(-(-file.stat().st_size // 1024) for file in files)
    stage.text("DEBIAN/md5sums", sums)
    stage.text("DEBIAN/control", _control(package, _libraries(files), size))
    for script in sorted(scripts.glob(f"{package.name}.*")):
        stage.copy(script, f"DEBIAN/{script.suffix[1:]}", 0o755)
    stage.settle()
    path = out / f"{package.name}_{package.version}_{package.architecture}.deb"
    command = ["dpkg-deb", "--root-owner-group", "--threads-max=1", f"-Z{compression}", "-z3"]
    command += ["--build", str(stage.root), str(path)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(stage.epoch)}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return path


def _sum(file: Path) -> str:
    """What dpkg --verify compares with: MD5, against accidents only."""
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


def _control(package: Package, libraries: list[str], size: int) -> str:
    about = package.about
    first = [] if package.name == "watchword" or about.get("all") else [f"watchword (= {package.version})"]
    depends = [*first, *about.get("depends", []), *libraries]
    lines = [f"Package: {package.name}", "Source: watchword", f"Version: {package.version}"]
    lines += [f"Architecture: {package.architecture}", f"Maintainer: {MAINTAINER}", f"Installed-Size: {size}"]
    lines += [f"Depends: {', '.join(depends)}"] if depends else []
    lines += [
        f"{field}: {', '.join(about[field.lower()])}" for field in ("Suggests", "Enhances") if field.lower() in about
    ]
    lines += ["Section: admin", "Priority: optional", f"Description: {about['summary']}"]
    return "\n".join([*lines, *(f" {line}" for line in about["description"].strip().splitlines())]) + "\n"


def _libraries(files: list[Path]) -> list[str]:
    """Packages of the shared libraries that compiled modules need, as dpkg-shlibdeps finds them."""
    compiled = [str(file) for file in files if ".so" in file.name and file.read_bytes()[:4] == b"\x7fELF"]
    if not compiled:
        return []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "debian").mkdir()
        Path(folder, "debian", "control").write_text("Source: watchword\n\nPackage: watchword\nArchitecture: any\n")
        private = sorted({f"-l{Path(file).parent}" for file in compiled})
        command = ["dpkg-shlibdeps", "-O", "--ignore-missing-info", "--warnings=0", *private, *compiled]
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    [line] = re.findall(r"^shlibs:Depends=(.*)$", done.stdout, re.MULTILINE)
    return line.split(", ")
