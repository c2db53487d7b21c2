"""An ext4 file system from a tree, without root."""

import os
import subprocess
import tempfile
from pathlib import Path

from lib.rootfs import Rootfs

EPOCH = "1700000000"
IDENTITY = "5b1c1c1e-5a0c-4f6e-9c39-6d0b8f6f7a10"


def image(tree: Rootfs, megabytes: int, attributes: dict[str, bytes] | None = None) -> bytes:
    """Return an ext4 file system of `megabytes` that holds `tree`.

    attributes: path of a file to the value of its extended attribute security.ima.
    """
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "E2FSPROGS_FAKE_TIME": EPOCH}
    with tempfile.TemporaryDirectory() as scratch:
        staging, output = Path(scratch, "root"), Path(scratch, "root.ext4")
        _write(tree, staging)
        options = ["-q", "-t", "ext4", "-b", "1024", "-m", "0", "-I", "256", "-L", "root", "-U", IDENTITY]
        options += ["-E", f"root_owner=0:0,hash_seed={IDENTITY},lazy_itable_init=0", "-d", str(staging)]
        output.touch()
        subprocess.run(["mke2fs", *options, output, f"{megabytes}M"], env=environment, check=True)
        for path, value in (attributes or {}).items():
            part = Path(scratch, "value")
            part.write_bytes(value)
            command = f"ea_set -f {part} {path} security.ima"
            subprocess.run(["debugfs", "-w", "-R", command, output], env=environment, check=True, capture_output=True)
        return output.read_bytes()


def _write(tree: Rootfs, folder: Path) -> None:
    for path in ["/", *tree.all_folders()]:
        (folder / path[1:]).mkdir(parents=True, exist_ok=True)
    for path, (mode, content) in tree.files.items():
        target = folder / path[1:]
        target.write_bytes(content)
        target.chmod(mode)
    for path, to in tree.links.items():
        (folder / path[1:]).symlink_to(to)
