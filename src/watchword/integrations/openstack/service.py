"""The agent as a service: everything that runs in ``watchword agent serve``, put together and taken apart."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any

from watchword.agent.config import Config, Enrolment
from watchword.errors import WatchwordError
from watchword.integrations.libvirt.domain import defined_domain
from watchword.integrations.libvirt.gate import Gate, GateServer
from watchword.integrations.openstack.attestor import Attestors
from watchword.integrations.openstack.builds import Builds
from watchword.integrations.openstack.keystone import Keystone
from watchword.integrations.openstack.opener import Opener
from watchword.integrations.openstack.peer import Peers
from watchword.integrations.openstack.refusals import Reporter
from watchword.integrations.openstack.server import AgentServer
from watchword.integrations.openstack.settings import ServeSettings, StatusSettings
from watchword.integrations.openstack.vendordata import VendordataService

__all__ = ["AgentService"]

_GATE_SECONDS = 30.0  # below what the hook waits


class AgentService:
    """Listens while it is used as a context manager; ``url`` is nova's way in. Raises what its parts raise."""

    def __init__(self, config: Config, serve: ServeSettings, status: StatusSettings) -> None:
        self._config = config
        self._stack = ExitStack()
        host, port = serve.address
        opener = Opener(config)
        self.builds = Builds(opener, partial(defined_domain, serve.libvirt), serve.base, config.state / "builds")
        self.attestors = Attestors(opener, status, len(config.authorities))
        self._report = Reporter(status.report).report
        self._gate = self._make_gate(serve) if str(serve.socket) else None
        callers = Keystone(serve.keystone, serve.keystone_user) if serve.keystone else None
        service = VendordataService(
            self.builds, deadline=serve.deadline, on_refusal=serve.on_refusal, report=self._report, callers=callers
        )
        self._server = AgentServer(host, port, service.answer, self.health, Peers(serve.users), serve.deadline + 1)
        self.url = self._server.url

    def _make_gate(self, serve: ServeSettings) -> GateServer:
        def check() -> None:
            # Switched off by rank = 0: then only the first start was appraised, for its launch.
            if self.attestors.active:
                self.attestors.check(min(serve.deadline, _GATE_SECONDS))

        gate = Gate(check, self.builds.check_first_start, self.builds.forget, self.builds.forget, self._report)
        return GateServer(serve.socket, gate)

    def __enter__(self) -> AgentService:
        self._start(self._server)
        if self._gate is not None:
            self._start(self._gate)
        if self.attestors.active:
            self.attestors.start()
            self._stack.callback(self.attestors.stop)
        return self

    def _start(self, server: AgentServer | GateServer) -> None:
        thread = threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(server.server_close)
        self._stack.callback(server.shutdown)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def health(self) -> dict[str, Any]:
        """Whether a launch could work, as far as files tell; the TPM and the authority are not asked."""
        try:
            enrolled = Enrolment.read(self._config.state) is not None
            names = [keys.authority for keys in self._config.pinned()]
        except WatchwordError as error:
            return {"ready": False, "code": error.code, "message": error.message}
        if not enrolled:
            return {"ready": False, "code": "not-enrolled", "message": "this host is not enrolled"}
        return {"ready": True, "authority": names[0], "authorities": names}
