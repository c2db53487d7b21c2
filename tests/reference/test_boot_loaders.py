"""Shim, systemd-boot, systemd's stub, QEMU and the kernel: what is not understood is refused by name."""

from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from tests.reference import machines
from tests.wire.test_pe import program

from watchword.errors import MalformedError, UsageError, WatchwordError
from watchword.reference.boot.direct import patched
from watchword.reference.boot.events import Measure, pcr_values
from watchword.reference.boot.firmware import gpt_event
from watchword.reference.boot.grub import check_grub
from watchword.reference.boot.linux import check_kernel, kernel_version
from watchword.reference.boot.loader import check_loader, parse_entry
from watchword.reference.boot.shim import Shim
from watchword.reference.boot.stub import Extras, command_line, stub_measurements
from watchword.wire.pe import PeImage
from watchword.wire.tcg_log import EventLog
from watchword.wire.tpm.algorithms import Alg

MEASURE = Measure([Alg.SHA1, Alg.SHA256, Alg.SHA384, Alg.SHA512])
MEASURE_TOOL = Path("/lib/systemd/systemd-measure")


def sections(**contents: bytes) -> PeImage:
    """A program with these sections; ``_`` in a name stands for the dot."""
    rows = [
        (name.replace("_", ".").encode(), 0x1000 * (i + 1), content.ljust(512, b"\0"))
        for i, (name, content) in enumerate(contents.items())
    ]
    return PeImage.parse(bytes(program(sections=rows)))


def changed(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    assert len(old) == len(new)
    return data.replace(old, new)


def stub(image: PeImage, **more: object) -> object:
    return stub_measurements(MEASURE, image, **{"secure_boot": False, "extras": Extras(), **more})


def test_pcr_11_agrees_with_systemd_measure(tmp_path: Path) -> None:
    if not MEASURE_TOOL.exists():
        pytest.skip("systemd-measure is not installed")
    image = PeImage.parse(machines.good().uki)
    command = [MEASURE_TOOL, "calculate", "--bank=sha1", "--bank=sha256", "--bank=sha384", "--bank=sha512"]
    for name in ("linux", "osrel", "cmdline", "initrd"):
        section = image.section(f".{name}")
        assert section is not None
        (tmp_path / name).write_bytes(image.content(section))
        command.append(f"--{name}={tmp_path / name}")
    told = subprocess.run([*command, "--phase="], capture_output=True, text=True, check=True).stdout
    values = dict(line.removeprefix("11:").split("=") for line in told.split() if line.startswith("11:"))
    events = [event for event in stub(image) if event.pcr == 11]
    assert len(values) == 4
    for alg, name in ((Alg.SHA1, "sha1"), (Alg.SHA256, "sha256"), (Alg.SHA384, "sha384"), (Alg.SHA512, "sha512")):
        assert pcr_values(events, alg)[11].hex() == values[name]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"systemd-stub 252", b"systemd-stub 255", "stub 255 measures is not known"),
        (b"LoaderInfo: systemd-stub", b"LoaderInfo: somebodystub", "does not begin with systemd's stub"),
        (b".osrel\0\0", b".uname\0\0", r"the section .uname means nothing"),
        (b".linux\0\0", b".vmlinux", "no section .linux"),
        (b"console=ttyS0 quiet", b"console=ttyS0\tquiet", "characters that the stub may change"),
        (b"console=ttyS0 quiet", b" onsole=ttyS0 quiet", "characters that the stub may change"),
    ],
)
def test_images_that_are_not_understood(old: bytes, new: bytes, why: str) -> None:
    with pytest.raises(WatchwordError, match=why):
        stub(PeImage.parse(changed(machines.good().uki, old, new)))


def test_a_newline_at_the_end_of_the_command_line_is_dropped() -> None:
    data = changed(machines.good().uki, machines.CMDLINE.encode(), machines.CMDLINE[:-1].encode() + b"\n")
    assert command_line(PeImage.parse(data)) == machines.CMDLINE[:-1]


def test_an_image_without_a_command_line() -> None:
    with pytest.raises(UsageError, match="without a command line"):
        stub(PeImage.parse(changed(machines.good().uki, b".cmdline", b".nothing")))


def test_options_from_a_boot_loader_count_only_without_secure_boot() -> None:
    image = PeImage.parse(machines.good().uki)
    for secure in (False, True):
        events = stub(image, secure_boot=secure, options="other")
        assert [event.pcr for event in events].count(12) == (not secure)
        assert [event.pcr for event in events].count(4) == (not secure)
        first = next(event for event in events if event.pcr == 9)
        assert ("other" in first.note) != secure


def test_the_shim_of_debian_has_its_vendor() -> None:
    shim = Shim.read(PeImage.parse(machines.shim()))
    shim.check(PeImage.parse(machines.grub()), "grub")
    shim.check(PeImage.parse(machines.good().kernel), "kernel")
    with pytest.raises(UsageError, match="vouch"):
        shim.check(PeImage.parse(machines.signed(machines.systemd_boot())), "loader")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"$Version: 16.1 $", b"$Version: 15.8 $", "shim 15.8 measures is not known"),
        (b"$Version: 16.1 $", b"$Versiom: 16.1 $", "does not say its version"),
        (b"\0\0\0\0\x08\0\0\0\x29\0\0\0sbat", b"\1\0\0\0\x08\0\0\0\x29\0\0\0sbat", "section of version 1"),
        (b"\0\0\0\0\x08\0\0\0\x29\0\0\0sbat", b"\0\0\0\0\xff\xff\xff\x7f\x29\0\0\0sbat", "not a text"),
    ],
)
def test_shims_that_are_not_understood(old: bytes, new: bytes, why: str) -> None:
    with pytest.raises(WatchwordError, match=why):
        Shim.read(PeImage.parse(changed(machines.shim(), old, new)))


def test_what_is_no_shim() -> None:
    with pytest.raises(MalformedError, match="not shim"):
        Shim.read(PeImage.parse(machines.grub()))


@pytest.mark.parametrize(
    "name",
    [
        "keylime+python3-uefi-eventlog/eventlogs/rhcos.bin",
        "google+go-tpm-tools/eventlogs/rhel8-uefi.bin",
        "keylime+keylime/eventlogs/keylime_mb_log_cs9.bin",
    ],
)
def test_shims_of_others_measure_the_same_empty_lists(corpus: Path, name: str) -> None:
    """Other vendors' shims revoke nothing of their own: then MokListX is a list with one digest of zeros."""
    events = Shim(b"", b"", b"sbat,1\n").start(Measure([Alg.SHA256]), secure_boot=True)
    ours = {event.note.partition(":")[0]: event.digests[Alg.SHA256] for event in events}
    for event in EventLog.parse((corpus / name).read_bytes()).events:
        text = event.data.rstrip(b"\0").decode("ascii", "replace")
        if event.pcr == 14 and text in ("MokListX", "MokListTrusted"):
            assert event.digest(Alg.SHA256) == ours[text]


def test_other_boot_loaders() -> None:
    with pytest.raises(MalformedError, match="not systemd-boot"):
        check_loader(PeImage.parse(machines.grub()))
    with pytest.raises(UsageError, match="systemd-boot 255"):
        check_loader(PeImage.parse(changed(machines.systemd_boot(), b"systemd-boot 252", b"systemd-boot 255")))
    with pytest.raises(MalformedError, match="not GRUB"):
        check_grub(machines.systemd_boot())
    with pytest.raises(UsageError, match=r"only that of Debian's 2\.06"):
        check_grub(changed(machines.grub(), b"grub2,2.06-", b"grub2,2.12-"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"title x\n", "not one line linux"),
        (b"linux /a\nlinux /b\n", "not one line linux"),
        (b"linux /a\ndevicetree /b\n", "the key devicetree"),
        (b"\xff", "UTF-8"),
    ],
)
def test_entries_that_are_not_understood(text: bytes, why: str) -> None:
    with pytest.raises(WatchwordError, match=why):
        parse_entry(text)


def test_an_entry() -> None:
    entry = parse_entry(
        b"# c\ntitle A\nlinux /a\ninitrd\t/b\n".replace(b"\t", b" ") + b"initrd /c\noptions x\noptions y z\n"
    )
    assert (entry.linux, entry.initrds, entry.options) == ("/a", ("/b", "/c"), "x y z")


def test_kernels() -> None:
    kernel = machines.good().kernel
    version = kernel_version(kernel)
    assert version.startswith("6.")
    assert check_kernel(kernel) == version
    with pytest.raises(UsageError, match=r"EFI stub of Linux '5\.4"):
        check_kernel(kernel.replace(version.encode(), b"5.4" + version[3:].encode()))
    with pytest.raises(MalformedError, match="not a bzImage"):
        check_kernel(bytes(2048))


def test_qemu_changes_the_header_and_nothing_else() -> None:
    kernel = machines.good().kernel
    one, other = patched(kernel, 1000, 512 << 20), patched(kernel, 1000, 1024 << 20)
    assert one != other
    assert one[0x268:] == kernel[0x268:]
    assert patched(kernel, 1000, 3 << 30) == patched(kernel, 1000, 16 << 30)
    assert patched(kernel, None, 512 << 20) == patched(kernel, None, 1024 << 20)
    with pytest.raises(UsageError, match="does not fit"):
        patched(kernel, 512 << 20, 512 << 20)
    with pytest.raises(UsageError, match="protocol 0x200"):
        patched(kernel[:0x206] + struct.pack("<H", 0x200) + kernel[0x208:], None, 512 << 20)


def test_the_partition_table_of_a_disk(boots: Path) -> None:
    disk = bytearray(machines.good().disk()[: 1 << 20])
    log = EventLog.parse((boots / "good" / "eventlog.bin").read_bytes())
    event = next(event for event in log.events if event.pcr == 5 and event.data.startswith(b"EFI PART"))
    assert gpt_event(bytes(disk)) == event.data
    assert event.digest(Alg.SHA256) == hashlib.sha256(event.data).digest()
    for at, value, why in ((512, b"X", "no GPT"), (512 + 84, b"\xff", "entries of"), (512 + 72, b"\xff\xff", "beyond")):
        broken = bytearray(disk)
        broken[at : at + len(value)] = value
        with pytest.raises(MalformedError, match=why):
            gpt_event(bytes(broken))
    assert shutil.which("qemu-system-x86_64")
