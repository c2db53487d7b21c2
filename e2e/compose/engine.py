"""podman and podman-compose with storage, settings and networks of their own, below one folder.

The run has mount, process and network namespaces of its own (``bin/compose-e2e`` makes the first two), so containers,
bridges and mounts end with it; images are kept for the next run.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["AUTHORITIES", "ROOT", "SERVICES", "Engine"]

ROOT = Path(__file__).resolve().parent.parent.parent
AUTHORITIES = ("authority-1", "authority-2")
SERVICES = ("database", *AUTHORITIES, "balancer")
COMPOSE = ROOT / "packaging" / "compose" / "compose.yaml"
_CLONE_NEWNET = 0x40000000
_SETTINGS = """\
[containers]
cgroups = "disabled"
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_config_dir = "{state}/networks"
"""
_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{state}/storage"
runroot = "/run/containers/storage"
"""


def _checked(*command: str | Path, environment: Mapping[str, str], text: str | None = None, check: bool = True,
            timeout: float = 1800) -> str:  # fmt: skip
    """Run a command to its end; what it printed. Raises RuntimeError with what it said when it fails."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, input=text or "", env=environment,
        timeout=timeout, cwd=ROOT,
    )  # fmt: skip
    if check and done.returncode:
        said = (done.stderr + done.stdout)[-1500:]
        raise RuntimeError(f"{' '.join(map(str, command))[:200]}: exit {done.returncode}: {said}")
    return done.stdout


class Engine:
    """``state`` holds images and settings; ``variables`` are what the composition asks for."""

    def __init__(self, state: Path, variables: Mapping[str, str]) -> None:
        self.state = state
        self.environment = {
            **os.environ,
            **variables,
            "CONTAINERS_CONF": str(state / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(state / "storage.conf"),
            "DISABLE_HC_SYSTEMD": "true",  # whoever has systemd has its timers for health checks; we are the timer
        }
        self._stop = threading.Event()

    def prepare(self) -> None:
        """Write the settings and cover what podman writes to outside of ``state``."""
        (self.state / "networks").mkdir(parents=True, exist_ok=True)
        files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1 << 20)
        processes = min(resource.getrlimit(resource.RLIMIT_NPROC)[1], 1 << 15)  # podman lowers its own to this
        settings = _SETTINGS.format(files=files, processes=processes, state=self.state)
        (self.state / "containers.conf").write_text(settings)
        (self.state / "storage.conf").write_text(_STORAGE.format(state=self.state))
        (self.state / "hosts").write_text("127.0.0.1 localhost authority.example\n")
        resolver = Path("/etc/resolv.conf").read_text()
        for folder in ("/run", "/dev/shm"):
            self.run("mount", "-t", "tmpfs", "tmpfs", folder)
        if Path("/etc/resolv.conf").resolve().is_relative_to("/run"):
            target = Path("/etc/resolv.conf").resolve()
            target.parent.mkdir(parents=True)
            target.write_text(resolver)
        self.run("mount", "--bind", self.state / "hosts", "/etc/hosts")
        if Path("/sys/fs/cgroup/unified").is_dir():  # crun takes one version of cgroups or the other, not both
            _checked("umount", "/sys/fs/cgroup/unified", environment=self.environment, check=False)

    def leave_the_network(self) -> None:
        """From now on this process, and what it starts, is on a network that ends in itself. Call before any thread."""
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        self.run("ip", "link", "set", "lo", "up")

    # -- commands ----------------------------------------------------------------------------------------------

    def run(self, *command: str | Path) -> str:
        return _checked(*command, environment=self.environment)

    def podman(self, *arguments: str | Path, text: str | None = None, check: bool = True) -> str:
        return _checked("podman", *arguments, environment=self.environment, text=text, check=check)

    def compose(self, *arguments: str) -> str:
        """podman-compose on our composition."""
        return self.run(Path(sys.executable).with_name("podman-compose"), "-f", COMPOSE, *arguments)

    def up(self) -> None:
        self.compose("up", "--detach", "--no-build")

    def wipe(self) -> None:
        """Remove all containers and volumes; images stay. Raises RuntimeError when something is left."""
        for _ in SERVICES:  # one that another depends on is removed after it
            self.podman("rm", "--all", "--force", "--time", "0", check=False)
        if left := self.podman("ps", "--all", "--quiet").split():
            raise RuntimeError(f"containers are left: {left}")
        self.podman("volume", "rm", "--all", "--force")

    # -- containers --------------------------------------------------------------------------------------------

    def inspect(self, service: str) -> dict[str, Any]:
        """What podman knows of the container of a service."""
        found: list[dict[str, Any]] = json.loads(self.podman("inspect", f"watchword_{service}_1"))
        return found[0]

    def pid(self, service: str) -> int:
        """Its main process, as we see it; 0 when it does not run."""
        return int(self.inspect(service)["State"]["Pid"])

    def address(self, service: str) -> str:
        """On the inner network."""
        return str(self.inspect(service)["NetworkSettings"]["Networks"]["watchword_inside"]["IPAddress"])

    def execute(self, service: str, *command: str, text: str | None = None, check: bool = True) -> str:
        """Run a command in the container of a service."""
        return self.podman("exec", "--interactive", f"watchword_{service}_1", *command, text=text, check=check)

    def logs(self, service: str) -> str:
        done = subprocess.run(
            ["podman", "logs", f"watchword_{service}_1"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=self.environment, check=False,
        )  # fmt: skip
        return done.stdout

    # -- health ------------------------------------------------------------------------------------------------

    def watch_health(self) -> None:
        """Ask the health check of the database every two seconds, as a timer of systemd would."""
        threading.Thread(target=self._ask, daemon=True).start()

    def _ask(self) -> None:
        while not self._stop.wait(2):
            self.podman("healthcheck", "run", "watchword_database_1", check=False)

    def close(self) -> None:
        """Take everything down, whatever state it is in."""
        self._stop.set()
        time.sleep(0.1)
        self.wipe()
