"""What a libvirt domain will boot from, read from its XML: as the hook gets it, or as ``virsh dumpxml`` prints it.

Only what decides about trust is kept. Source: https://libvirt.org/formatdomain.html.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree  # bounded, and without document types: see _root

from watchword.errors import MalformedError, Unavailable

__all__ = ["MAX_XML", "Disk", "Domain", "defined_domain"]

MAX_XML = 1 << 20  # bytes
_VIRSH = "virsh"
_VIRSH_SECONDS = 15.0
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_SAID = 300  # characters of virsh's complaint
CONFIG_DRIVE = "disk.config"  # nova's name of the config drive
RESCUE = ".rescue"  # the end of nova's names of disks that a rescue boots


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk: ``device`` as the guest sees it ("disk", "cdrom"), ``kind`` of its source ("file", "network", …),
    the file's ``path`` (empty when it is none), and the ``form`` of the image ("raw", "qcow2", "")."""

    device: str
    kind: str
    path: str
    form: str


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain: ``uuid`` is nova's instance id; ``disks`` in the order in which the firmware tries them.

    ``kernel`` and ``initrd`` are files that are booted directly (empty: none), ``cmdline`` goes with them.
    """

    uuid: str
    name: str
    disks: tuple[Disk, ...]
    kernel: str = ""
    initrd: str = ""
    cmdline: str = ""

    @classmethod
    def parse(cls, data: bytes) -> Domain:
        """Read the XML, at most 1 MiB. Raises :class:`MalformedError`."""
        root = _root(data)
        uuid = (root.findtext("uuid") or "").strip().lower()
        if root.tag != "domain" or not _UUID.match(uuid):
            raise MalformedError("domain: is not the XML of a libvirt domain")
        return cls(
            uuid=uuid,
            name=(root.findtext("name") or "").strip()[:255],
            disks=_disks(root),
            kernel=(root.findtext("os/kernel") or "").strip(),
            initrd=(root.findtext("os/initrd") or "").strip(),
            cmdline=root.findtext("os/cmdline") or "",
        )

    @property
    def boot_disk(self) -> Disk | None:
        """The disk that the firmware boots."""
        return next((disk for disk in self.disks if disk.device == "disk"), None)

    @property
    def config_drive(self) -> Path | None:
        """nova's config drive."""
        return next((Path(disk.path) for disk in self.disks if Path(disk.path).name.startswith(CONFIG_DRIVE)), None)

    @property
    def is_rescue(self) -> bool:
        """Whether nova boots something in the machine's place."""
        return any(path.endswith(RESCUE) for path in (self.kernel, self.initrd, *(d.path for d in self.disks)))


def _root(data: bytes) -> ElementTree.Element:
    if len(data) > MAX_XML:
        raise MalformedError(f"domain: more than {MAX_XML} bytes")
    # libvirt never writes a document type; one could make the text grow without bounds.
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise MalformedError("domain: has a document type")
    try:
        return ElementTree.fromstring(data)  # noqa: S314
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise MalformedError(f"domain: {error}") from None


def _disks(root: ElementTree.Element) -> tuple[Disk, ...]:
    found: list[tuple[int, int, Disk]] = []
    for number, node in enumerate(root.iterfind("devices/disk")):
        source, driver, boot = node.find("source"), node.find("driver"), node.find("boot")
        path = source.get("file", "") if source is not None else ""
        disk = Disk(
            node.get("device", "disk"), node.get("type", ""), path, driver.get("type", "") if driver is not None else ""
        )
        order = boot.get("order", "") if boot is not None else ""
        found.append((int(order) if order.isascii() and order.isdigit() else 1 << 16, number, disk))
    return tuple(disk for _, _, disk in sorted(found, key=lambda item: item[:2]))


def defined_domain(uri: str, uuid: str) -> Domain:
    """The domain ``uuid`` as it will be started, from the libvirt at ``uri``.

    Raises :class:`Unavailable` (``domain-unknown``, ``libvirt``) or :class:`MalformedError`.
    """
    if not _UUID.match(uuid):
        raise MalformedError("domain: the instance id is not a UUID")
    command = [_VIRSH, "--quiet", "--readonly", "--connect", uri, "dumpxml", "--inactive", uuid]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_VIRSH_SECONDS, check=False)  # noqa: S603
    except FileNotFoundError:
        raise Unavailable("libvirt", "virsh is not installed", hint="apt install libvirt-clients") from None
    except subprocess.TimeoutExpired:
        raise Unavailable("libvirt", f"libvirt at {uri} did not answer in {_VIRSH_SECONDS:.0f} s") from None
    if done.returncode == 0:
        return Domain.parse(done.stdout)
    said = done.stderr.decode("utf-8", "replace").strip()[:_SAID]
    if "failed to get domain" in said or "no domain with" in said.lower():
        raise Unavailable("domain-unknown", f"libvirt has no domain {uuid}: only nova-compute on this host may ask")
    raise Unavailable("libvirt", f"libvirt at {uri} does not answer: {said}")
