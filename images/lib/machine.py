"""One run of an emulated compute host with its own TPM: QEMU, OVMF and swtpm, all as the calling user."""

import io
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

OVMF = Path("/usr/share/OVMF")
TIME_LIMIT = 180  # seconds; an idle run takes about 15
EVIDENCE_LIMIT = 4 << 20


@dataclass(frozen=True)
class Firmware:
    """OVMF's code and the variables that it starts with, as files of Debian's package ovmf."""

    code: str = "OVMF_CODE_4M.fd"
    variables: str = "OVMF_VARS_4M.fd"

    @property
    def secure(self) -> bool:
        """Whether this build enforces Secure Boot and so needs system management mode."""
        return "secboot" in self.code


def run(disk: bytes, firmware: Firmware, extra: list[str]) -> dict[str, bytes]:
    """Boot `disk` until it powers off and return the files that it handed out on the port watchword.evidence.

    extra: further arguments for QEMU. Raises SystemExit when the machine hands out nothing within the time limit.
    """
    # Not below a long TMPDIR: the path of a Unix socket ends at 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ww-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "disk.img").write_bytes(disk)
        (folder / "vars.fd").write_bytes((OVMF / firmware.variables).read_bytes())
        with subprocess.Popen(_swtpm(folder)) as tpm:
            try:
                subprocess.run([*_qemu(folder, firmware), *extra], check=True, timeout=TIME_LIMIT)
            except subprocess.TimeoutExpired:
                serial = (folder / "serial.log").read_text(errors="replace")[-2000:]
                raise SystemExit(f"error: no evidence after {TIME_LIMIT} s\n{serial}") from None
            finally:
                tpm.terminate()
        return _untar(folder / "evidence.tar", folder / "serial.log")


def _swtpm(folder: Path) -> list[str]:
    return ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}", "--ctrl", f"type=unixio,path={folder}/tpm.sock"]


def _qemu(folder: Path, firmware: Firmware) -> list[str]:
    smm = "on" if firmware.secure else "off"
    command = ["qemu-system-x86_64", "-machine", f"q35,accel=tcg,smm={smm}", "-cpu", "qemu64,+rdrand", "-m", "512"]
    command += ["-nodefaults", "-display", "none", "-no-reboot", "-boot", "strict=on"]
    command += ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={OVMF / firmware.code}"]
    command += ["-drive", f"if=pflash,format=raw,unit=1,file={folder}/vars.fd"]
    if firmware.secure:
        command += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    command += ["-drive", f"if=none,id=disk,format=raw,file={folder}/disk.img"]
    command += ["-device", "virtio-blk-pci,drive=disk,bootindex=1", "-serial", f"file:{folder}/serial.log"]
    command += ["-chardev", f"socket,id=tpm,path={folder}/tpm.sock", "-tpmdev", "emulator,id=tpm0,chardev=tpm"]
    command += ["-device", "tpm-crb,tpmdev=tpm0", "-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]
    command += ["-chardev", f"file,id=evidence,path={folder}/evidence.tar"]
    return [*command, "-device", "virtserialport,chardev=evidence,name=watchword.evidence"]


def _untar(archive: Path, serial: Path) -> dict[str, bytes]:
    data = archive.read_bytes()
    if not 0 < len(data) < EVIDENCE_LIMIT:
        tail = serial.read_text(errors="replace")[-2000:]
        raise SystemExit(f"error: the machine stopped with {len(data)} bytes of evidence\n{tail}")
    files = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None:
                files[Path(member.name).name] = content.read()
    return files
