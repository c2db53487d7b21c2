"""The authority's process is killed: at any moment, and at each system call of one release."""

from __future__ import annotations

import random
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

from faults.judge import judged, look_at_log, violations
from faults.load import Token
from faults.outcome import Outcome, Unable
from faults.service import Service
from watchword.testing.replayed import Line, ReplayedHost
from watchword.wire.evidence import Purpose
from watchword.wire.messages import Challenge, ChallengeRequest, Release

__all__ = ["at_any_moment", "at_every_call"]

_CALLS = ("fcntl", "pread64", "pwrite64", "fdatasync", "getrandom", "write")
_ATTACHED = re.compile(r"Process \d+ attached")


def at_any_moment(folder: Path, times: int) -> Outcome:
    """``kill -9`` while eight hosts launch, then a start, ``times`` times."""
    outcome = Outcome()
    with closing(Service(folder)) as service:
        for _ in range(times):
            with judged(service, outcome, 40) as load:
                load.wait_for(random.randint(1, 120))
                time.sleep(random.random() * 0.02)
                service.kill()
                load.end()
                service.start()
    return outcome


def at_every_call(folder: Path, times: int) -> Outcome:
    """``kill -9`` on entering each system call of one release.

    For every kind of call the first, the second and so on, until the process survived ``times`` releases in a row:
    there is no such call any more.
    """
    outcome = Outcome()
    with closing(Service(folder, hosts=2)) as service:
        for call in _CALLS:
            killed, survived = 0, 0
            for number in count(1):
                died = _kill_once(service, call, number, outcome)
                killed, survived = killed + died, 0 if died else survived + 1
                if survived >= times:
                    break
            outcome.notes.append(f"killed at {killed} calls of {call}")
    return outcome


def _kill_once(service: Service, call: str, number: int, outcome: Outcome) -> bool:
    token = Token.seal(service)
    seen = look_at_log(service, None)
    arrived = _release_killed_at(service, token, call, number)
    died = _died(service, 0.3 if arrived else 5)
    if died:
        service.start()
    with service.store() as store:
        counted = store.releases(token.id)
    said = "survived" if not died else f"killed; counted {counted}, {'released' if arrived else 'no answer'}"
    outcome.add(Counter({said: 1}), violations(service, [token], {token.id: int(arrived)}, seen))
    return died


def _release_killed_at(service: Service, token: Token, call: str, number: int) -> bool:
    """Whether the release arrived, when a thread is killed at its ``number``-th system call ``call``."""
    line = Line(service.url, service.keys, 10)
    host: ReplayedHost = service.hosts[1]
    challenge = line.ask(ChallengeRequest(host.host_id, Purpose.LAUNCH, token.text))
    if not isinstance(challenge, Challenge):
        raise RuntimeError(f"no challenge: {challenge}")
    request, key = host.release_request(challenge, token.text, "vm")
    with _killer(service.process.pid, call, number):
        try:
            return isinstance(line.ask(request, key), Release)
        except Exception:  # noqa: BLE001 - whatever a client sees of a server that died
            return False
        finally:
            line.close()


def _died(service: Service, seconds: float) -> bool:
    """Whether the process ends within so many seconds: a killed one takes a moment."""
    try:
        service.process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


@contextmanager
def _killer(process: int, call: str, number: int) -> Iterator[None]:
    """strace(1), attached to all threads of ``process``, kills the one that enters its ``number``-th ``call``."""
    tasks = [path.name for path in Path(f"/proc/{process}/task").iterdir()]
    with tempfile.NamedTemporaryFile("r") as said:
        command = ["strace", "-o", "/dev/null", "-e", f"inject={call}:signal=SIGKILL:when={number}"]
        command += [f"-p{task}" for task in tasks]
        with open(said.name, "w") as errors:
            try:
                tracer = subprocess.Popen(command, stderr=errors)
            except FileNotFoundError:
                raise Unable("strace is not installed") from None
        try:
            deadline = time.monotonic() + 10
            while len(_ATTACHED.findall(Path(said.name).read_text())) < len(tasks):
                if tracer.poll() is not None or time.monotonic() > deadline:
                    raise Unable(f"strace cannot attach: {Path(said.name).read_text()[:200]}")
                time.sleep(0.01)
            yield
        finally:
            tracer.kill()  # told to end, it would wait for a process that only we can reap
            tracer.wait()
