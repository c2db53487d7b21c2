"""Disks of clean Debian machines: shim, GRUB, Debian's kernel and the named packages, and nothing of ours.

What stands beside Debian's own settings is a key for SSH, so that the run can type, and what a slow machine needs.
Needs root, mmdebstrap, sfdisk and mke2fs. Kept in the cache until packages or this file change.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "images"))

from lib.debian import cache_folder  # type: ignore[import-not-found]
from lib.disk import fat16  # type: ignore[import-not-found]

__all__ = ["COMPUTE", "PLAIN", "disk", "key"]

SUITE = "bookworm"
PLAIN = (
    "apt", "ca-certificates", "dbus", "e2fsprogs", "grub-efi-amd64-signed", "initramfs-tools", "iproute2",
    "linux-image-cloud-amd64", "lz4", "openssh-server", "openssl", "python3", "shim-signed", "sudo",
    "systemd-sysv", "udev",
)  # fmt: skip
COMPUTE = (
    *PLAIN, "libvirt-clients", "libvirt-daemon-system", "nova-compute", "nova-compute-qemu", "ovmf", "qemu-system-x86",
    "qemu-utils",
)  # fmt: skip
_MEBIBYTE = 1 << 20
_ESP_AT, _ROOT_AT, _SIZE = 1, 65, 4000  # mebibytes
_ROOT_ID = "6b0a2f5e-3d1c-4f6e-9c39-2f1d5a7e9c01"
_ESP = {
    "EFI/BOOT/BOOTX64.EFI": "usr/lib/shim/shimx64.efi.signed",
    "EFI/BOOT/GRUBX64.EFI": "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
}
_ESP_GRUB = f"search.fs_uuid {_ROOT_ID} root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
_KERNEL = f"root=UUID={_ROOT_ID} ro console=ttyS0 net.ifnames=0 mitigations=off"
_FILES = {
    "boot/grub/grub.cfg": f"set timeout=0\nlinux /vmlinuz {_KERNEL}\ninitrd /initrd.img\nboot\n",
    "etc/default/grub.d/10-machine.cfg": (
        'GRUB_TIMEOUT=0\nGRUB_TERMINAL=console\nGRUB_CMDLINE_LINUX_DEFAULT=""\n'
        'GRUB_CMDLINE_LINUX="console=ttyS0 net.ifnames=0 mitigations=off"\n'
    ),
    "etc/fstab": f"UUID={_ROOT_ID} / ext4 noatime 0 1\n",
    "etc/hostname": "debian\n",
    "etc/initramfs-tools/conf.d/small": "MODULES=list\nCOMPRESS=lz4\n",
    "etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\next4\n",
    "etc/systemd/network/10-out.network": "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n",
    "etc/resolv.conf": "nameserver 10.0.2.3\n",
}
_OFF = ["apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"]
_OFF += ["nova-compute.service", "nova-scheduler.service"]  # there is nothing that they could speak to
_OFF += ["systemd-firstboot.service", "systemd-networkd-wait-online.service"]


def key() -> Path:
    """The private key for SSH into every machine that these disks make."""
    path = cache_folder() / "guides" / "id_ed25519"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return Path(path)


def disk(name: str, packages: tuple[str, ...]) -> Path:
    """The raw disk ``name`` with ``packages``, built if it is not in the cache."""
    public = key().with_suffix(".pub").read_text()
    parts = [SUITE, *packages, public, Path(__file__).read_text()]
    version = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
    image = Path(cache_folder() / "guides" / f"{name}-{version}.raw")
    if image.exists():
        return image
    if os.geteuid() != 0:
        raise SystemExit("error: building the machines needs root\nhint: sudo bin/try-guides")
    with tempfile.TemporaryDirectory(dir=image.parent) as scratch:
        root, partial = Path(scratch, "root"), Path(scratch, "disk.raw")
        root.mkdir()
        archive = _archive(name, packages)
        subprocess.run(["tar", "-C", root, "--numeric-owner", "-xpf", archive], check=True)
        _configure(root, public)
        _write(root, partial)
        partial.rename(image)
    return image


def _archive(name: str, packages: tuple[str, ...]) -> Path:
    version = hashlib.sha256("\0".join([SUITE, *packages]).encode()).hexdigest()[:12]
    archive = Path(cache_folder() / "guides" / f"{name}-{version}.tar")
    if not archive.exists():
        partial = archive.with_suffix(f".{os.getpid()}.tar")
        lean = [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in ("doc", "man", "locale", "info")]
        command = ["mmdebstrap", "--quiet", "--variant=apt", "--mode=root", f"--include={','.join(packages)}", *lean]
        subprocess.run([*command, SUITE, partial], check=True)
        partial.rename(archive)
    return archive


def _configure(root: Path, public: str) -> None:
    (root / "etc/dpkg/dpkg.cfg.d/99mmdebstrap").unlink(missing_ok=True)  # what is installed now is not made lean
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    subprocess.run(["chroot", root, "apt-get", "update", "-qq"], check=True)  # faster than on the machine
    for name, content in {**_FILES, "root/.ssh/authorized_keys": public}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    (root / "root/.ssh").chmod(0o700)
    (root / "etc/machine-id").write_text("")  # made at the first boot
    for path in root.glob("etc/ssh/ssh_host_*"):
        path.unlink()
    enable = ["systemd-networkd.service"]
    subprocess.run(["chroot", root, "ssh-keygen", "-q", "-A"], check=True)
    subprocess.run(["chroot", root, "update-initramfs", "-u", "-k", "all"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["chroot", root, "systemctl", "enable", *enable], check=True, capture_output=True)
    subprocess.run(["chroot", root, "systemctl", "mask", *_OFF], check=True, capture_output=True)


def _write(root: Path, output: Path) -> None:
    with output.open("wb") as file:
        file.truncate(_SIZE * _MEBIBYTE)
    table = f"label: gpt\nstart={_ESP_AT}MiB, size={_ROOT_AT - _ESP_AT}MiB, type=U\nstart={_ROOT_AT}MiB, type=L\n"
    path = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    subprocess.run(["sfdisk", "--quiet", output], input=table.encode(), check=True, env=path)
    files = {name: (root / source).read_bytes() for name, source in _ESP.items()}
    esp = fat16({**files, "EFI/DEBIAN/GRUB.CFG": _ESP_GRUB.encode()}, 15000)
    with output.open("r+b") as file:
        file.seek(_ESP_AT * _MEBIBYTE)
        file.write(esp)
    options = ["-q", "-t", "ext4", "-m", "0", "-U", _ROOT_ID, "-d", root, "-O", "^metadata_csum_seed,^orphan_file"]
    options += ["-E", f"offset={_ROOT_AT * _MEBIBYTE},lazy_itable_init=0"]
    subprocess.run(["mke2fs", *options, output, f"{_SIZE - _ROOT_AT - 1}M"], check=True, env=path)
