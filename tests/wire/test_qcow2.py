"""qcow2 images as QEMU writes them, compared with what QEMU itself reads; and images that nobody should take."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from watchword.agent.images import DigestCache, HeldImage
from watchword.errors import MalformedError, Rejected
from watchword.wire.qcow2 import Qcow2

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


def qemu(*line: object) -> None:
    subprocess.run([str(part) for part in line], check=True, capture_output=True, timeout=60)


def as_qemu_reads(path: Path, form: str) -> bytes:
    out = path.with_suffix(".out")
    qemu("qemu-img", "convert", "-f", form, "-O", "raw", path, out)
    return out.read_bytes()


@pytest.mark.parametrize("options", ["compat=1.1", "compat=0.10", "cluster_size=512", "cluster_size=2M"])
def test_the_content_is_what_qemu_reads(tmp_path: Path, options: str) -> None:
    image = tmp_path / "image"
    qemu("qemu-img", "create", "-f", "qcow2", "-o", options, image, "5M")
    for start, value in ((0, 1), (70_000, 2), (3 << 20, 3), ((5 << 20) - 4096, 4)):
        qemu("qemu-io", "-f", "qcow2", "-c", f"write -P {value} {start - start % 512} 4096", image)
    with HeldImage(image, "qcow2") as held:
        assert held.digest(None, DigestCache()) == hashlib.sha256(as_qemu_reads(image, "qcow2")).digest()


def test_a_chain_is_what_qemu_reads(tmp_path: Path) -> None:
    base, middle, top = tmp_path / "base", tmp_path / "middle", tmp_path / "top"
    base.write_bytes(os.urandom(300_000))
    qemu("qemu-img", "create", "-f", "qcow2", "-F", "raw", "-b", base, middle)
    qemu("qemu-io", "-f", "qcow2", "-c", "write -P 7 65536 512", "-c", "write -z 131072 65536", middle)
    qemu("qemu-img", "create", "-f", "qcow2", "-F", "qcow2", "-b", "middle", top)
    with HeldImage(top, "qcow2") as held:
        content = as_qemu_reads(top, "qcow2")
        assert held.digest(held.size, DigestCache()) == hashlib.sha256(content).digest()
        assert len(held.states) == 3


def test_a_backing_file_must_have_a_format(tmp_path: Path) -> None:
    base, top = tmp_path / "base", tmp_path / "top"
    base.write_bytes(bytes(65536))
    qemu("qemu-img", "create", "-f", "qcow2", "-F", "raw", "-b", base, top)
    data = bytearray(top.read_bytes())
    place = data.index(bytes.fromhex("e2792aca"))
    data[place : place + 4] = b"\1\2\3\4"
    top.write_bytes(data)
    with pytest.raises(MalformedError):
        Qcow2.parse(bytes(data[:65536]))
    with pytest.raises(Rejected) as refused, HeldImage(top, "qcow2"):
        pass
    assert refused.value.code == "disk-format"


@pytest.mark.parametrize(
    "make",
    [
        lambda p: qemu("qemu-img", "create", "-f", "qcow2", "-o", f"data_file={p}.data", p, "1M"),
        lambda p: qemu("qemu-img", "create", "-f", "qcow2", "-o", "extended_l2=on", p, "1M"),
        lambda p: p.write_bytes(b"QFI\xfb" + bytes(200)),
        lambda p: p.write_bytes(b""),
    ],
    ids=["data-file", "extended", "zeros", "empty"],
)
def test_other_images_are_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "image")
    with pytest.raises(Rejected) as refused, HeldImage(tmp_path / "image", "qcow2"):
        pass
    assert (refused.value.clause, refused.value.code) == ("L2", "disk-format")


def test_compressed_clusters_are_refused(tmp_path: Path) -> None:
    raw, image = tmp_path / "raw", tmp_path / "image"
    raw.write_bytes(b"a" * (1 << 20))
    qemu("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, image)
    with HeldImage(image, "qcow2") as held, pytest.raises(Rejected):
        held.digest(None, DigestCache())


def test_any_bytes_are_a_header_or_malformed() -> None:
    good = bytearray(b"QFI\xfb" + (2).to_bytes(4, "big") + bytes(64))
    for position in range(len(good)):
        for value in (0xFF, 0x80, 1):
            data = bytes(good[:position]) + bytes([value]) + bytes(good[position + 1 :])
            try:
                Qcow2.parse(data)
            except MalformedError:
                continue


def test_digests_are_remembered_only_of_files_at_rest(tmp_path: Path) -> None:
    path, cache = tmp_path / "raw", DigestCache()
    path.write_bytes(b"one")
    with HeldImage(path, "raw") as held:
        held.digest(None, cache)
        assert cache.get(held.state) is None  # written just now
    os.utime(path, (1, 1))
    with HeldImage(path, "raw") as held:
        held.digest(None, cache)
        assert cache.get(held.state) is None  # the change time cannot be set
        cache.put(held.state, b"digest", held.state[4] / 1e9 + 4)
        assert held.digest(None, cache) == b"digest"
    path.write_bytes(b"two")
    with HeldImage(path, "raw") as held:
        assert held.digest(None, cache) == hashlib.sha256(b"two").digest()
