"""The config drive, read back by programs that are not ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from watchword.agent.inject.configdrive import LABEL, config_drive, config_drive_file
from watchword.agent.inject.iso9660 import SECTOR, build
from watchword.crypto.ssh_key import SshHostKey

USER_DATA = b"#!/bin/sh\necho \xff\0 hello\n"
INSTANCE = "5f1c2a3e-0000-4000-8000-000000000001"
FILES = {"meta_data.json", "user_data", "vendor_data.json", "vendor_data2.json"}


def extract(image: bytes, folder: Path) -> Path:
    """Unpack with xorriso, which prefers the Joliet names."""
    if shutil.which("xorriso") is None:
        pytest.skip("xorriso is not installed")
    (folder / "image").write_bytes(image)
    command = ["xorriso", "-osirrox", "on", "-indev", f"stdio:{folder / 'image'}", "-extract", "/", str(folder / "out")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "out"


def listing(image: bytes, folder: Path, *flags: str) -> list[str]:
    if shutil.which("isoinfo") is None:
        pytest.skip("isoinfo is not installed")
    (folder / "image").write_bytes(image)
    found = subprocess.run(
        ["isoinfo", "-f", *flags, "-i", str(folder / "image")], check=True, capture_output=True, text=True
    )
    return found.stdout.split()


def test_another_program_reads_the_exact_names_and_contents(host_key: SshHostKey, tmp_path: Path) -> None:
    latest = extract(config_drive(INSTANCE, "vm", USER_DATA, host_key), tmp_path) / "openstack" / "latest"
    assert {path.name for path in latest.iterdir()} == FILES
    assert (latest / "user_data").read_bytes() == USER_DATA
    assert json.loads((latest / "meta_data.json").read_bytes())["uuid"] == INSTANCE
    for name in ("vendor_data.json", "vendor_data2.json"):
        document = json.loads((latest / name).read_bytes())
        assert list(document) == ["cloud-init"]
        assert document["cloud-init"].startswith("#cloud-config\n")


def test_the_names_without_joliet_fold_to_the_same(host_key: SshHostKey, tmp_path: Path) -> None:
    image = config_drive(INSTANCE, "vm", USER_DATA, host_key)
    joliet = {name.removesuffix(";1") for name in listing(image, tmp_path, "-J")}
    plain = {name.removesuffix(";1").removesuffix(".").lower() for name in listing(image, tmp_path)}
    assert joliet == plain
    assert {f"/openstack/latest/{name}" for name in FILES} <= joliet


def test_the_label_stands_where_it_is_looked_for(host_key: SshHostKey) -> None:
    image = config_drive(INSTANCE, "vm", None, host_key)
    assert image[16 * SECTOR + 40 :][:32] == LABEL.encode().ljust(32)
    assert image[17 * SECTOR + 40 :][:32] == LABEL.encode("utf-16-be").ljust(32, b"\0")


def test_blkid_finds_a_config_drive(host_key: SshHostKey, tmp_path: Path) -> None:
    blkid = shutil.which("blkid") or "/sbin/blkid"
    if not Path(blkid).exists():
        pytest.skip("blkid is not installed")
    (tmp_path / "image").write_bytes(config_drive(INSTANCE, "vm", None, host_key))
    command = [blkid, "-p", "-o", "export", str(tmp_path / "image")]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert {"TYPE=iso9660", f"LABEL={LABEL}"} <= set(found.stdout.split())


def test_without_user_data_there_is_no_such_file(host_key: SshHostKey, tmp_path: Path) -> None:
    latest = extract(config_drive(INSTANCE, "vm", None, host_key), tmp_path) / "openstack" / "latest"
    assert {path.name for path in latest.iterdir()} == FILES - {"user_data"}


def test_without_a_key_vendor_data_is_empty(tmp_path: Path) -> None:
    latest = extract(config_drive(INSTANCE, "vm", b"", None), tmp_path) / "openstack" / "latest"
    assert json.loads((latest / "vendor_data2.json").read_bytes()) == {}
    assert (latest / "user_data").read_bytes() == b""


CLOUD_INIT = """
import json, sys, yaml
from cloudinit.sources.DataSourceConfigDrive import read_config_drive
from cloudinit.sources import convert_vendordata
found = read_config_drive(sys.argv[1])
config = yaml.safe_load(convert_vendordata(found["vendordata2"]))
print(json.dumps({"instance": found["metadata"]["uuid"], "user": found["userdata"].hex(), "config": config}))
"""


def test_cloud_init_reads_the_key(host_key: SshHostKey, tmp_path: Path) -> None:
    probe = subprocess.run(["/usr/bin/python3", "-c", "import cloudinit, yaml"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("Debian's cloud-init is not installed")
    folder = extract(config_drive(INSTANCE, "vm", USER_DATA, host_key), tmp_path)
    command = ["/usr/bin/python3", "-c", CLOUD_INIT, str(folder)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    assert found["instance"] == INSTANCE
    assert bytes.fromhex(found["user"]) == USER_DATA
    assert found["config"]["ssh_deletekeys"] is True
    assert found["config"]["ssh_keys"] == {
        "ed25519_private": host_key.private_openssh.decode(),
        "ed25519_public": host_key.public_openssh,
    }


def test_the_drive_is_an_immutable_file_in_memory(host_key: SshHostKey) -> None:
    fd = config_drive_file(INSTANCE, "vm", None, host_key)
    try:
        assert os.read(fd, 1 << 20) == config_drive(INSTANCE, "vm", None, host_key)
        assert os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:")
        with pytest.raises(OSError, match="descriptor"):
            os.write(fd, b"x")
    finally:
        os.close(fd)


def test_many_files_need_more_than_one_sector_of_records(tmp_path: Path) -> None:
    files = {f"some/folder/file_{number:04}.bin": bytes([number % 256]) * (number * 37) for number in range(120)}
    found = extract(build(files, "label"), tmp_path)
    assert {str(path.relative_to(found)): path.read_bytes() for path in found.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize("path", ["", "/a", "a//b", "A", "a.b.c", "x" * 29, "a/../b c", "/".join("abcdefghi")])
def test_other_paths_are_our_bug(path: str) -> None:
    with pytest.raises(ValueError, match="not a path"):
        build({path: b""}, "label")


def test_a_long_label_is_our_bug() -> None:
    with pytest.raises(ValueError, match="label"):
        build({}, "x" * 17)
