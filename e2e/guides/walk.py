"""What somebody does who has the pages and three clean machines: every line is taken out of a page and typed."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from e2e.guides.machine import Answer, Machine
from e2e.openstack.guide import Guide

__all__ = ["Step", "Walk"]

AUTHORITY, HOST, OPERATOR = "run-an-authority", "add-a-compute-host", "openstack-operator"
MEASURE, VERIFY, WATCH = "measure-a-stack", "verify-a-vm", "watch-hosts"


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a page that was typed, where, and what came of it."""

    machine: str
    page: str
    command: str
    status: int
    seconds: float


@dataclass
class Walk:
    """The machines of a run, and what has been typed into them."""

    guide: Guide
    debs: Path
    guest: Path
    folder: Path
    authority: Machine
    host: Machine
    controller: Machine
    say: Callable[[str], None]
    steps: list[Step] = field(default_factory=list)

    def type(
        self, on: Machine, page: str, having: str, puts: Mapping[str, str] | None = None, more: str = "",
        user: str = "admin", tries: int = 1,
    ) -> Answer:  # fmt: skip
        """Type the line of ``page`` with ``having`` in it, ``puts`` in the places that the page leaves open.

        more: what this machine needs beside it. Raises RuntimeError when it fails, all of ``tries`` times.
        """
        root, command = self.guide.typed(page, having)
        for place, value in (puts or {}).items():
            if place not in command:
                raise LookupError(f"{page}.md: {command!r} has no {place!r}")
            command = command.replace(place, value)
        start = time.monotonic()
        for _ in range(tries):
            answer = on.run(command + more, "root" if root else user)
            if answer.status == 0:
                break
        self.steps.append(Step(on.name, page, command + more, answer.status, round(time.monotonic() - start, 1)))
        self.say(f"{on.name}  {'#' if root else '$'} {command + more}")
        if answer.status:
            text = (answer.out[-3000:] + answer.said[-3000:]).strip()
            raise RuntimeError(f"{on.name}: {command}{more}: exit {answer.status}\n{text}")
        return answer

    def do(self, on: Machine, command: str, user: str = "root") -> Answer:
        """What the pages leave to whoever owns the machine. Raises RuntimeError when it fails."""
        answer = on.run(command, user)
        if answer.status:
            raise RuntimeError(f"{on.name}: {command}: exit {answer.status}\n{answer.out}{answer.said}")
        return answer

    def all(self, found: dict[str, object]) -> None:
        """The whole way. ``found`` gets what the machines said."""
        for machine in (self.authority, self.host):
            machine.start()
        for machine in (self.authority, self.host):
            machine.wait()
            self.prepare(machine)
        fingerprint = self.run_an_authority()
        self.prepare_host()
        self.pin(fingerprint)
        found["host"] = self.enrol()
        found["doctor"] = self.compute()
        profile = self.measure()
        self.type(self.authority, WATCH, "watch add", {"3b1f9c20": profile})
        self.launch(fingerprint, "boot")
        self.come_back(self.authority, "watchword-authority")  # while the machine boots
        found["verify"] = self.verify()
        self.come_back(self.host, "watchword-agent")
        found["hosts"] = self.after()
        found["scheduler"], found["status"] = self.control(fingerprint, str(found["host"]))

    # -- the machines before the pages ---------------------------------------------------------------------------

    def prepare(self, on: Machine) -> None:
        """Names, addresses, an administrator who may use sudo, and the packages in the administrator's folder."""
        network = f"[Match]\\nName=eth1\\n[Network]\\nAddress={on.address}/24\\n"
        self.do(on, f"hostnamectl set-hostname {on.name}; printf '{network}' >/etc/systemd/network/20-lan.network")
        names = f"{on.address} {on.name}\\n{self.authority.address} authority.example\\n"
        self.do(on, f"networkctl reload; printf '{names}' >>/etc/hosts")
        self.do(on, "for user in admin tenant; do useradd --create-home --shell /bin/bash $user; done")
        self.do(on, "echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin")
        for name in ("watchword", "watchword-authority" if on is self.authority else "python3-watchword-nova"):
            [deb] = self.debs.glob(f"{name}_*.deb")
            on.put(deb, f"/home/admin/{deb.name}")
        self.do(on, "ln /home/admin/*.deb ~root/")

    # -- run-an-authority ----------------------------------------------------------------------------------------

    def run_an_authority(self) -> str:
        """The authority as a service; the fingerprint that its operator publishes."""
        machine = self.authority
        self.type(machine, AUTHORITY, "apt-get install")
        self.type(machine, AUTHORITY, "watchword watchword authority create")
        unit = self.guide.block(AUTHORITY, "ini", "ExecStart=")
        path = "/etc/systemd/system/watchword-authority.service.d/names.conf"
        self.do(machine, f"mkdir -p {Path(path).parent}; printf %s {shlex.quote(unit)} >{path}")
        self.type(machine, AUTHORITY, "systemctl daemon-reload")
        self.type(machine, AUTHORITY, "systemctl enable --now")
        shown = self.type(machine, AUTHORITY, "watchword watchword authority keys show", more=" --json")
        return str(_find(json.loads(shown.out), "fingerprint"))

    # -- add-a-compute-host --------------------------------------------------------------------------------------

    def prepare_host(self) -> None:
        """Packages, the policy of IMA, and a boot with it."""
        machine = self.host
        self.type(machine, HOST, "apt-get install")
        self.type(machine, HOST, "ima_policy=tcb")
        for line in ("update-grub", "mkdir -p /etc/systemd/journald", "Storage=volatile"):
            self.type(machine, HOST, line)
        machine.reboot(lambda: self.type(machine, HOST, "systemctl reboot", more=" &"))
        self.type(machine, HOST, "ls /dev/tpmrm0")
        self.type(machine, HOST, "inspect eventlog")

    def pin(self, fingerprint: str) -> None:
        """The authority's key, and the settings; what the maker's TPM lacks comes from the maker."""
        machine = self.host
        self.type(machine, HOST, "trust add", {"SHA256:…": fingerprint})
        self.type(machine, HOST, "install -D -m 644")
        self.type(machine, HOST, "cp /usr/share/doc")
        issuer = x509.load_pem_x509_certificate((machine.folder / "ca" / "issuer.pem").read_bytes())
        der = self.folder / "issuer.der"
        der.write_bytes(issuer.public_bytes(Encoding.DER))
        machine.put(der, "/etc/watchword/tpm-maker-intermediate.der")
        setting = self.guide.block(HOST, "toml", "intermediates").split("# intermediates", 1)[1].splitlines()[0]
        self.do(machine, f"sed -i '/^\\[tpm\\]/a intermediates{setting}' /etc/watchword/agent.toml")

    def enrol(self) -> str:
        """The host's id."""
        root = self.host.folder / "ca" / "swtpm-localca-rootca-cert.pem"
        self.authority.put(root, "/tmp/maker-root.pem")
        places = {"maker-root.pem": "/tmp/maker-root.pem", "--class hardware": "--class virtual"}
        self.type(self.authority, AUTHORITY, "watchword watchword authority anchor add", places)
        answer = self.type(self.host, HOST, "agent enrol", more=" --json")
        self.type(self.host, HOST, "agent status")
        return str(_find(json.loads(answer.out), "host_id"))

    # -- measure-a-stack, and what the authority believes --------------------------------------------------------

    def measure(self) -> str:
        """Capture the host's stack, endorse it, and let the authority know it and a profile; the profile's id."""
        auditor, host = self.authority, self.host
        self.do(host, "qemu-system-x86_64 --version && qemu-img --version && virsh list")  # what a launch runs
        for name, line in (("eventlog.bin", "bios_measurements eventlog.bin"), ("ima.bin", "measurements ima.bin")):
            self.type(host, MEASURE, line)
            host.get(name, self.folder / name)
            auditor.put(self.folder / name, f"/home/admin/{name}")
        self.do(auditor, "chown admin: /home/admin/*; chmod u+rw /home/admin/*")
        for line in ("inspect ima ima.bin", "stack capture", "stack check", "openssl genpkey", "openssl pkey"):
            self.type(auditor, MEASURE, line)
        signed = self.type(auditor, MEASURE, "stack endorse compute.json", more=" --json")
        key = str(_find(json.loads(signed.out), "key_id") or _find(json.loads(signed.out), "key"))
        (self.folder / "gold.json").write_text(json.dumps(_profile(key), indent=2) + "\n")
        auditor.put(self.folder / "gold.json", "/home/admin/gold.json")
        self.do(
            auditor, "cp /home/admin/{endorser.pub,compute.dsse.json,gold.json} /tmp; chmod 644 /tmp/*.pub /tmp/*.json"
        )
        self.type(
            auditor, AUTHORITY, "watchword watchword authority endorser add", {"endorser.pub": "/tmp/endorser.pub"}
        )
        self.type(
            auditor,
            AUTHORITY,
            "watchword watchword authority stack add",
            {"compute.dsse.json": "/tmp/compute.dsse.json"},
        )
        added = self.type(
            auditor,
            AUTHORITY,
            "watchword watchword authority profile add",
            {"gold.json": "/tmp/gold.json"},
            more=" --json",
        )
        return str(_find(json.loads(added.out), "id"))

    # -- a launch, and what its tenant finds -----------------------------------------------------------------------

    def launch(self, fingerprint: str, level: str) -> None:
        """A token of the tenant's, and a machine on the host."""
        tenant, host = self.authority, self.host
        tenant.put(self.guest, "/home/tenant/guest.img")
        tenant.put(self.folder / "gold.json", "/home/tenant/gold.json")
        host.put(self.guest, "guest.img")
        self.do(tenant, "chown tenant: /home/tenant/*")
        self.type(tenant, VERIFY, "trust add", {"SHA256:...": fingerprint}, user="tenant")
        self.type(tenant, VERIFY, "token create", {"--level full": f"--level {level}"}, user="tenant")
        tenant.get("/home/tenant/web1.token", self.folder / "token.txt")
        host.put(self.folder / "token.txt", "token.txt")
        self.type(host, HOST, "agent launch", {"192.0.2.31": host.address})

    def verify(self) -> str:
        """The tenant's verdict in words. The machine boots for minutes: an emulator in an emulator."""
        machine = {"192.0.2.7:22": f"{self.host.address}:2222"}
        return self.type(self.authority, VERIFY, "verify web1 192", machine, user="tenant", tries=10).out

    # -- openstack-operator ----------------------------------------------------------------------------------------

    def compute(self) -> str:
        """The agent as a service beside libvirt and nova-compute; what the doctor says."""
        host = self.host
        self.type(host, OPERATOR, "install-hook")
        self.type(host, OPERATOR, "enable --now watchword-agent")
        self.type(host, OPERATOR, "restart libvirtd")
        settings = self.guide.block(OPERATOR, "ini", "vendordata_providers")
        self.do(host, f"printf %s {shlex.quote(settings)} >>/etc/nova/nova.conf")
        return self.type(host, OPERATOR, "agent doctor").out

    def come_back(self, machine: Machine, unit: str) -> None:
        """Kill the service, reboot the machine, and see that the service runs each time."""
        self.do(machine, f"systemctl restart {unit} && systemctl kill --signal=KILL {unit}")
        self.do(machine, f"for i in $(seq 60); do sleep 2; systemctl -q is-active {unit} && exit; done; exit 1")
        machine.reboot(lambda: machine.run("systemctl reboot"))
        self.do(machine, f"systemctl is-active {unit}")
        self.say(f"{machine.name}  {unit} is back after SIGKILL, and after a reboot")

    def after(self) -> str:
        """What doctor and authority say of the host in its new boot."""
        self.type(self.host, OPERATOR, "agent doctor", tries=3)
        every = {" --state failed --state degraded --state stale": ""}
        return self.type(self.authority, WATCH, "authority watch hosts", every).out

    def control(self, fingerprint: str, host: str) -> tuple[str, str]:
        """The controller: what Debian's nova finds with the page's settings, and what the status service says."""
        machine = self.controller
        machine.start()
        machine.wait()
        self.prepare(machine)
        self.type(machine, OPERATOR, "apt-get install")
        self.type(machine, OPERATOR, "trust add", {"SHA256:…": fingerprint})
        self.type(machine, OPERATOR, "install -D -m 644")
        self.type(machine, OPERATOR, "cp /usr/share/doc")
        self.do(machine, f"echo '{self.host.name} = \"{host}\"' >>/etc/watchword/status.toml")
        self.type(machine, OPERATOR, "enable --now watchword-status")
        settings = self.guide.block(OPERATOR, "ini", "status_url")
        self.do(machine, f"printf %s {shlex.quote(settings)} >>/etc/nova/nova.conf")
        found = self.do(machine, f"sudo -u nova python3 -c {shlex.quote(_SCHEDULER)}").out
        ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8450/v1/hosts').read().decode())"
        loop = f"for i in $(seq 30); do python3 -c {shlex.quote(ask)} && exit; sleep 2; done; exit 1"
        return found, self.do(machine, loop).out


# What nova-scheduler does with its settings when it starts, without the database that it needs for all else.
_SCHEDULER = """
import nova.conf
from nova import config
config.parse_args(["nova-scheduler", "--config-file", "/etc/nova/nova.conf"])
from nova.scheduler import filters, weights
settings = nova.conf.CONF.filter_scheduler
found = {each.__name__ for each in filters.HostFilterHandler().get_matching_classes(settings.available_filters)}
assert set(settings.enabled_filters) <= found
weighers = weights.HostWeightHandler().get_matching_classes(settings.weight_classes)
print(settings.enabled_filters[-1], weighers[-1].__name__, nova.conf.CONF.watchword.status_url)
"""


def _profile(key: str) -> dict[str, object]:
    """Two levels of demands on a host with Debian's boot loader, endorsed by ``key``."""
    boot = {
        "identity": ["virtual"], "covers": [0, 2, 4, 7, 8, 9], "stacks": ["compute"], "secure_boot": True,
        "endorsers": {"keys": [key], "threshold": 1}, "ima_policy": ["tcb"], "runtime": "ignored",
    }  # fmt: skip
    levels = [{"name": "boot", "rules": boot}, {"name": "full", "rules": {**boot, "runtime": "listed"}}]
    pcrs = list(range(15))  # 0 to 9 are what ties the runtime log to the boot
    return {"format": "watchword-profile/1", "name": "gold", "bank": "sha256", "pcrs": pcrs, "levels": levels}


def _find(document: object, name: str) -> object:
    """The first value called ``name`` in a document."""
    if isinstance(document, dict):
        if name in document:
            return document[name]
        document = list(document.values())
    for each in document if isinstance(document, list) else []:
        found = _find(each, name)
        if found is not None:
            return found
    return None
