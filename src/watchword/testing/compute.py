"""A compute host as nova sees it: a settings file for the agent, domains that libvirt knows, disks as nova makes them.

libvirt is the real one, with its driver for tests: ``virsh`` prints what a domain's XML became, without a daemon.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from watchword.agent.config import Enrolment
from watchword.testing.world import TestHost, World
from watchword.wire.tpm.templates import EkKind

__all__ = ["ComputeHost", "Instance", "domain_xml"]

_DOMAIN = """\
<domain type="{kind}">
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory>131072</memory>
  <os><type>hvm</type>{boot}</os>
  <devices>
    {disks}
  </devices>
</domain>
"""
_DISK = """\
<disk type="file" device="{device}"><driver name="qemu" type="{form}"/><source file="{path}"/>
      <target dev="{target}" bus="virtio"/></disk>
    """


def domain_xml(
    instance: str, disks: Iterable[tuple[str, str, Path]], *, name: str = "instance-00000001", kind: str = "test",
    boot: str = "",
) -> str:  # fmt: skip
    """A domain; ``disks`` are device, format and path; ``boot`` is put into its ``os`` element."""
    nodes = "".join(
        _DISK.format(device=device, form=form, path=path, target=f"vd{chr(97 + number)}")
        for number, (device, form, path) in enumerate(disks)
    )
    return _DOMAIN.format(kind=kind, name=name, uuid=instance, disks=nodes, boot=boot)


@dataclass(slots=True)
class Instance:
    """A server that nova is building here: its ``id`` and ``image`` id, its ``disk`` file."""

    id: str
    image: str
    disk: Path


class ComputeHost:
    """``host`` of ``world`` with an agent's settings in ``folder``; the world must be relayed."""

    def __init__(self, world: World, host: TestHost, folder: Path) -> None:
        self.world, self.host, self.folder = world, host, folder
        self.config = folder / "agent.toml"
        self.base = folder / "instances" / "_base"
        self.base.mkdir(parents=True)
        self._domains: dict[str, str] = {}
        self._define()
        (folder / "keys.json").write_text(json.dumps({"keys": [json.loads(envelope) for envelope in world.keys.chain]}))
        if host.host_id:
            Enrolment(host.host_id, EkKind.P256).save(folder / "state")
        self.write_settings()

    @property
    def libvirt(self) -> str:
        """The URI of the libvirt that knows the domains."""
        return f"test://{self.folder / 'node.xml'}"

    def write_settings(self, *, authority: str = "", serve: str = "", status: str = "") -> None:
        """The agent's settings; each argument replaces or adds lines of one section."""
        machine = self.host.machine
        reach = authority or f'relay = "{self.world.relay_url}"'
        self.config.write_text(
            f"""[authority]
{reach}
keys = "{self.folder / "keys.json"}"
fingerprint = "{self.world.keys.fingerprint}"
[tpm]
address = "{machine.tpm_address}"
event_log = "{machine.event_log_path}"
runtime_log = "{machine.ima_log_path}"
[host]
state = "{self.folder / "state"}"
[serve]
listen = "127.0.0.1:0"
socket = "{self.folder / "agent.sock"}"
libvirt = "{self.libvirt}"
base = "{self.base}"
{serve}
[status]
{status}
"""
        )

    def image(self, content: bytes, image: str = "") -> str:
        """Put an image into nova's cache; returns its id."""
        image = image or str(uuid.uuid4())
        (self.base / hashlib.sha1(image.encode(), usedforsecurity=False).hexdigest()).write_bytes(content)
        return image

    def cached(self, image: str) -> Path:
        """Where nova's cache has an image."""
        return self.base / hashlib.sha1(image.encode(), usedforsecurity=False).hexdigest()

    def spawn(self, image: str, *, form: str = "qcow2", size: int = 0, instance: str = "") -> Instance:
        """What nova does before it asks for vendor data: make the disk, and define the domain."""
        made = Instance(instance or str(uuid.uuid4()), image, Path())
        made.disk = self.folder / "instances" / made.id / "disk"
        made.disk.parent.mkdir(exist_ok=True)
        made.disk.unlink(missing_ok=True)
        cached = self.cached(image)
        if form == "qcow2":
            line = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(cached), str(made.disk)]
            subprocess.run([*line, str(size)] if size else line, check=True, timeout=60)
        else:
            made.disk.write_bytes(cached.read_bytes())
            with made.disk.open("r+b") as file:
                file.truncate(size or cached.stat().st_size)
        self.define(made.id, [("disk", form, made.disk)])
        return made

    def define(self, instance: str, disks: Iterable[tuple[str, str, Path]], *, boot: str = "") -> None:
        """Make libvirt know a domain, shut off."""
        name = f"instance-{len(self._domains) + 1:08x}"
        self._domains[instance] = domain_xml(instance, disks, name=name, boot=boot)
        self._define()

    def _define(self) -> None:
        (self.folder / "node.xml").write_text("<node>\n" + "".join(self._domains.values()) + "</node>\n")
