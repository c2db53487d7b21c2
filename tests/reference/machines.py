"""Releases as an auditor has them, and the machines that boot them: made with ``images/lib`` from Debian's packages.

A :class:`Case` is a folder of artifacts with its release file, and how QEMU gets it. Nothing of a case is taken from a
log.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from tests.conftest import ROOT

from watchword.reference.boot.sheet import capture_sheet
from watchword.reference.compute import compute_stack
from watchword.reference.files import files_from_table
from watchword.reference.release_file import parse_release

sys.path.insert(0, str(ROOT / "images"))

from lib import debian, ext4, gpt, hostimage, machine, scenarios, signing
from lib.uki import STUB, authenticode

__all__ = ["authenticode", "hostimage", "machine", "scenarios", "signing"]

OVMF = machine.OVMF
CMDLINE = scenarios.CMDLINE
MICROSOFT = machine.Firmware("OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd")
HEADER = 'format = "watchword-release/1"\nname = "compute"\nversion = "1.0"\nserial = 1\n'
# What the configuration inside Debian's signed GRUB runs, on the first partition of the first disk.
GRUB_COMMANDS = [
    "[ -z (hd0,gpt1)/EFI/debian -o ! -e (hd0,gpt1)/EFI/debian ]",
    "[ -e (hd0,gpt1)/EFI/debian/x86_64-efi/grub.cfg ]",
    "[ -e (hd0,gpt1)/EFI/debian/grub.cfg ]",
    "source (hd0,gpt1)/EFI/debian/grub.cfg",
]
GRUB_CFG = f"""# comments, quotes, variables, and an entry that is not taken
set timeout="0"
set where='/boot'; set args="{CMDLINE}"
export where
menuentry "Other" {{
	linux /other
}}

set default=1
menuentry 'Watchword  two' --class os --id w2 {{
	set gfxpayload=text
	linux $where/vmlinuz $args "quo ted" x=\\$y   # why
	initrd ${{where}}/first.img /initrd.img
}}
"""
# An initramfs without files: the kernel unpacks it and goes on with the next one.
EMPTY_INITRAMFS = b"070701" + b"0" * 32 + b"00000001" + b"0" * 48 + b"0000000B" + b"0" * 8 + b"TRAILER!!!\0\0\0\0"


@dataclass(frozen=True)
class Case:
    """``system`` is what is on the EFI system partition, ``files`` are further artifacts, ``release`` is TOML."""

    release: str
    firmware: machine.Firmware
    system: Mapping[str, bytes] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    qemu: Callable[[Path], list[str]] = lambda folder: []

    def write(self, folder: Path) -> Path:
        """Write artifacts and release file; returns the latter."""
        artifacts = {f"esp/{name}": content for name, content in self.system.items()} | dict(self.files)
        for name, content in artifacts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        (folder / "release.toml").write_text(self.release)
        return folder / "release.toml"

    def boot(self, folder: Path) -> dict[str, bytes]:
        """Boot it and return what the machine handed out."""
        root = ext4.image(good().root, hostimage.ROOT_MEGABYTES, {})
        disk = gpt.disk([(gpt.EFI_SYSTEM, "esp", fat(self.system)), (gpt.LINUX_ROOT_X86_64, "root", root)])
        (folder / "disk.img").write_bytes(disk[: 1 << 20])
        return machine.run(disk, self.firmware, self.qemu(folder))


@cache
def packages() -> hostimage.Packages:
    return hostimage.Packages.fetch()


@cache
def good() -> hostimage.HostImage:
    return hostimage.HostImage.build(scenarios.SCENARIOS[0], packages())


@cache
def tree(package: str) -> Path:
    return debian.unpack(package)[package]


def stub() -> bytes:
    return (tree("systemd-boot-efi") / STUB).read_bytes()


def systemd_boot() -> bytes:
    return (tree("systemd-boot-efi") / "usr/lib/systemd/boot/efi/systemd-bootx64.efi").read_bytes()


def shim() -> bytes:
    return (tree("shim-signed") / "usr/lib/shim/shimx64.efi.signed").read_bytes()


def grub() -> bytes:
    return (tree("grub-efi-amd64-signed") / "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed").read_bytes()


def signed(program: bytes) -> bytes:
    return signing.sign_efi(tree("sbsigntool") / "usr/bin/sbsign", program)


def fat(files: Mapping[str, bytes], megabytes: int = 60) -> bytes:
    """A FAT file system with long names, by mtools."""
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch, "esp.img")
        image.write_bytes(bytes(megabytes << 20))

        def mtools(tool: str, *arguments: str | Path) -> None:
            command = [tree("mtools") / "usr/bin/mtools", "-c", tool, "-i", image, *arguments]
            subprocess.run(command, check=True, env={**os.environ, "MTOOLS_SKIP_CHECK": "1"})

        mtools("mformat", "-F", "-N", "57415443", "::")
        made: set[Path] = set()
        for number, (name, content) in enumerate(files.items()):
            for parent in reversed(Path(name).parents[:-1]):
                if parent not in made:
                    mtools("mmd", f"::/{parent}")
                    made.add(parent)
            part = Path(scratch, str(number))
            part.write_bytes(content)
            mtools("mcopy", part, f"::/{name}")
        return image.read_bytes()


def secure_boot(state: str, firmware: machine.Firmware) -> str:
    variables = "" if state == "not-enrolled" else f'variables = "{OVMF / firmware.variables}"\n'
    return f'[secure-boot]\nstate = "{state}"\n{variables}'


def uki_extras() -> Case:
    """A unified kernel image with credentials and a system extension beside it, Secure Boot off."""
    extra = "EFI/BOOT/BOOTX64.EFI.extra.d"
    system = {
        "EFI/BOOT/BOOTX64.EFI": good().uki,
        f"{extra}/b.cred": b"secret",
        f"{extra}/a.cred": b"another one",
        f"{extra}/c.raw": b"x" * 1001,
        "loader/credentials/g.cred": b"of the loader",
    }
    boot = f"""[[boot]]
kind = "uki"
image = "esp/EFI/BOOT/BOOTX64.EFI"
credentials = ["esp/{extra}/b.cred", "esp/{extra}/a.cred"]
global-credentials = ["esp/loader/credentials/g.cred"]
sysexts = ["esp/{extra}/c.raw"]
"""
    release = HEADER + 'disk = "disk.img"\n' + secure_boot("not-enrolled", scenarios.PLAIN) + boot
    return Case(release, scenarios.PLAIN, system)


def loader_uki(*, secure: bool) -> Case:
    """systemd-boot starts a unified kernel image; both signed with Secure Boot on."""
    sign = signed if secure else bytes
    firmware = scenarios.ENROLLED if secure else scenarios.PLAIN
    system = {"EFI/BOOT/BOOTX64.EFI": sign(systemd_boot()), "EFI/Linux/compute.efi": sign(good().uki)}
    boot = """[[boot]]
kind = "systemd-boot"
loader = "esp/EFI/BOOT/BOOTX64.EFI"
image = "esp/EFI/Linux/compute.efi"
"""
    return Case(HEADER + secure_boot("on" if secure else "off", firmware) + boot, firmware, system)


def loader_entry() -> Case:
    """systemd-boot starts a kernel with two initrds, the last of an odd size; Secure Boot on."""
    entry = f"title Compute\nlinux /vmlinuz\ninitrd /first.img\ninitrd /initrd.img\noptions {CMDLINE}\n"
    system = {
        "EFI/BOOT/BOOTX64.EFI": signed(systemd_boot()),
        "loader/loader.conf": b"timeout 0\n",
        "loader/entries/compute.conf": entry.encode(),
        "vmlinuz": signed(good().kernel),
        "first.img": EMPTY_INITRAMFS,
        "initrd.img": good().initrd + bytes(5),
    }
    boot = """[[boot]]
kind = "systemd-boot"
loader = "esp/EFI/BOOT/BOOTX64.EFI"
esp = "esp"
entry = "esp/loader/entries/compute.conf"
"""
    return Case(HEADER + secure_boot("on", scenarios.ENROLLED) + boot, scenarios.ENROLLED, system)


def shim_grub() -> Case:
    """Debian's signed shim, GRUB and kernel, under Microsoft's keys."""
    system = {
        "EFI/BOOT/BOOTX64.EFI": shim(),
        "EFI/BOOT/grubx64.efi": grub(),
        "EFI/debian/grub.cfg": GRUB_CFG.encode(),
        "boot/vmlinuz": good().kernel,
        "boot/first.img": EMPTY_INITRAMFS,
        "initrd.img": good().initrd,
    }
    boot = f"""[[boot]]
kind = "shim-grub"
shim = "esp/EFI/BOOT/BOOTX64.EFI"
grub = "esp/EFI/BOOT/grubx64.efi"
commands = {GRUB_COMMANDS!r}
[boot.files]
"(hd0,gpt1)/EFI/debian/grub.cfg" = "esp/EFI/debian/grub.cfg"
"/boot/vmlinuz" = "esp/boot/vmlinuz"
"/boot/first.img" = "esp/boot/first.img"
"/initrd.img" = "esp/initrd.img"
"""
    return Case(HEADER + secure_boot("on", MICROSOFT) + boot, MICROSOFT, system)


def without_secure_boot(*, with_shim: bool) -> Case:
    """The same without Secure Boot: GRUB enters the kernel without its EFI stub."""
    case = shim_grub()
    system = dict(case.system)
    release = case.release.replace(secure_boot("on", MICROSOFT), secure_boot("not-enrolled", scenarios.PLAIN))
    if not with_shim:
        system["EFI/BOOT/BOOTX64.EFI"] = system.pop("EFI/BOOT/grubx64.efi")
        release = release.replace('kind = "shim-grub"\nshim', 'kind = "grub"\ngrub')
        release = release.replace('grub = "esp/EFI/BOOT/grubx64.efi"\n', "")
    return Case(release, scenarios.PLAIN, system)


def direct(memory: int) -> Case:
    """QEMU's -kernel on a machine of ``memory`` MiB."""
    boot = f"""[[boot]]
kind = "kernel"
kernel = "vmlinuz"
initrd = "initrd.img"
command-line = "{CMDLINE}"
memory = {memory}
"""

    def qemu(folder: Path) -> list[str]:
        parts = ["-kernel", str(folder / "vmlinuz"), "-initrd", str(folder / "initrd.img")]
        return [*parts, "-append", CMDLINE, "-m", str(memory)]

    files = {"vmlinuz": good().kernel, "initrd.img": good().initrd}
    return Case(HEADER + secure_boot("not-enrolled", scenarios.PLAIN) + boot, scenarios.PLAIN, {"x": b"y"}, files, qemu)


def recorded(boots: Path, name: str, folder: Path, *, stack: str = "compute", serial: int = 1) -> bytes:
    """The stack that an auditor computes for the image of a scenario, with a sheet of its firmware and its files."""
    scenario = next(each for each in scenarios.SCENARIOS if each.name == name)
    image = hostimage.HostImage.build(scenario, packages())
    about = json.loads((boots / name / "about.json").read_text())["sha256"]["kernel"]
    if hashlib.sha256(image.kernel).hexdigest() != about:
        pytest.skip("the kernel package has moved on since the boots were recorded")
    folder.mkdir(exist_ok=True)
    (folder / "compute.efi").write_bytes(image.uki)
    (folder / "files.json").write_text(json.dumps(image.file_digests()))
    log = (boots / name / "eventlog.bin").read_bytes()
    (folder / "ovmf.json").write_bytes(capture_sheet(log, model="ovmf", version="2022.11"))
    text = HEADER.replace('"compute"', f'"{stack}"').replace("serial = 1", f"serial = {serial}")
    text += 'banks = ["sha256", "sha384", "sha512"]\n[firmware]\nsheets = ["ovmf.json"]\n'
    text += secure_boot("on" if scenario.secure_boot else "off", scenario.firmware)
    text += '[[boot]]\nkind = "uki"\nimage = "compute.efi"\n[runtime]\nfiles = ["files.json"]\n'
    return compute_stack(
        parse_release(text.encode()), folder, read_runtime=lambda *where: files_from_table(*where).runtime()
    ).document
