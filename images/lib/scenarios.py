"""The boots that are recorded: a good one, and others that each differ from it in one respect."""

from dataclasses import dataclass, field

from lib.machine import Firmware

CMDLINE = "console=ttyS0 quiet loglevel=1 panic=1 ima_policy=tcb ima_hash=sha256 ima_template=ima-ng"
SECURE_CODE = "OVMF_CODE_4M.secboot.fd"
PLAIN = Firmware()
ENROLLED = Firmware(SECURE_CODE, "OVMF_VARS_4M.snakeoil.fd")
NOT_ENROLLED = Firmware(SECURE_CODE, "OVMF_VARS_4M.fd")


@dataclass(frozen=True)
class Scenario:
    """One boot. The flags name what is changed in the image; the rest is how the machine is set up."""

    name: str
    differs: str
    kernel_changed: bool = False
    initrd_changed: bool = False
    service_altered: bool = False
    violation: bool = False
    signed_file: bool = False
    cmdline: str = CMDLINE
    firmware: Firmware = PLAIN
    signed: bool = False
    qemu: list[str] = field(default_factory=list)

    @property
    def secure_boot(self) -> bool:
        """Whether firmware enforces signatures in this boot."""
        return self.firmware == ENROLLED


SCENARIOS = [
    Scenario("good", "nothing: this is the reference"),
    Scenario("good-again", "nothing: a second boot of the same image on a new machine"),
    Scenario("kernel", "one byte of the kernel's version text; the initrd is that of good", kernel_changed=True),
    Scenario("initrd", "one more file in the initrd; the kernel is that of good", initrd_changed=True),
    Scenario("release-2", "the kernel of kernel and the initrd of initrd", kernel_changed=True, initrd_changed=True),
    Scenario("cmdline", "one more word on the command line: mitigations=off", cmdline=f"{CMDLINE} mitigations=off"),
    Scenario("secure-boot-on", "firmware enforces Secure Boot; the image is signed", firmware=ENROLLED, signed=True),
    Scenario("secure-boot-off", "as secure-boot-on, but no keys are enrolled", firmware=NOT_ENROLLED, signed=True),
    Scenario("altered-binary", "one byte is appended to the program of a service", service_altered=True),
    Scenario("violation", "a service reads a file that is open for writing", violation=True),
    Scenario(
        "ima-sig",
        "IMA template ima-sig on the command line; the program of the service carries a signature",
        cmdline=CMDLINE.replace("ima-ng", "ima-sig"),
        signed_file=True,
    ),
    Scenario(
        "machine",
        "another machine: two processors, 1 GB of memory, a network card",
        qemu=["-smp", "2", "-m", "1024", "-nic", "user,model=virtio-net-pci,restrict=on"],
    ),
]
