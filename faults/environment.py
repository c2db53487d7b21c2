"""What the authority stands on gives way: its disk fills up, its clock jumps."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from faults.judge import judged, look_at_log, violations
from faults.load import Token, launch
from faults.outcome import Outcome, Unable
from faults.service import Service
from watchword.testing.replayed import Line
from watchword.wire.evidence import Purpose
from watchword.wire.messages import Challenge, ChallengeRequest, Refusal, Release

__all__ = ["clock_jumps", "disk_full"]

_FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
_FAKE = {"LD_PRELOAD": _FAKETIME, "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
_HOUR = 3600


def disk_full(folder: Path, times: int) -> Outcome:
    """The file system of the data fills up while eight hosts launch, and is given room again, ``times`` times."""
    outcome = Outcome()
    with _small_disk(folder / "disk") as disk, closing(Service(folder, data=disk / "authority")) as service:
        for _ in range(times):
            with judged(service, outcome, 200) as load:
                load.wait_for(20)
                _fill(disk / "filler")
                load.wait_for(300, 10)
                (disk / "filler").unlink()
                load.wait_for(340, 10)
    return outcome


@contextmanager
def _small_disk(path: Path) -> Iterator[Path]:
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(path)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        raise Unable("mounting a small file system needs root")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def clock_jumps(folder: Path, times: int) -> Outcome:
    """The clock is an hour or a year ahead, then right again, while requests are on their way, ``times`` times."""
    if not Path(_FAKETIME).exists():
        raise Unable("libfaketime is not installed")
    outcome = Outcome()
    for turn in range(times):
        apart = folder / str(turn)
        apart.mkdir()
        offset = apart / "offset"
        offset.write_text("+0")
        fake = {**_FAKE, "FAKETIME_TIMESTAMP_FILE": str(offset)}
        with closing(Service(apart, environment=fake, hosts=4)) as service:
            seen = look_at_log(service, None)
            tokens = [Token.seal(service, allowed=2, seconds=10 * _HOUR) for _ in range(2)]
            received = Counter[bytes]()
            said, broken = _jump(service, offset, tokens, received, (_HOUR, 365 * 24 * _HOUR)[turn % 2])
            outcome.add(said, [*broken, *violations(service, tokens, received, seen)])
    return outcome


def _jump(
    service: Service, offset: Path, tokens: list[Token], received: Counter[bytes], ahead: int
) -> tuple[Counter[str], list[str]]:
    """A nonce from before the jump is used after it; a request from before it is sent again when it is over."""
    said, broken = Counter[str](), list[str]()
    line, host, token = Line(service.url, service.keys), service.hosts[2], tokens[0]

    def ask(name: str, request_and_key: tuple[object, bytes]) -> str:
        answer = line.ask(request_and_key[0], request_and_key[1])  # type: ignore[arg-type]
        heard = answer.code if isinstance(answer, Refusal) else type(answer).__name__.lower()
        said[f"{name}: {heard}"] += 1
        received[token.id] += isinstance(answer, Release)
        return heard

    def prepared() -> tuple[object, bytes]:
        challenge = line.ask(ChallengeRequest(host.host_id, Purpose.LAUNCH, token.text))
        if not isinstance(challenge, Challenge):
            raise RuntimeError(f"no challenge: {challenge}")
        return host.release_request(challenge, token.text, "vm")

    used, unused = prepared(), prepared()
    if ask("before the jump", used) != "release":
        broken.append("a launch with the right clock was refused")
    offset.write_text(f"+{ahead}")
    if ask("ahead, a nonce from before", unused) == "release":
        broken.append("an old nonce was accepted")
    outcome = launch(line, service.hosts[3], tokens[1])  # a year ahead, the token is over
    said[f"ahead, a launch: {outcome}"] += 1
    received[tokens[1].id] += outcome == "released"
    with service.store() as store, store.transaction() as tx:
        tx.prune_nonces(int(time.time()) + ahead)  # as the service does every minute
    offset.write_text("+0")
    time.sleep(1.1)  # nonces of the same second as one that was forgotten are refused
    if ask("right again, a request sent twice", used) == "release":
        broken.append("a request was answered twice")
    line.close()
    return said, broken
