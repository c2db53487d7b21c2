"""Artifacts made by the tools that everybody makes them with."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from watchword.reference.files import Options, RuntimeReferences, Source, collect

FILES = {
    "usr/bin/tool": b"#!/bin/sh\n",
    "usr/share/doc/tool/readme": b"read me",
    "bin/old": os.urandom(70_000),
    "e": b"",
}
#: Type, name: what a disk of the tests has before the partition that matters.
ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
ROOT = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
ENVIRONMENT = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "LC_ALL": "C"}


def need(tool: str) -> str:
    found = shutil.which(tool, path=ENVIRONMENT["PATH"])
    if found is None:
        pytest.skip(f"{tool} is not installed")
    return found


def tool(name: str, *arguments: object, **options: object) -> str:
    """Run a program that may not be installed; returns what it printed."""
    command = [need(name), *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT, **options)  # type: ignore[call-overload]
    return str(done.stdout.decode())


def expected(prefix: str = "") -> dict[str, list[str]]:
    found = {f"{prefix}/{name}": ["sha256:" + hashlib.sha256(content).hexdigest()] for name, content in FILES.items()}
    found[f"{prefix}/bin/same"] = found[f"{prefix}/bin/old"]
    return found


def listed(
    source: Path,
    options: Options = Options(),  # noqa: B008
    at: str = "/",
    partition: str | int | None = None,
) -> RuntimeReferences:
    return collect([Source(source, at, partition)], options)


def deb(tree: Path, compression: str = "xz") -> Path:
    (tree / "DEBIAN").mkdir(exist_ok=True)
    (tree / "DEBIAN/control").write_text(
        "Package: tool\nVersion: 1\nArchitecture: all\nMaintainer: M <m@example.org>\nDescription: d\n"
    )
    out = tree.parent / "tool.deb"
    tool("dpkg-deb", "--root-owner-group", f"-Z{compression}", "-b", tree, out)
    shutil.rmtree(tree / "DEBIAN")
    return out


def rpm(tree: Path, payload: str = "w6.gzdio") -> Path:
    spec = tree.parent / "tool.spec"
    spec.write_text(
        "Name: tool\nVersion: 1\nRelease: 1\nSummary: s\nLicense: x\nBuildArch: noarch\n"
        f"%description\nd\n%install\ncp -a {tree}/. %{{buildroot}}/\n%files\n/\n"
        f"%define _binary_payload {payload}\n%define __os_install_post %{{nil}}\n%define _build_id_links none\n"
    )
    where = ["--define", f"_topdir {tree.parent}/rb", "--define", f"_binary_payload {payload}"]
    tool("rpmbuild", *where, "--quiet", "-bb", spec)
    return next((tree.parent / "rb/RPMS").rglob("*.rpm"))


def tar(tree: Path, *flags: str, name: str = "root.tar") -> Path:
    out = tree.parent / name
    tool("tar", *flags, "-cf", out, "-C", tree, ".")
    return out


def ext4(tree: Path, *options: str, kind: str = "ext4") -> Path:
    out = tree.parent / "root.img"
    with out.open("wb") as file:
        file.truncate(16 << 20)
    tool("mke2fs", "-q", "-t", kind, *options, "-d", tree, out)
    return out


def squashfs(tree: Path, *options: str) -> Path:
    out = tree.parent / "root.squashfs"
    tool("mksquashfs", tree, out, "-quiet", "-no-progress", *options)
    return out


def disk(*partitions: tuple[str, str, Path]) -> Path:
    """A disk image with a GPT, partitioned by sfdisk: (type, name, content)."""
    out = partitions[0][2].parent / "disk.img"
    sizes = [-(-part.stat().st_size // (1 << 20)) for _, _, part in partitions]
    with out.open("wb") as file:
        file.truncate((sum(sizes) + 2) << 20)
    starts = [1 + sum(sizes[:i]) for i in range(len(sizes))]
    script = "label: gpt\n" + "".join(
        f"start={start * 2048}, size={size * 2048}, type={kind}, name={name}\n"
        for (kind, name, _), start, size in zip(partitions, starts, sizes, strict=True)
    )
    tool("sfdisk", "-q", out, input=script.encode())
    with out.open("r+b") as file:
        for (_, _, part), start in zip(partitions, starts, strict=True):
            file.seek(start << 20)
            file.write(part.read_bytes())
    return out
