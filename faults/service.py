"""A real authority process that can be stopped, killed and started again at the same address."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from watchword.agent.hypervisor import free_port
from watchword.authority.store import DatabaseUrl, Host, Store
from watchword.crypto.keylist import KeyList, verify_chain
from watchword.policy.profile import Profile
from watchword.testing.replayed import Recording, ReplayedHost
from watchword.testing.world import profile_document, stack_from_recording
from watchword.verify.ek import EkClass

__all__ = ["Service"]

BOOT = Path(__file__).resolve().parent.parent / "vectors" / "boots" / "good"
_COMMAND = [sys.executable, "-m", "watchword", "authority"]
_READY_SECONDS = 60


class Service:
    """An authority in ``folder`` with one stack, one profile and ``hosts``; ``data`` may be on a file system apart.

    ``environment`` is added to the process's; its store is in ``database``, or a file in ``data``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        data: Path | None = None,
        environment: Mapping[str, str] | None = None,
        hosts: int = 8,
        database: DatabaseUrl | None = None,
    ) -> None:
        self.folder = folder
        self.data = data or folder / "authority"
        self.profile = Profile.parse(profile_document())
        self._database = database
        self._environment = {**os.environ, **(environment or {})}
        self._port = free_port("127.0.0.1")
        self._log = folder / "log"
        self.process = self._spawn()
        self._configure()
        self.keys = self._fetch_keys()
        self.hosts = self._enrol(hosts)

    @property
    def url(self) -> str:
        """Its address, which stays."""
        return f"https://localhost:{self._port}"

    @property
    def _where(self) -> list[str]:
        database = ["--database", self._database.text] if self._database else []
        return ["--data", str(self.data), *database]

    @property
    def log(self) -> str:
        """What it wrote to stderr, all starts together."""
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        """Start it again."""
        self.process = self._spawn()

    def kill(self) -> None:
        """SIGKILL: nothing is cleaned up."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Its store, opened by this process."""
        with Store.open(self._database or self.data / "store.sqlite3") as store:
            yield store

    def close(self) -> None:
        """End it, however it is."""
        if self.process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                self.stop()
        if self.process.poll() is None:
            self.kill()

    def _spawn(self) -> subprocess.Popen[bytes]:
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        listen = f"127.0.0.1:{self._port}"
        command = [*_COMMAND, "serve", *self._where, "--listen", listen, "--host-name", "localhost", "--per-host", "0"]
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [*command, "--ready-file", str(ready)], stdout=log, stderr=log, env=self._environment
            )
        deadline = time.monotonic() + _READY_SECONDS
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise RuntimeError(f"the authority does not start: {self.log[-2000:]}")
            time.sleep(0.02)
        return process

    def _configure(self) -> None:
        for name, content, arguments in (
            ("stack.json", stack_from_recording(BOOT), ["stack", "add", "--unendorsed"]),
            ("profile.json", profile_document(), ["profile", "add"]),
        ):
            path = self.folder / name
            path.write_bytes(content)
            self.command(*arguments, str(path))

    def command(self, *arguments: str) -> None:
        """Run ``watchword authority`` on the same data."""
        command = [*_COMMAND, *arguments, *self._where]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def _fetch_keys(self) -> KeyList:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the fingerprint is the check
        with urllib.request.urlopen(f"{self.url}/v1/keys", context=context, timeout=30) as response:
            chain = [json.dumps(envelope).encode() for envelope in json.load(response)["keys"]]
        return verify_chain(chain, json.loads((self.folder / "ready").read_text())["fingerprint"])

    def _enrol(self, count: int) -> list[ReplayedHost]:
        recording = Recording.load(BOOT)
        hosts = [ReplayedHost(recording) for _ in range(count)]
        with self.store() as store, store.transaction() as tx:
            for host in hosts:
                ak = host.tpm.ak
                tx.put_host(Host(ak.host_id, ak.ek.encode(), ak.ak.encode(), EkClass.VIRTUAL, int(time.time())))
        return hosts
