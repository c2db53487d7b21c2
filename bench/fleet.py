"""A fleet that attests again and again: what one attestation costs an authority, and how long hosts wait.

A real authority process over TLS on loopback. The hosts are software TPMs with real keys that quote the recorded boot,
so that making the evidence costs little beside judging it; they and the authority share the machine. The authority's
CPU is what the kernel accounts to its process: HTTP, TLS, Python, SQL and the durable write included.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from bench.measure import Figure
from bench.parts import BOOTS
from bench.service import authority, cpu
from watchword.agent.transport import new_reply_key
from watchword.authority.store import Host, Store
from watchword.crypto.envelope import open_reply, seal_request
from watchword.crypto.keylist import KeyList
from watchword.policy.profile import Profile
from watchword.testing.soft_tpm import SoftTpm
from watchword.testing.world import profile_document
from watchword.verify.ek import EkClass
from watchword.wire.evidence import Evidence, Purpose, binding
from watchword.wire.messages import (
    Attested,
    AttestRequest,
    Challenge,
    ChallengeRequest,
    Reply,
    Request,
    encode_request,
    parse_reply,
)
from watchword.wire.tpm.attest import ClockInfo

__all__ = ["run"]

_PCRS = json.loads((BOOTS / "good" / "pcrs.json").read_text())["sha256"]
_EVENTS = (BOOTS / "good" / "eventlog.bin").read_bytes()
_RUNTIME = (BOOTS / "good" / "ima.bin").read_bytes()


@dataclass
class Emitter:
    """One host that replays real evidence under its own key; its TPM's clock runs with every quote."""

    tpm: SoftTpm
    clock: int = 60_000
    pending: Challenge | None = None

    @property
    def host_id(self) -> bytes:
        return self.tpm.ak.host_id

    def evidence(self, challenge: Challenge) -> tuple[AttestRequest, bytes]:
        self.clock += 1000
        key = new_reply_key()
        bound = binding(
            host_id=self.host_id, nonce=challenge.nonce, purpose=Purpose.ATTEST, token="", instance="", reply_key=key
        )
        pcrs = {s.bank: {pcr: bytes.fromhex(_PCRS[str(pcr)]) for pcr in s.pcrs} for s in challenge.selections}
        attest, signature = self.tpm.quote(challenge.selections, pcrs, bound, ClockInfo(self.clock, 1, 0, True))
        asked = any(10 in selection.pcrs for selection in challenge.selections)
        whole = asked and not challenge.ima_from
        evidence = Evidence(
            host_id=self.host_id,
            nonce=challenge.nonce,
            purpose=Purpose.ATTEST,
            token="",
            instance="",
            attest=attest,
            signature=signature,
            pcrs=pcrs,
            event_log=_EVENTS,
            ima_from=0 if whole or not asked else challenge.ima_from,
            ima_log=_RUNTIME if whole else b"",
        )
        return AttestRequest(evidence), key


class Line:
    """One connection that stays open, as an agent's does not but a relay's may."""

    def __init__(self, url: str, keys: KeyList) -> None:
        parts = urlsplit(url)
        context = ssl.create_default_context(cadata=keys.tls_ca)
        self._connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, context=context, timeout=60)
        self._keys = keys

    def ask(self, request: Request, key: bytes | None = None) -> Reply:
        key = key or new_reply_key()
        sealed = seal_request(encode_request(request), self._keys, key)
        self._connection.request("POST", "/v1/messages", sealed, {"Content-Type": "application/octet-stream"})
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {body[:300]!r}")
        return parse_reply(open_reply(body, key))

    def close(self) -> None:
        self._connection.close()


def attest_once(line: Line, host: Emitter) -> float:
    """One attestation, with the challenge that came with the last one if any; seconds that the host waited."""
    start = time.perf_counter()
    challenge = host.pending or line.ask(ChallengeRequest(host.host_id, Purpose.ATTEST, ""))
    if not isinstance(challenge, Challenge):
        raise RuntimeError(f"no challenge: {challenge}")
    request, key = host.evidence(challenge)
    answer = line.ask(request, key)
    if not isinstance(answer, Attested) or answer.state != "trusted":
        raise RuntimeError(f"not trusted: {answer}")
    host.pending = answer.next
    return time.perf_counter() - start


def enrolled(data: Path, count: int) -> list[Emitter]:
    """So many hosts, known to the authority: enrolling is another benchmark."""
    emitters = [Emitter(SoftTpm.create()) for _ in range(count)]
    with Store.open(data / "store.sqlite3") as store, store.transaction() as tx:
        for emitter in emitters:
            ak = emitter.tpm.ak
            tx.put_host(Host(ak.host_id, ak.ek.encode(), ak.ak.encode(), EkClass.VIRTUAL, int(time.time())))
    return emitters


def rounds(lines: Sequence[Line], hosts: Sequence[Emitter], times: int) -> list[float]:
    """Every host attests so many times, over all connections at once."""

    def work(number: int) -> list[float]:
        mine = hosts[number :: len(lines)]
        return [attest_once(lines[number], host) for _ in range(times) for host in mine]

    with ThreadPoolExecutor(len(lines)) as pool:
        return [seconds for part in pool.map(work, range(len(lines))) for seconds in part]


def quote_only() -> bytes:
    """The profile without the runtime log."""
    document = json.loads(profile_document())
    document["pcrs"].remove(10)
    for level in document["levels"]:
        level["rules"]["runtime"] = "ignored"
    return json.dumps(document).encode()


def run(hosts: int = 200, times: int = 5, connections: int = 4) -> Iterator[Figure]:
    """CPU of the authority per attestation, in steady state."""
    for name, profile in (("quote and boot log", quote_only()), ("and runtime log", profile_document())):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="ww-bench-")))
            process, url, keys = authority(stack, folder, None, profile, watch=Profile.parse(profile).id)
            emitters = enrolled(folder / "authority", hosts)
            lines = [Line(url, keys) for _ in range(connections)]
            for line in lines:
                stack.callback(line.close)
            rounds(lines, emitters, 1)
            stat = Path(f"/proc/{process.pid}/stat")
            before, start = cpu(stat), time.perf_counter()
            waits = [seconds * 1e6 for seconds in rounds(lines, emitters, times)]
            wall, spent = time.perf_counter() - start, (cpu(stat) - before) / len(waits) * 1e6
            rate = len(waits) / wall
        note = f"{name}; {rate:.0f} attestations a second with the hosts on the same machine"
        yield Figure("attestation, authority CPU", spent, spent, spent, len(waits), note)
        waits.sort()
        note = f"{name}; p99 {waits[int(len(waits) * 0.99)] / 1000:.1f} ms"
        yield Figure("attestation, wait", median(waits), waits[0], waits[-1], len(waits), note)
