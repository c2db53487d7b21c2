"""The cloud: keystone, glance, placement, nova and two compute hosts, started in the order of their needs."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openstack

from e2e.openstack import settings
from e2e.openstack.databases import Databases
from e2e.openstack.processes import Daemons, listens, wait_until
from e2e.openstack.settings import AMQP_PORT, IDENTITY, PASSWORD, PORTS, STATUS_URL, Places
from e2e.openstack.spaces import CONTROLLER, TENANT_BRIDGE, TENANT_NET, Compute, prepare_controller, run

__all__ = ["FLAVOR", "TENANT", "Cloud"]

FLAVOR, MEMORY = "m1", 384
TENANT = "tenant"  # a user and a project, who may what every member may
_NOT_AUTH = ("region_name", "identity_api_version", "compute_api_version")
_WSGI = {
    "keystone": "keystone.wsgi.api:application",
    "glance": "glance.wsgi.api:application",
    "placement": "placement.wsgi.api:application",
    "nova": "nova.wsgi.osapi_compute:application",
}


class Cloud:
    """Everything below runs in the namespaces of this process; ``say`` gets a line per step."""

    def __init__(self, places: Places, cache: Path, say: Callable[[str], None]) -> None:
        self.places, self._say = places, say
        self.logs = places.state / "logs"
        self.daemons = Daemons(self.logs)
        self.computes = [Compute(number, places.state / f"cmp{number}") for number in (1, 2)]
        self.holders: dict[str, int] = {}
        folders = [str(places.environment / "bin"), "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        self.environment = {
            "PATH": ":".join(folders), "HOME": str(places.state), "LC_ALL": "C.UTF-8", "PYTHONWARNINGS": "ignore",
            "PYTHONPATH": str(places.checkout / "src"), "OS_AUTH_URL": IDENTITY, "OS_USERNAME": "admin",
            "OS_PASSWORD": PASSWORD, "OS_PROJECT_NAME": "admin", "OS_USER_DOMAIN_ID": "default",
            "OS_PROJECT_DOMAIN_ID": "default", "OS_REGION_NAME": "RegionOne", "OS_IDENTITY_API_VERSION": "3",
            "OS_COMPUTE_API_VERSION": "2.90",
        }  # fmt: skip
        self._cache = cache
        self.api: Any = None

    def compute(self, name: str) -> Compute:
        return next(compute for compute in self.computes if compute.name == name)

    def on(self, compute: Compute, *command: str | Path) -> list[str]:
        """``command`` as it runs on ``compute``."""
        return [*compute.enter(self.holders[compute.name]), *map(str, command)]

    # -- bringing up ---------------------------------------------------------------------------------------------

    def prepare(self, far: str) -> None:
        """Networks, mounts and configuration; nothing runs yet. The host ``far`` has no route to the authority."""
        self.logs.mkdir(parents=True)
        prepare_controller(self.places.state, self.computes)
        for compute in self.computes:
            process = compute.start_holder()
            self.holders[compute.name] = process.pid
            self.daemons.adopt(f"{compute.name}-namespaces", process)
        wait_until("the namespaces", self._divided, self.daemons, every=0.2)
        for compute in self.computes:
            compute.connect(self.holders[compute.name], routed=compute.name != far)
        settings.write_all(self.places, self.computes)

    def _divided(self) -> bool:
        holders = [(c.name, self.holders[c.name]) for c in self.computes]
        return all(Path(f"/proc/{pid}/comm").read_text().strip() == "sleep" for _, pid in holders)

    def start(self, before_compute: Callable[[], None]) -> None:
        """Start everything; ``before_compute`` runs when the controller is up."""
        self._rabbit()
        for compute in self.computes:
            self._libvirtd(compute)
        self._say("databases")
        Databases(self.places, self.daemons, self.environment, self._cache).start()
        self._say("keystone, glance, placement, nova")
        self._wsgi("keystone", OS_KEYSTONE_CONFIG_FILES=str(self.places.conf("keystone") / "keystone.conf"))
        self._wsgi("glance", OS_GLANCE_CONFIG_DIR=str(self.places.conf("glance")))
        self._wsgi("placement", OS_PLACEMENT_CONFIG_DIR=str(self.places.conf("placement")))
        neutron = [sys.executable, "-m", "e2e.openstack.neutron"]
        ours = {**self.environment, "PYTHONPATH": str(self.places.checkout)}
        self.daemons.start("neutron", [*neutron, CONTROLLER, str(PORTS["neutron"]), TENANT_NET], ours)
        for compute in self.computes:
            agent = self.on(compute, *neutron, "agent", TENANT_BRIDGE)
            self.daemons.start(f"neutron-agent-{compute.name}", agent, ours)
        self._listening("keystone")
        self.api = openstack.connect(**self._credentials())
        self._catalogue()
        self.api = openstack.connect(**self._credentials())  # the first one knows the catalogue as it was: empty
        wait_until("RabbitMQ", lambda: listens(CONTROLLER, AMQP_PORT), self.daemons)
        self._nova("conductor")
        self._nova("scheduler")
        nova = self.places.conf("nova")
        self._wsgi("nova", OS_NOVA_CONFIG_DIR=str(nova), OS_NOVA_CONFIG_FILES="api-paste.ini;nova.conf")
        for name in ("glance", "placement", "nova"):
            self._listening(name)
        before_compute()
        self._say("two nova-computes")
        for compute in self.computes:
            self.start_compute(compute)
        wait_until("both compute hosts", self._computes_up, self.daemons, every=3)
        run(self.places.program("nova-manage"), "--config-file", nova / "nova.conf", "cell_v2", "discover_hosts")
        self.api.compute.create_flavor(name=FLAVOR, ram=MEMORY, vcpus=1, disk=1)
        trusted = self.api.compute.create_flavor(name=f"{FLAVOR}.trusted", ram=MEMORY, vcpus=1, disk=1)
        self.api.compute.create_flavor_extra_specs(trusted, {"trust:level": "full"})

    def clouds(self) -> str:
        """A clouds.yaml: the tenant's cloud is called as in the tenant's guide, the administrator's as in the other."""
        admin = {key: value for key, value in self._credentials().items() if key not in _NOT_AUTH}
        auth = {"mine": {**admin, "username": TENANT, "project_name": TENANT}, "admin": admin}
        return json.dumps({"clouds": {name: {"auth": who, "region_name": "RegionOne"} for name, who in auth.items()}})

    def _credentials(self) -> dict[str, str]:
        names = {key: value for key, value in self.environment.items() if key.startswith("OS_")}
        return {key[3:].lower(): value for key, value in names.items()}

    def _rabbit(self) -> None:
        folder = self.places.conf("rabbit")
        data = self.places.state / "rabbit"
        data.mkdir()
        own = {
            **self.environment, "HOME": str(data), "RABBITMQ_NODENAME": "r@localhost",
            "RABBITMQ_PID_FILE": "/run/rabbit.pid",
            "RABBITMQ_MNESIA_BASE": str(data), "RABBITMQ_LOG_BASE": str(self.logs),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        }  # fmt: skip
        self.daemons.start("rabbitmq", ["/usr/lib/rabbitmq/bin/rabbitmq-server"], own)

    def _libvirtd(self, compute: Compute) -> None:
        command = ["libvirtd", "--listen", "-f", "/etc/libvirt/libvirtd.conf", "-p", "/run/libvirtd.pid"]
        self.daemons.start(f"libvirtd-{compute.name}", self.on(compute, *command), self.environment)

    def restart_libvirtd(self, compute: Compute) -> None:
        """It looks for hooks at its start."""
        self.daemons.stop(f"libvirtd-{compute.name}")
        self._libvirtd(compute)

    def _wsgi(self, name: str, **environment: str) -> None:
        folder = self.places.conf("gunicorn")
        folder.mkdir(exist_ok=True)
        file = folder / f"{name}.py"
        file.write_text(
            f'bind="{CONTROLLER}:{PORTS[name]}"\nwsgi_app="{_WSGI[name]}"\nworkers=1\nworker_class="gthread"\n'
            "threads=8\ntimeout=300\ncontrol_socket_disable=True\n"
        )
        # Options by the environment: keystone reads the command line of whoever loads it.
        own = {**self.environment, "GUNICORN_CMD_ARGS": f"-c {file}", **environment}
        self.daemons.start(f"{name}-api", [self.places.program("gunicorn")], own)

    def _nova(self, name: str) -> None:
        conf = self.places.conf("nova") / "nova.conf"
        command = [
            self.places.program(f"nova-{name}"),
            "--config-file",
            conf,
            "--log-file",
            self.logs / f"nova-{name}.log",
        ]
        self.daemons.start(f"nova-{name}", command, self.environment)

    def start_compute(self, compute: Compute) -> None:
        """nova-compute on ``compute``."""
        conf = self.places.conf(f"nova-{compute.name}") / "nova.conf"
        command = self.on(compute, self.places.program("nova-compute"), "--config-file", conf)
        self.daemons.start(f"nova-compute-{compute.name}", command, self.environment)

    def use_filter(self, on: bool) -> None:
        """Restart the scheduler with our filter, or without it."""
        settings.controller(self.places, on)
        self.daemons.stop("nova-scheduler")
        self._nova("scheduler")
        time.sleep(1)
        wait_until("the scheduler", self._scheduler_up, self.daemons, every=2)

    def _listening(self, name: str) -> None:
        wait_until(name, lambda: listens(CONTROLLER, PORTS[name]), self.daemons)

    def _catalogue(self) -> None:
        identity = self.api.identity
        project = identity.create_project(name="service", domain_id="default")
        user = identity.create_user(name="nova", password=PASSWORD, domain_id="default", default_project_id=project.id)
        roles = {role.name: role for role in identity.roles()}
        for role in ("admin", "service"):
            identity.assign_project_role_to_user(project, user, roles[role])
        own = identity.create_project(name=TENANT, domain_id="default")
        tenant = identity.create_user(name=TENANT, password=PASSWORD, domain_id="default", default_project_id=own.id)
        identity.assign_project_role_to_user(own, tenant, roles["member"])
        paths = {"nova": "/v2.1"}
        types = {"glance": "image", "placement": "placement", "nova": "compute", "neutron": "network"}
        for name, kind in {**types, "watchword": "watchword"}.items():
            service = identity.create_service(type=kind, name=name)
            url = f"http://{CONTROLLER}:{PORTS[name]}{paths.get(name, '')}" if name in PORTS else STATUS_URL
            for interface in ("public", "internal", "admin"):
                identity.create_endpoint(service_id=service.id, interface=interface, region_id="RegionOne", url=url)

    def _services(self, binary: str) -> list[Any]:
        return [s for s in self.api.compute.services() if s.binary == binary and s.state == "up"]

    def _computes_up(self) -> bool:
        if len(self._services("nova-compute")) < len(self.computes):
            return False
        # nova calls a host up before placement knows what it has.
        wanted = f"/allocation_candidates?resources=VCPU:1,MEMORY_MB:{MEMORY},DISK_GB:1"
        answer = self.api.placement.get(wanted, microversion="1.39")
        return len(answer.json().get("provider_summaries", {})) == len(self.computes)

    def _scheduler_up(self) -> bool:
        return "Starting scheduler" in self.log("nova-scheduler")[-3000:] or bool(self._services("nova-scheduler"))

    def log(self, name: str) -> str:
        path = self.logs / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def upload(self, name: str, image: Path) -> str:
        """An image in Glance from a raw disk; its id."""
        made = self.api.image.create_image(
            name=name, filename=str(image), disk_format="raw", container_format="bare", visibility="public", wait=True,
            timeout=600,
        )  # fmt: skip
        return str(made.id)

    def replace_image(self, image: str, disk: Path) -> None:
        """Put ``disk`` where Glance stores the content of ``image``, with its digests, as only the provider can."""
        run("cp", "--sparse=always", disk, self.places.state / "glance" / "images" / image)
        content = disk.read_bytes()
        md5, sha512 = hashlib.md5(content).hexdigest(), hashlib.sha512(content).hexdigest()
        run("mariadb", "--no-defaults", "-S", self.places.socket, "glance", "-e",
            f"update images set checksum='{md5}', os_hash_value='{sha512}' where id='{image}'")  # fmt: skip

    def stop(self) -> None:
        """Machines first, then everything else."""
        for compute in self.computes:
            if compute.name in self.holders:
                listed = run(*self.on(compute, "virsh", "-q", "list", "--uuid"), check=False).stdout.split()
                for uuid in listed:
                    run(*self.on(compute, "virsh", "-q", "destroy", uuid), check=False)
        self.daemons.stop_all()


def checkout() -> Path:
    """The folder of this repository."""
    return Path(os.path.realpath(__file__)).parent.parent.parent
