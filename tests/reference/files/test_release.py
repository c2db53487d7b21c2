"""Debian's own packages, and the recorded boots: what is listed must be what dpkg and the kernel say."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.reference.files.artifacts import listed, need

from watchword.policy.capture import captured_files
from watchword.policy.document import digest_name
from watchword.reference.files import Options
from watchword.wire.ima_log import ImaLog

ROOT = Path(__file__).resolve().parents[3]
BOOTS = ROOT / "vectors/boots"
sys.path.insert(0, str(ROOT / "images"))
PACKAGES = ("libc6", "zlib1g", "dropbear-bin")


def fetched(*names: str) -> dict[str, Path]:
    from lib import debian

    need("apt-get")
    try:
        return debian.fetch(*names)
    except SystemExit as error:
        pytest.skip(f"Debian's packages cannot be fetched: {error}")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_of_debian(name: str, tmp_path: Path) -> None:
    package = fetched(name)[name]
    found = listed(package, Options(usrmerge="split")).listing()
    subprocess.run(["dpkg-deb", "-R", package, tmp_path / "tree"], check=True)
    sums = (tmp_path / "tree/DEBIAN/md5sums").read_text().splitlines()
    assert sums
    for line in sums:
        md5, inside = line.split("  ", 1)
        content = (tmp_path / "tree" / inside).read_bytes()
        assert hashlib.md5(content, usedforsecurity=False).hexdigest() == md5
        assert found[f"/{inside}"] == ["sha256:" + hashlib.sha256(content).hexdigest()]
    unpacked = {f"/{path.relative_to(tmp_path / 'tree')}" for path in (tmp_path / "tree").rglob("*") if path.is_file()}
    links = {f"/{path.relative_to(tmp_path / 'tree')}" for path in (tmp_path / "tree").rglob("*") if path.is_symlink()}
    assert set(found) == {path for path in unpacked - links if not path.startswith("/DEBIAN/")}
    assert listed(package).counts["files"] == len(found)


def test_merged_paths_are_those_of_this_host() -> None:
    if not Path("/bin").is_symlink():
        pytest.skip("this host has a /bin of its own")
    package = fetched("libc6")["libc6"]
    found = listed(package).listing()
    assert not [path for path in found if path.startswith(("/lib/", "/lib64/"))]
    assert [path for path in found if path.startswith("/usr/lib/x86_64-linux-gnu/libc.so")]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The disk of the recorded boots, built again."""
    from lib.hostimage import HostImage, Packages
    from lib.scenarios import SCENARIOS

    need("mke2fs")
    try:
        packages = Packages.fetch()
    except SystemExit as error:
        pytest.skip(f"Debian's packages cannot be fetched: {error}")
    about = json.loads((BOOTS / "good/about.json").read_text())
    for name, version in about["packages"].items():
        if packages.versions.get(name) != version:
            pytest.skip(f"the boots were recorded with {name} {version}, Debian has {packages.versions.get(name)}")
    good = next(each for each in SCENARIOS if each.name == "good")
    out = tmp_path_factory.mktemp("disk") / "host.img"
    out.write_bytes(HostImage.build(good, packages).disk())
    return out


def test_every_file_of_the_recorded_boot_is_listed(disk: Path) -> None:
    found = listed(disk, partition="root").listing()
    for path, digest in json.loads((BOOTS / "good/files.json").read_text()).items():
        assert found[path] == [digest], path
    log = ImaLog.parse((BOOTS / "good/ima.bin").read_bytes())
    measured = [entry for entry in captured_files(log) if entry[0].decode() in found]
    for path, alg, digest in measured:
        assert f"{digest_name(alg)}:{digest.hex()}" in found[path.decode()]
    assert len(measured) >= 10
    initrd = {path.decode() for path, _, _ in captured_files(log)} - set(found)
    assert initrd <= {"/init", "/usr/bin/busybox"}, "not on the root partition, so from the initrd"


def test_a_file_that_was_altered_is_not_listed(disk: Path) -> None:
    found = listed(disk, partition="root").listing()
    log = ImaLog.parse((BOOTS / "altered-binary/ima.bin").read_bytes())
    strange = [
        path.decode()
        for path, alg, digest in captured_files(log)
        if f"{digest_name(alg)}:{digest.hex()}" not in found.get(path.decode(), [f"{digest_name(alg)}:{digest.hex()}"])
    ]
    assert strange == ["/usr/sbin/dropbear"]
