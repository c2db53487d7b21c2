"""What is done with the composition, in this order; each act returns what was seen, or raises RuntimeError."""

from __future__ import annotations

import os
import signal
import ssl
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from e2e.compose.engine import AUTHORITIES, SERVICES, Engine
from e2e.compose.fleet import DATA, Fleet, Load

__all__ = ["ACTS", "Run"]

_USER: Final = 970
_AWAY: Final = 8.0  # seconds without a database
_BACK: Final = 20.0  # seconds within which launches go on once it is there again
_PATIENCE: Final = 120.0


class Run:
    """One run; ``received`` are the ids of all tokens whose secret arrived."""

    def __init__(self, engine: Engine, fleet: Fleet) -> None:
        self.engine, self.fleet = engine, fleet
        self.received: list[bytes] = []
        self.fingerprint = ""
        self.machines = 0

    def ready(self, service: str) -> bool:
        """What the authority in this container says to the balancer's question."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            url = f"https://{self.engine.address(service)}:8443/v1/ready"
            with urllib.request.urlopen(url, timeout=3, context=context) as answer:
                return bool(answer.status == 200)
        except (OSError, ValueError):
            return False

    def wait_ready(self) -> float:
        """Until both authorities are ready and the balancer sends to them; the seconds that took."""
        start = time.monotonic()
        for service in AUTHORITIES:
            _until(f"{service} is not ready", lambda service=service: self.ready(service))
        _until("the balancer has nowhere to send to", _through_balancer)
        return time.monotonic() - start

    def finish(self, load: Load) -> Counter[str]:
        """Keep what a load received; RuntimeError when a launch was refused or opened something else."""
        self.received += load.received
        wrong = {what: n for what, n in load.said.items() if what != "released" and not what.startswith("try again")}
        _require(not wrong, f"launches ended as none may: {wrong}")
        return load.said


def _through_balancer() -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen("https://127.0.0.1:8443/v1/ready", timeout=3, context=context) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _until(problem: str, true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not true():
        _require(time.monotonic() < deadline, f"{problem} after {_PATIENCE:.0f} s")
        time.sleep(1)


def _require(true: bool, problem: str) -> None:
    if not true:
        raise RuntimeError(problem)


def _told(said: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in said.most_common())


def up(run: Run) -> str:
    """The composition starts, and both authorities are ready behind the balancer."""
    run.engine.up()
    seconds = run.wait_ready()
    restarts = sum(run.engine.inspect(service)["RestartCount"] for service in AUTHORITIES)
    return f"ready after {seconds:.0f} s; authorities started again {restarts} times while there was no database yet"


def confined(run: Run) -> str:
    """What runs is read-only, is nobody's root, may nothing, and is reached through the balancer only."""
    for service in AUTHORITIES:
        proc = Path("/proc", str(run.engine.pid(service)))
        status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
        _require(set(status["Uid"].split()) == {str(_USER)}, f"{service} runs as {status['Uid']}")
        held = {name: status[name] for name in status if name.startswith("Cap") and int(status[name], 16)}
        _require(not held, f"{service} has capabilities: {held}")
        _require(status["NoNewPrivs"].strip() == "1", f"{service} may gain privileges")
        root = next(line.split() for line in (proc / "mountinfo").read_text().splitlines() if line.split()[4] == "/")
        _require("ro" in root[5].split(","), f"the root of {service} is mounted {root[5]}")
        routes = [line.split() for line in (proc / "net" / "route").read_text().splitlines()[1:]]
        _require(all(route[1] != "00000000" for route in routes), f"{service} has a way out of its network")
        password = run.engine.environment["DATABASE_PASSWORD"].encode()
        _require(password not in (proc / "cmdline").read_bytes(), f"{service} has the password in its arguments")
        for folder in ("/", "/opt/watchword", "/etc", "/var"):
            done = run.engine.execute(service, "sh", "-c", f"touch {folder}/x 2>&1 || true")
            _require("Read-only file system" in done, f"{service} may write to {folder}: {done}")
        mode = run.engine.execute(service, "stat", "--format=%U %a", DATA).strip()
        _require(mode == "watchword 700", f"{DATA} of {service} is {mode}")
    bound = {name: run.engine.inspect(name)["HostConfig"]["PortBindings"] or {} for name in SERVICES}
    ports = {name: [port for port, places in bound[name].items() if places] for name in SERVICES}
    _require({name for name in ports if ports[name]} == {"balancer"}, f"ports are open: {ports}")
    return f"user {_USER}, no capabilities, no new privileges, root read-only, no route out; open: 8443 of the balancer"


def released(run: Run) -> str:
    """A tenant pins the authority, hosts enrol, a machine is launched with a token, and proves itself."""
    run.fingerprint = run.fleet.settle()
    verdict = run.fleet.launch_machine("web1")
    _require(verdict["verdict"] == "trusted", f"the verdict is {verdict}")
    run.machines += 1
    return f"{run.fleet.hosts} hosts enrolled; web1 is {verdict['verdict']}"


def killed(run: Run) -> str:
    """One authority is killed while hosts launch; the other goes on, and the first comes back."""
    before = run.engine.pid("authority-1")
    with run.fleet.load() as load:
        load.until_released(20)
        os.kill(before, signal.SIGKILL)
        load.until_released(30)
        _until("authority-1 does not come back", lambda: run.engine.pid("authority-1") not in (0, before))
        run.wait_ready()
        load.until_released(15)
    said = run.finish(load)
    return f"{_told(said)}; no release for {load.pause:.1f} s at most"


def drained(run: Run) -> str:
    """One authority is stopped in order while hosts launch: no launch notices."""
    with run.fleet.load() as load:
        load.until_released(10)
        start = time.monotonic()
        run.engine.compose("stop", "authority-2")
        stopped = time.monotonic() - start
        code = run.engine.inspect("authority-2")["State"]["ExitCode"]
        load.until_released(10)
        run.engine.compose("start", "authority-2")
        run.wait_ready()
        load.until_released(10)
    said = run.finish(load)
    _require(code == 0, f"authority-2 ended with {code}")
    _require(set(said) == {"released"}, f"launches noticed: {_told(said)}")
    return f"{_told(said)}; it took {stopped:.0f} s to stop"


def database(run: Run) -> str:
    """The database is stopped for a while as hosts launch: they are told to try again, and go on soon after."""
    with run.fleet.load() as load:
        load.until_released(10)
        run.engine.compose("stop", "database")
        _until("nobody was told to try again", lambda: load.said["try again: store-unavailable"] > 0)
        time.sleep(_AWAY)
        run.engine.compose("start", "database")
        load.until_released(1, _BACK)
        load.until_released(20)
        run.wait_ready()
    said = run.finish(load)
    return f"{_told(said)}; no release for {load.pause:.1f} s at most"


def again(run: Run) -> str:
    """Everything is stopped and removed but the volumes; after another start everything is there."""
    run.engine.compose("stop")
    codes = {service: run.engine.inspect(service)["State"]["ExitCode"] for service in AUTHORITIES}
    _require(not any(codes.values()), f"authorities ended with {codes}")
    run.engine.compose("down")
    _require(not run.engine.podman("ps", "--all", "--quiet").strip(), "containers are left")
    run.engine.up()
    run.wait_ready()
    found = run.fleet.must("authority", "keys", "show", "--data", DATA)["fingerprint"]
    _require(found == run.fingerprint, "it is another authority")
    with run.fleet.load() as load:
        load.until_released(5)
    run.finish(load)
    run.fleet.must("receipt", "fetch", "web1", "--output", str(run.fleet.folder / "receipt"))
    return f"the same authority; hosts launch without enrolling again; {_record(run)}"


def _record(run: Run) -> str:
    """The record is whole, and has every release that arrived, once."""
    found = run.fleet.must("authority", "decisions", "--verify", "--limit", "100000", "--data", DATA)["decisions"]
    tokens = Counter(row["entry"]["token"] for row in found if row["entry"].get("outcome") == "released")
    missing = [token for token in run.received if token.hex() not in tokens]
    _require(not missing, f"{len(missing)} releases arrived and are not in the record")
    _require(max(tokens.values()) == 1, "a token was released twice")
    total = len(run.received) + run.machines
    return f"{total} releases arrived, {sum(tokens.values())} are in the record, no token twice"


ACTS: Final[dict[str, Callable[[Run], str]]] = {
    "up": up, "confined": confined, "released": released, "killed": killed, "drained": drained,
    "database": database, "again": again,
}  # fmt: skip
