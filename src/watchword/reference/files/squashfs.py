"""squashfs images, through ``sqfs2tar``, which turns one into a tar archive as a stream.

Source: squashfs-tools-ng, sqfs2tar(1).
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO, cast

from watchword.errors import MalformedError
from watchword.reference.files.compression import Bounded, Slice
from watchword.reference.files.member import CHUNK, Link, Member, Skipped
from watchword.reference.files.refuse import bad_artifact, missing_tool
from watchword.reference.files.tar import tar_members

__all__ = ["SQUASHFS_MAGIC", "squashfs_members"]

SQUASHFS_MAGIC = b"hsqs"
_RATIO = 1000  # bytes of files for each byte of the image
_ALWAYS = 64 * 1024 * 1024
_SHOWN = 200
_LAST_WORDS = 2.0  # seconds from the end of its output to the end of the tool


def squashfs_members(artifact: str, file: BinaryIO, size: int) -> Iterator[Member | Link | Skipped]:
    """The files of the image in ``file``, which has ``size`` bytes, each to be read before the next is asked for.

    Raises MalformedError when it is broken or expands beyond measure; Unavailable without ``sqfs2tar``.
    """
    tool = shutil.which("sqfs2tar")
    if tool is None:
        missing_tool(artifact, "sqfs2tar", "squashfs-tools-ng")
    descriptor = file.fileno()
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(  # noqa: S603
            [tool, "--no-skip", f"/proc/self/fd/{descriptor}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            pass_fds=[descriptor],
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        ) as process,
    ):
        try:
            yield from _members(artifact, process, max(_ALWAYS, _RATIO * size))
            failed = process.wait() != 0
        except MalformedError:
            with suppress(subprocess.TimeoutExpired):  # it still writes: then it has not failed
                process.wait(_LAST_WORDS)
            if process.returncode in (None, 0):
                raise
            failed = True
        finally:
            process.kill()  # it only reads
        if failed:
            said.seek(0)
            words = said.read(_SHOWN).decode("utf-8", "replace").partition("\n")[0]
            bad_artifact(artifact, f"its file system is broken (sqfs2tar: {words})")


def _members(artifact: str, process: subprocess.Popen[bytes], most: int) -> Iterator[Member | Link | Skipped]:
    source = Slice(cast(BinaryIO, process.stdout), most)
    for member in tar_members(artifact, Bounded(artifact, cast(BinaryIO, io.BufferedReader(source, CHUNK)), source)):
        yield member
        if source.taken >= most:
            bad_artifact(artifact, f"expands to more than {_RATIO} times its size: a decompression bomb")
