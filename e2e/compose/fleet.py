"""Who uses the composition: a tenant, a provider, and six compute hosts with an emulated TPM each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from e2e.compose.engine import ROOT, Engine
from watchword.agent.config import Enrolment
from watchword.agent.host import Host
from watchword.agent.shares import obtain
from watchword.agent.transport import HttpsExchange
from watchword.crypto.token import seal_token
from watchword.errors import Unavailable, WatchwordError
from watchword.policy.profile import Profile
from watchword.testing.commands import Answer, audit, fetch_keys, run_command, watchword
from watchword.testing.emulated import EmulatedHost
from watchword.testing.farm import EkAuthority, Farm
from watchword.testing.provider import ComputeHost, Provider
from watchword.wire.token import TokenBody, token_id

__all__ = ["DATA", "URL", "Fleet", "Load", "build_guest"]

URL = "https://authority.example:8443"
DATA = "/var/lib/watchword"
_PAUSE = 0.6  # seconds between two launches of a host: one authority alone takes 120 a minute from each
_BOOT = ROOT / "vectors" / "boots" / "good"


class Fleet:
    """Everybody around the authority; their files are in ``folder``, which has the guest's image."""

    def __init__(self, engine: Engine, folder: Path, hosts: int = 6) -> None:
        self.engine, self.folder = engine, folder
        homes = {f"XDG_{kind}_HOME": str(folder / kind.lower()) for kind in ("CONFIG", "STATE", "DATA")}
        self.environment = {**os.environ, **homes}
        self._stack = ExitStack()
        self._makers = EkAuthority.create("Composition")
        farm = self._stack.enter_context(Farm(hosts, authority=self._makers))
        self._machines = [EmulatedHost(tpm, _BOOT) for tpm in farm.tpms]
        self._configs = [folder / f"host{number}" / "agent.toml" for number in range(hosts)]

    def close(self) -> None:
        self._stack.close()

    # -- commands ----------------------------------------------------------------------------------------------

    def run(self, *arguments: str | Path) -> Answer:
        """``watchword ARGUMENTS --json`` of a tenant or host; of the authority, in one of its containers."""
        if arguments[0] != "authority":
            return run_command(watchword(*arguments, "--json"), self.environment)
        file = next((word for word in arguments if isinstance(word, Path) and word.is_file()), None)
        words = ["/dev/stdin" if word is file else str(word) for word in arguments]
        done = subprocess.run(
            ["podman", "exec", "--interactive", "watchword_authority-1_1", "watchword", *words, "--json"],
            input=file.read_bytes() if file else b"", capture_output=True, check=False, env=self.engine.environment,
        )  # fmt: skip
        document = json.loads(done.stdout) if done.stdout.startswith(b"{") else {}
        return Answer(done.returncode, document, done.stderr.decode(errors="replace").strip())

    def must(self, *arguments: str | Path) -> dict[str, Any]:
        answer = self.run(*arguments)
        if answer.status:
            raise RuntimeError(f"watchword {' '.join(map(str, arguments))}: exit {answer.status}: {answer.said}")
        return answer.document

    # -- the acts of people ------------------------------------------------------------------------------------

    def settle(self) -> str:
        """The tenant pins, the auditor says what is good, the hosts enrol; the authority's fingerprint."""
        fingerprint = str(self.must("authority", "keys", "show", "--data", DATA)["fingerprint"])
        self.must("trust", "add", URL, "--fingerprint", fingerprint, "--name", "composed")
        self.keys = fetch_keys(URL, fingerprint, self.folder / "keys.json")
        self.profile = audit(self.must, self.folder, self._makers, _BOOT, Path(DATA))
        for machine, config in zip(self._machines, self._configs, strict=True):
            config.parent.mkdir()
            (config.parent / "intermediate.der").write_bytes(self._makers.intermediates[0])
            config.write_text(
                f'[authority]\nurl = "{URL}"\nkeys = "{self.folder}/keys.json"\nfingerprint = "{fingerprint}"\n'
                f'[tpm]\naddress = "{machine.tpm_address}"\nevent_log = "{machine.event_log_path}"\n'
                f'runtime_log = "{machine.ima_log_path}"\nintermediates = ["{config.parent}/intermediate.der"]\n'
                f'[host]\nstate = "{config.parent}"\n'
            )
            self.must("agent", "enrol", "--config", config)
        return fingerprint

    def launch_machine(self, name: str) -> dict[str, Any]:
        """A machine through the provider, and the tenant's verdict on it."""
        images = {"guest.img": self.folder / "guest.img"}
        with Provider([ComputeHost("host0", self._configs[0])], images, self.folder) as provider:
            self.must("launch", provider.url, "--authority", "composed", "--profile", self.profile,
                      "--disk", images["guest.img"], "--name", name)  # fmt: skip
            return self.must("verify", name)

    def host(self, number: int, stack: ExitStack) -> tuple[Host, bytes]:
        """A host's agent as a library, and the host's id."""
        enrolment = Enrolment.read(self._configs[number].parent)
        if enrolment is None:
            raise RuntimeError(f"host {number} is not enrolled")
        machine = self._machines[number]
        exchange = HttpsExchange(URL, self.keys, timeout=15)
        stack.callback(exchange.close)
        tpm = stack.enter_context(machine.tpm.client())
        host = Host(tpm, exchange, self.keys, enrolment.ek_kind, machine.event_log_path, machine.ima_log_path)
        return host, enrolment.host_id

    def load(self) -> Load:
        return Load(self)

    @property
    def hosts(self) -> int:
        return len(self._configs)


class Load:
    """Launches from all hosts, one after the other on each, a token for each, until the end of the block.

    ``said`` counts how they ended; ``received`` are the ids of the tokens whose secret arrived; ``pause`` is the
    longest time in seconds in which none did, ``slowest`` the longest that one took.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._profile = Profile.parse(fleet.profile.read_bytes()).id
        self.said: Counter[str] = Counter()
        self.received: list[bytes] = []
        self.pause, self.slowest = 0.0, 0.0
        self._last = time.monotonic()
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(fleet.hosts)]

    def __enter__(self) -> Load:
        self._last = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def until_released(self, more: int, seconds: float = 120) -> None:
        """Wait for so many more releases. Raises RuntimeError when they do not come."""
        wanted, deadline = len(self.received) + more, time.monotonic() + seconds
        while len(self.received) < wanted:
            if time.monotonic() > deadline:
                raise RuntimeError(f"launches do not go on: {dict(self.said)}")
            time.sleep(0.05)

    def _work(self, number: int) -> None:
        with ExitStack() as stack:
            host, host_id = self._fleet.host(number, stack)
            while not self._stop.is_set():
                body = TokenBody(os.urandom(32), os.urandom(16), bytes(32), self._profile, int(time.time()) + 3600)
                token = seal_token(body, self._fleet.keys.sealing_key())
                start = time.monotonic()
                try:
                    secret = obtain(host, host_id, token, "vm").secret
                    outcome = "released" if secret == body.secret else "another secret"
                except Unavailable as error:
                    outcome = f"try again: {error.code}"
                except WatchwordError as error:
                    outcome = f"refused: {error.code}"
                self._count(outcome, token, start)
                self._stop.wait(_PAUSE)

    def _count(self, outcome: str, token: str, start: float) -> None:
        with self._lock:
            now = time.monotonic()
            self.said[outcome] += 1
            self.slowest = max(self.slowest, now - start)
            if outcome == "released":
                self.received.append(token_id(token))
                self.pause, self._last = max(self.pause, now - self._last), now


def build_guest(folder: Path, cache: Path) -> None:
    """The tenant's image into ``folder``; made once."""
    if not (cache / "guest.img").exists():
        subprocess.run([ROOT / "images" / "guest" / "build", cache], check=True, stdout=subprocess.DEVNULL)
    shutil.copy(cache / "guest.img", folder)
