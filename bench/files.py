"""Reference values of a whole image: 100,000 files, 2 GB, in ext4, as directory and as tar archive.

CPU is user and system time of this process and of the tools that it runs; the image is in the page cache.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.measure import Figure
from watchword.reference.files import Options, Source, collect

__all__ = ["ext4_image", "run"]

_SIZES = (500, 2_000, 8_000, 20_000, 72_000)  # bytes; 20,500 on average
_MEGABYTES_MORE = 1.45


def run(count: int) -> Iterator[Figure]:
    """Microseconds of CPU for each of ``count`` files; wall time and memory in the notes."""
    with TemporaryDirectory(prefix="watchword-bench-") as scratch:
        tree, image, archive = Path(scratch, "tree"), Path(scratch, "root.img"), Path(scratch, "root.tar")
        size = ext4_image(tree, image, count)
        subprocess.run(["tar", "-cf", archive, "-C", tree, "."], check=True)
        for name, source in (("files, ext4", image), ("files, directory", tree), ("files, tar", archive)):
            yield _figure(name, source, count, size)


def ext4_image(tree: Path, image: Path, count: int) -> int:
    """Make a ``tree`` of ``count`` files and an ext4 ``image`` of it; returns the bytes in the files."""
    size = _tree(tree, count)
    mke2fs = shutil.which("mke2fs", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or "mke2fs"
    blocks = f"{int(size * _MEGABYTES_MORE) // 1024 + 32 * 1024}k"
    subprocess.run(
        [mke2fs, "-q", "-t", "ext4", "-N", str(count + 20_000), "-d", tree, image, blocks],
        check=True,
        capture_output=True,
    )
    return size


def _figure(name: str, source: Path, count: int, size: int) -> Figure:
    wall, cpu = time.monotonic(), _cpu()
    found = collect([Source(source)], Options())
    cpu, wall = _cpu() - cpu, time.monotonic() - wall
    if len(found.files) != count:
        raise SystemExit(f"{name}: {len(found.files)} files instead of {count}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    note = f"{size / 1e9:.1f} GB: {wall:.1f} s wall, {cpu:.1f} s CPU; {memory} MiB of memory so far"
    each = cpu / count * 1e6
    return Figure(name, each, each, each, 1, note)


def _cpu() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))


def _tree(tree: Path, count: int) -> int:
    """Write the files; returns their bytes. The sizes and places are the same every time."""
    draw, block, size = random.Random(1), random.Random(2).randbytes(1 << 20), 0
    for i in range(count):
        folder = tree / f"usr/lib/part{i % 50:02}/python3/dist-packages/module{i // 500 % 100}"
        folder.mkdir(parents=True, exist_ok=True)
        start, length = draw.randrange(1 << 19), draw.choice(_SIZES)
        content = i.to_bytes(8, "big") + block[start : start + length]
        (folder / f"file_of_some_length_{i}.py").write_bytes(content)
        size += len(content)
    return size
