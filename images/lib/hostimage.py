"""The compute host's image: a unified kernel image on an EFI system partition, and an ext4 root partition."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from lib import debian, disk, ext4, gpt, signing, uki
from lib.rootfs import LIBRARIES, Rootfs
from lib.scenarios import Scenario

HOST = Path(__file__).resolve().parents[1] / "host"
INITRD_MODULES = ["virtio_pci", "virtio_blk"]
ROOT_MODULES = ["virtio_rng", "virtio_console"]
# Sizes are the same in all scenarios: the partition table is measured, and only one thing may differ.
ESP_CLUSTERS = 6500
ROOT_MEGABYTES = 16
SERVICE = "/usr/sbin/dropbear"


@dataclass(frozen=True)
class Packages:
    """Debian packages that the image is made of: where each is unpacked and which version it has."""

    kernel: str
    folders: dict[str, Path]
    versions: dict[str, str]

    @classmethod
    def fetch(cls) -> "Packages":
        """Fetch the newest versions, or take them from the cache."""
        kernel = debian.cloud_kernel()
        names = [kernel, uki.STUB_PACKAGE, "busybox-static", "dropbear-bin", "sbsigntool", *LIBRARIES]
        versions = {name: deb.name.split("_")[1].replace("%3a", ":") for name, deb in debian.fetch(*names).items()}
        return cls(kernel, debian.unpack(*names), versions)

    def vmlinuz(self) -> bytes:
        """Return the kernel."""
        [path] = self.folders[self.kernel].glob("boot/vmlinuz-*")
        return path.read_bytes()


@dataclass(frozen=True)
class HostImage:
    """The parts of one image, and the whole disk made from them."""

    packages: Packages
    kernel: bytes
    initrd: bytes
    cmdline: str
    uki: bytes
    root: Rootfs
    signatures: dict[str, bytes]

    @classmethod
    def build(cls, scenario: Scenario, packages: Packages) -> "HostImage":
        """Build the image of a scenario."""
        kernel = packages.vmlinuz()
        if scenario.kernel_changed:
            kernel = _with_changed_version(kernel)
        initrd = _initrd(packages, scenario).initramfs()
        stub = packages.folders[uki.STUB_PACKAGE] / uki.STUB
        image = uki.build(stub, kernel, initrd, scenario.cmdline, "Watchword compute host")
        if scenario.signed:
            image = signing.sign_efi(packages.folders["sbsigntool"] / "usr/bin/sbsign", image)
        root = _root(packages, scenario)
        signatures = {SERVICE: signing.ima_signature(root.files[SERVICE][1])} if scenario.signed_file else {}
        return cls(packages, kernel, initrd, scenario.cmdline, image, root, signatures)

    def disk(self) -> bytes:
        """Return the whole disk."""
        system = disk.fat16({"EFI/BOOT/BOOTX64.EFI": self.uki}, ESP_CLUSTERS)
        root = ext4.image(self.root, ROOT_MEGABYTES, self.signatures)
        return gpt.disk([(gpt.EFI_SYSTEM, "esp", system), (gpt.LINUX_ROOT_X86_64, "root", root)])

    def file_digests(self) -> dict[str, str]:
        """Return path to `sha256:hex` of every file on the root partition: what IMA may find there."""
        files = sorted(self.root.files.items())
        return {path: f"sha256:{hashlib.sha256(content).hexdigest()}" for path, (_, content) in files}


def _with_changed_version(kernel: bytes) -> bytes:
    """Return a kernel that boots as before but is another: one letter of its version text is different.

    The text is only for people and boot loaders (Linux, Documentation/x86/boot.rst, kernel_version).
    """
    text = int.from_bytes(kernel[0x20E:0x210], "little") + 0x200
    place = kernel.index(b"Debian", text)
    return kernel[:place] + b"d" + kernel[place + 1 :]


def _initrd(packages: Packages, scenario: Scenario) -> Rootfs:
    tree = Rootfs(packages.folders, folders=["/dev", "/root"])
    tree.add("/init", (HOST / "initrd-init").read_bytes(), 0o755)
    tree.add_busybox("sh insmod mount switch_root")
    tree.add_modules(packages.kernel, INITRD_MODULES)
    if scenario.initrd_changed:
        tree.add("/etc/extra", "one more file\n")
    return tree


def _root(packages: Packages, scenario: Scenario) -> Rootfs:
    tree = Rootfs(packages.folders, folders=["/dev", "/proc", "/run", "/sys", "/var/lib"])
    tree.add("/sbin/init", (HOST / "init").read_bytes(), 0o755)
    tree.add("/usr/lib/watchword/hand-out-evidence", (HOST / "hand-out-evidence").read_bytes(), 0o755)
    tree.add("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    tree.add("/etc/services.d/10-ssh", f"#!/bin/sh\ncat /etc/passwd\n{SERVICE} -V\n", 0o755)
    tree.add_busybox("sh cat insmod mkdir mount poweroff tar uname")
    tree.add_libraries()
    tree.add_package_file("dropbear-bin", SERVICE[1:])
    tree.add_modules(packages.kernel, ROOT_MODULES)
    if scenario.service_altered:
        mode, content = tree.files[SERVICE]
        tree.add(SERVICE, content + b"\0", mode)
    if scenario.violation:
        tree.add("/var/lib/state", "one\n")
        script = "#!/bin/sh\nmount -o remount,rw /\nexec 3>>/var/lib/state\ncat /var/lib/state\n"
        tree.add("/etc/services.d/20-state", script, 0o755)
    return tree
