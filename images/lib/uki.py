"""Unified kernel images: kernel, initramfs and command line as sections of one EFI program (UAPI group, UKI)."""

import hashlib
import re
import struct
import subprocess
import tempfile
from pathlib import Path

STUB_PACKAGE = "systemd-boot-efi"
FILE_ALIGNMENT = 512
STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"


def build(stub: Path, kernel: bytes, initramfs: bytes, cmdline: str, name: str) -> bytes:
    """Return a unified kernel image; the same input gives the same bytes.

    stub: systemd's EFI stub. kernel: a bzImage with an EFI stub. initramfs: a cpio archive.
    cmdline: the kernel's command line. name: what the image calls itself in its os-release section.
    """
    # The stub of systemd 252 passes the section on as it is: no newline, and a final NUL is not needed.
    sections = {
        ".osrel": f'ID=watchword\nNAME="{name}"\nPRETTY_NAME="{name}"\n'.encode(),
        ".cmdline": cmdline.encode(),
        ".linux": kernel,
        ".initrd": initramfs,
    }
    with tempfile.TemporaryDirectory() as scratch:
        command: list[str | Path] = ["objcopy"]
        address = _end_of_sections(stub)
        for section, content in sections.items():
            part = Path(scratch, section)
            part.write_bytes(content)
            command += ["--add-section", f"{section}={part}", "--change-section-vma", f"{section}={address:#x}"]
            address = _page_up(address + len(content))
        output = Path(scratch, "uki.efi")
        subprocess.run([*command, stub, output], check=True)
        program = _without_time(output.read_bytes())
        # objcopy ends the file with the last byte of the last section. Padded as its header promises, the image has
        # the same digest before and after it is signed.
        return program + bytes(-len(program) % FILE_ALIGNMENT)


def authenticode(program: bytes, algorithm: str) -> str:
    """Return the digest by which firmware knows and measures a PE32+ program (Microsoft, Authenticode PE format).

    It covers the headers without checksum and certificate entry, the sections in file order, and what follows them
    except the certificates, which stand at the end.
    """
    header = int.from_bytes(program[0x3C:0x40], "little")
    optional = header + 24
    checksum, security = optional + 64, optional + 144
    [end_of_headers] = struct.unpack_from("<I", program, optional + 60)
    [certificates] = struct.unpack_from("<I", program, security + 4)
    digest = hashlib.new(algorithm, program[:checksum] + program[checksum + 4 : security])
    digest.update(program[security + 8 : end_of_headers])
    covered = end_of_headers
    for at, size in _sections(program, header):
        digest.update(program[at : at + size])
        covered += size
    digest.update(program[covered : len(program) - certificates])
    return digest.hexdigest()


def _sections(program: bytes, header: int) -> list[tuple[int, int]]:
    """Return (place in the file, size) of all sections with content, in the order of their places."""
    count, optional_size = struct.unpack_from("<H12xH", program, header + 6)
    table = header + 24 + optional_size
    rows = [struct.unpack_from("<II", program, table + 40 * row + 16) for row in range(count)]
    return sorted((at, size) for size, at in rows if size)


def _without_time(program: bytes) -> bytes:
    """Return the PE program without the time of its link and the checksum over it, which firmware does not read.

    Both fields are at fixed places after the signature: TimeDateStamp at 8, CheckSum at 88 (PE32+, optional header).
    """
    bare = bytearray(program)
    header = int.from_bytes(program[0x3C:0x40], "little")
    bare[header + 8 : header + 12] = bytes(4)
    bare[header + 88 : header + 92] = bytes(4)
    return bytes(bare)


def _end_of_sections(program: Path) -> int:
    listing = subprocess.run(["objdump", "-h", program], capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^ +\d+ \S+ +([0-9a-f]{8}) +([0-9a-f]+) ", listing, re.MULTILINE)
    return _page_up(max(int(size, 16) + int(address, 16) for size, address in rows))


def _page_up(address: int) -> int:
    return (address + 0xFFF) & ~0xFFF
