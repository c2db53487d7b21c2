"""A small cloud, as a tenant sees one: an API to start machines, a scheduler, compute hosts with an agent each.

It can be honest or play tricks. Nothing about trust is faked here: hosts are asked through the real
``watchword agent`` command, machines are real QEMU processes, and a trick is what a provider's administrator could do
with the same parts. What the API speaks is what ``watchword launch`` expects (``docs/reference/provider-api.md``).
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from watchword.agent.hypervisor import Machine as QemuMachine
from watchword.agent.hypervisor import free_port, start, stop_process
from watchword.wire.share import METADATA_KEYS

__all__ = ["ComputeHost", "Machine", "Provider", "honest"]

_MAX_BODY = 1 << 20
_LAUNCH_SECONDS = 180
_VM_NAME = "vm"


@dataclass(frozen=True, slots=True)
class ComputeHost:
    """A host of the provider: ``name`` and the settings file of its agent."""

    name: str
    agent_config: Path


@dataclass(slots=True)
class Machine:
    """A server as the API shows it; ``fault`` is what a tenant reads when it did not start."""

    id: str
    name: str
    request: Mapping[str, Any]
    status: str = "BUILD"
    host: str = ""
    address: str = ""
    port: int = 0
    fault: str = ""
    pids: list[int] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "status": self.status,
            "address": self.address,
            "port": self.port,
            "fault": self.fault,
        }


Behaviour = Callable[["Provider", Machine], None]


class Provider:
    """The cloud; ``url`` is its API once started. ``behaviour`` decides what it does with each new machine."""

    def __init__(self, hosts: list[ComputeHost], images: Mapping[str, Path], folder: Path, *, port: int = 0) -> None:
        self.hosts = {host.name: host for host in hosts}
        self.images = dict(images)
        self.folder = folder
        self.machines: dict[str, Machine] = {}
        self.behaviour: Behaviour = honest(hosts[0].name)
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Provider:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for machine in self.machines.values():
            self.stop(machine)

    def create(self, request: Mapping[str, Any]) -> Machine:
        """Accept an order and start working on it in the background."""
        machine = Machine(secrets.token_hex(8), str(request.get("name", ""))[:64], request)
        with self._lock:
            self.machines[machine.id] = machine
        threading.Thread(target=self._build, args=(machine,), daemon=True).start()
        return machine

    def agent(self, machine: Machine, host: str, *, image: Path | None = None, extra: tuple[str, ...] = ()) -> bool:
        """Have ``host``'s agent launch the machine; its refusal becomes the machine's fault. True when it runs."""
        folder = Path(tempfile.mkdtemp(prefix="vm-", dir=self.folder))
        arguments = [
            *("agent", "launch", "--config", str(self.hosts[host].agent_config), "--token-file", "-", "--json"),
            *("--disk", str(image or self.image(machine)), "--instance", machine.id, "--folder", str(folder)),
            *("--detach", *extra),
        ]
        metadata = machine.request.get("metadata", {})
        if "watchword_inputs" in metadata:
            arguments += ["--inputs", str(metadata["watchword_inputs"])]
        user_data = machine.request.get("user_data", "")
        if user_data:
            path = folder / "user-data"
            path.write_bytes(base64.b64decode(user_data))
            arguments += ["--user-data", str(path)]
        machine.host = host
        code, answer = run_watchword(arguments, tokens(metadata), _LAUNCH_SECONDS)
        if code == 0:
            machine.pids.append(int(answer["pid"]))
            machine.address, machine.port = str(answer["ssh"]["address"]), int(answer["ssh"]["port"])
            return True
        error = answer.get("error", {})
        machine.fault = f"{error.get('code', 'failed')}: {error.get('message', '')}"
        return False

    def image(self, machine: Machine) -> Path:
        """The image that the tenant asked for."""
        return self.images[str(machine.request.get("image", ""))]

    def stop(self, machine: Machine) -> None:
        """Power off."""
        for pid in machine.pids:
            stop_process(pid, _VM_NAME)
        machine.pids.clear()

    def boot_anyway(self, machine: Machine) -> None:
        """Start the machine as any hypervisor would, with no secret in it: whatever an agent refused."""
        folder = Path(tempfile.mkdtemp(prefix="vm-", dir=self.folder))
        with self.image(machine).open("rb") as disk:
            running = start(QemuMachine(_VM_NAME, folder, disk.fileno(), free_port("127.0.0.1")))
        machine.pids.append(running.pid)
        machine.address, machine.port = running.machine.ssh_address, running.ssh_port
        machine.fault = ""
        running.detach()

    def _build(self, machine: Machine) -> None:
        try:
            self.behaviour(self, machine)
        except Exception as error:  # noqa: BLE001 - a cloud reports its own faults, whatever they are
            machine.fault = f"provider: {error}"
        # Only now: whoever polls must not see a state that is about to change.
        machine.status = "ACTIVE" if machine.pids else "ERROR"


def tokens(metadata: Mapping[str, Any]) -> str:
    """The tokens and the launch set in a server's metadata, as the agent takes them."""
    return "\n".join(str(metadata[key]) for key in METADATA_KEYS if key in metadata)


def honest(host: str) -> Behaviour:
    """Launch on ``host`` and accept what its agent says."""

    def behave(provider: Provider, machine: Machine) -> None:
        provider.agent(machine, host)

    return behave


def run_watchword(arguments: list[str], text: str, timeout: float) -> tuple[int, dict[str, Any]]:
    """Run one ``watchword`` command with ``--json`` in ``arguments``; returns exit status and answer."""
    command = [sys.executable, "-m", "watchword", *arguments]
    done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=timeout, check=False)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = {"error": {"code": "no-answer", "message": done.stderr.decode(errors="replace")[-500:]}}
    return done.returncode, answer if isinstance(answer, dict) else {}


def _handler(provider: Provider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            machine = provider.machines.get(self.path.rpartition("/")[2])
            if not self.path.startswith("/v1/servers/") or machine is None:
                self._answer(404, {"fault": "no such server"})
            else:
                self._answer(200, machine.document())

        def do_POST(self) -> None:
            request = self._body()
            if self.path != "/v1/servers" or request is None:
                self._answer(400, {"fault": "expected a JSON object at /v1/servers"})
            elif request.get("image") not in provider.images:
                self._answer(404, {"fault": "no such image"})
            else:
                self._answer(202, provider.create(request).document())

        def _body(self) -> dict[str, Any] | None:
            length = int(self.headers.get("Content-Length") or 0)
            if not 0 < length <= _MAX_BODY:
                return None
            try:
                document = json.loads(self.rfile.read(length))
                base64.b64decode(document.get("user_data", ""), validate=True)
            except (ValueError, AttributeError, TypeError, binascii.Error):
                return None
            return document if isinstance(document, dict) else None

        def _answer(self, status: int, document: Mapping[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet: a demonstration has its own words."""

    return Handler
