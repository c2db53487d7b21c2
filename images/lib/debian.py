"""Debian packages by name: download once into a cache, check the hash apt signed for, unpack without installing."""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

URI_LINE = re.compile(r"^'(?P<uri>[^']+)' (?P<file>\S+) \d+ SHA256:(?P<sha256>[0-9a-f]{64})$", re.MULTILINE)


def cache_folder() -> Path:
    """Return the folder for everything fetched: $WATCHWORD_CACHE, or ~/.cache/watchword."""
    named = os.environ.get("WATCHWORD_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "watchword"


def fetch(*packages: str) -> dict[str, Path]:
    """Return the .deb of the newest version of each package that apt knows, from the cache if its hash matches.

    Raises SystemExit with advice when apt does not know a package.
    """
    answer = _ask("apt-get", "download", "--print-uris", *packages)
    lines = {line["file"].partition("_")[0]: line for line in URI_LINE.finditer(answer.stdout)}
    if answer.returncode != 0 or set(lines) != set(packages):
        raise SystemExit(f"error: apt does not know all of {packages}\nhint: run apt-get update first\n{answer.stderr}")
    folder = cache_folder() / "debs"
    folder.mkdir(parents=True, exist_ok=True)
    debs = {package: folder / line["file"].replace(":", "%3a") for package, line in lines.items()}
    missing = [p for p in packages if not _is(debs[p], lines[p]["sha256"])]
    if missing:
        # apt drops privileges to a user that cannot write into a private cache folder.
        quiet = ["-qq", "-o", "APT::Sandbox::User=root"]
        subprocess.run(["apt-get", *quiet, "download", *missing], cwd=folder, check=True)
    for package in missing:
        if not _is(debs[package], lines[package]["sha256"]):
            raise SystemExit(f"error: {debs[package].name} does not have the hash that apt names")
    return debs


def unpack(*packages: str) -> dict[str, Path]:
    """Return a folder with the files of each package, unpacked in the cache the first time."""
    return {package: _unpack(deb) for package, deb in fetch(*packages).items()}


def _unpack(deb: Path) -> Path:
    tree = cache_folder() / "trees" / deb.stem
    if not tree.exists():
        partial = tree.with_name(f"{tree.name}.{os.getpid()}")
        partial.mkdir(parents=True)
        subprocess.run(["dpkg-deb", "-x", deb, partial], check=True)
        try:
            partial.rename(tree)
        except OSError:  # another build was faster: its tree is as good as ours
            shutil.rmtree(partial)
    return tree


def cloud_kernel() -> str:
    """Return the name of the newest package with Debian's kernel for clouds."""
    answer = _ask("apt-cache", "depends", "linux-image-cloud-amd64")
    name = re.search(r"Depends: (linux-image-\S+)", answer.stdout)
    if name is None:
        raise SystemExit("error: apt does not know linux-image-cloud-amd64\nhint: run apt-get update first")
    return name[1]


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})


def _is(path: Path, sha256: str) -> bool:
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256
