"""Two authorities, real processes with the same keys, on one database."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from watchword.agent.transport import Exchange, HttpsExchange, ask, new_reply_key
from watchword.agent.unseal import evidence_for, prepare_request
from watchword.cli.main import run
from watchword.crypto.envelope import open_reply, seal_request
from watchword.testing.farm import have_swtpm
from watchword.testing.postgresql import Cluster, binaries
from watchword.testing.world import TestHost, World
from watchword.wire.evidence import Purpose
from watchword.wire.messages import (
    Attested,
    AttestRequest,
    Challenge,
    ChallengeRequest,
    Refusal,
    Release,
    ReleaseRequest,
    Reply,
    encode_request,
    parse_reply,
)
from watchword.wire.token import token_id

ROUNDS = 20


@dataclass
class Replica:
    process: subprocess.Popen[str]
    data: Path
    url: str
    fingerprint: str


@dataclass
class Pair:
    """A world whose hosts reach two replicas, by turns or as they are told."""

    world: World
    cluster: Cluster
    database: str
    replicas: list[Replica]
    exchanges: list[Exchange]

    def host(self) -> TestHost:
        return self.world.host(exchange=self.exchanges[0])


@dataclass
class Prepared:
    """A release request that is complete but not sent."""

    request: ReleaseRequest | AttestRequest
    reply_key: bytes
    world: World

    def send(self, exchange: Exchange) -> Reply:
        sealed = seal_request(encode_request(self.request), self.world.keys.key_list, self.reply_key)
        return parse_reply(open_reply(exchange.send(sealed), self.reply_key))


def start(data: Path, database: str, ready: Path) -> Replica:
    """A real ``watchword authority serve``; what it has to say goes to a file beside ``ready``."""
    with ready.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "watchword", "authority", "serve", "--data", str(data), "--database", database,
             "--listen", "127.0.0.1:0", "--ready-file", str(ready)],
            stdout=log, stderr=log, text=True,
        )  # fmt: skip
    end = time.monotonic() + 60
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(ready.with_suffix(".log").read_text())
        time.sleep(0.05)
    document = json.loads(ready.read_text())
    return Replica(process, data, document["url"], document["fingerprint"])


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    """A server that a test may restart."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql): what needs a server is left out")
    with Cluster.running(programs) as running:
        yield running


@pytest.fixture(scope="module")
def pair(boots: Path, own: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    if not have_swtpm():
        pytest.skip("swtpm is not installed: launches need real emulated TPMs")
    database, folder = own.new_database(), tmp_path_factory.mktemp("replicas")
    with ExitStack() as stack:
        world = stack.enter_context(World(boots, clock=int(time.time()), database=database))
        world.watch()
        replicas = []
        for name in ("one", "two"):
            (folder / name).mkdir(mode=0o700)
            shutil.copytree(world.folder / "keyring", folder / name / "keyring")
            replicas.append(start(folder / name, database.text, folder / f"{name}.json"))
            stack.callback(replicas[-1].process.wait, 30)
            stack.callback(replicas[-1].process.terminate)
        exchanges = [HttpsExchange(replica.url, world.keys.key_list) for replica in replicas]
        for exchange in exchanges:
            stack.callback(exchange.close)
        yield Pair(world, own, database.text, replicas, list(exchanges))


def prepare(host: TestHost, token: str, instance: str) -> Prepared:
    request, reply_key, _ = host.use(lambda view: prepare_request(view, host.host_id, token, instance))
    return Prepared(request, reply_key, host.world)


def race(pair: Pair, *requests: Prepared) -> list[Reply]:
    """Send each to another replica, at the same moment."""
    barrier = threading.Barrier(len(requests))

    def send(number: int) -> Reply:
        barrier.wait()
        return requests[number].send(pair.exchanges[number % 2])

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(send, range(len(requests))))


def test_two_replicas_racing_for_the_last_release(pair: Pair) -> None:
    """The challenge of each request comes from the first replica; either may answer it (B6, F4)."""
    host = pair.host()
    for number in range(ROUNDS):
        token = pair.world.token()
        replies = race(pair, *(prepare(host, token.text, f"vm-{number}-{which}") for which in "ab"))
        assert sorted(type(reply).__name__ for reply in replies) == ["Refusal", "Release"]
        assert [reply.code for reply in replies if isinstance(reply, Refusal)] == ["token-used-up"]
        assert pair.world.store.releases(token_id(token.text)) == 1
        assert sorted(d.outcome for d in pair.world.decisions(token)) == ["refused", "released"]
    assert pair.world.store.verify_decisions() == pair.world.store.head()


def test_a_nonce_is_spent_at_both(pair: Pair) -> None:
    host = pair.host()
    token = pair.world.token(releases=8)
    asked = prepare(host, token.text, "vm")
    assert isinstance(asked.send(pair.exchanges[1]), Release)
    for exchange in pair.exchanges:
        again = asked.send(exchange)
        assert isinstance(again, Refusal)
        assert again.code == "nonce-used"
    raced = race(pair, *[prepare(host, token.text, "vm-2")] * 4)
    assert sum(isinstance(reply, Release) for reply in raced) == 1
    assert pair.world.store.releases(token_id(token.text)) == 2


def test_evidence_counts_once_at_both(pair: Pair) -> None:
    """Attestations are told apart by the TPM's clock in the store, not by a nonce (W2)."""
    host, key = pair.host(), new_reply_key()
    request = ChallengeRequest(host.host_id, Purpose.ATTEST, "")
    challenge = ask(pair.exchanges[0], pair.world.keys.key_list, request, Challenge)
    evidence, _ = host.use(lambda view: evidence_for(view, request, challenge, "", key))
    asked = Prepared(AttestRequest(evidence), key, pair.world)
    assert isinstance(asked.send(pair.exchanges[1]), Attested)
    replayed = asked.send(pair.exchanges[0])
    assert isinstance(replayed, Refusal)
    assert replayed.code == "attest-replayed"


def test_what_one_operator_changes_holds_everywhere(pair: Pair) -> None:
    """A stack revoked by a command in one replica's directory, a host revoked in the store: both refuse at once."""
    host = pair.host()
    extra = pair.world.host(exchange=pair.exchanges[1])
    for exchange in pair.exchanges:  # both have everything in memory
        assert isinstance(prepare(host, pair.world.token().text, "vm").send(exchange), Release)
    with pair.world.store.transaction() as tx:
        tx.revoke_host(extra.host_id, "lost", pair.world.now)
    for exchange in pair.exchanges:
        refused = prepare(extra, pair.world.token().text, "vm").send(exchange)
        assert isinstance(refused, Refusal)
        assert refused.code == "host-revoked"
    stack = pair.world.stack.digest.hex()
    for replica, command, expected in (
        (pair.replicas[0], ("revoke", stack, "--reason", "lost"), ["stack-revoked"] * 2),
        (pair.replicas[1], ("activate", stack, "--reason", "found"), ["released"] * 2),
    ):
        where = ("--data", str(replica.data), "--database", pair.database)
        assert run(["authority", "stack", *command, *where]) == 0
        answers = [prepare(host, pair.world.token().text, "vm").send(exchange) for exchange in pair.exchanges]
        assert [a.code if isinstance(a, Refusal) else "released" for a in answers] == expected


def test_both_show_one_log(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An auditor that asks them by turns, with one memory: no fork, no step back, every entry there."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    host = pair.host()
    for number, replica in enumerate(pair.replicas):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / f"config-{number}"))
        assert run(["trust", "add", replica.url, "--fingerprint", replica.fingerprint, "--name", "a", "--json"]) == 0
    sizes = []
    for turn in range(6):
        prepare(host, pair.world.token().text, "vm").send(pair.exchanges[turn % 2])
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / f"config-{(turn + 1) % 2}"))
        capsys.readouterr()
        assert run(["log", "audit", "--authority", "a", "--json"]) == 0, capsys.readouterr()
        sizes.append(json.loads(capsys.readouterr().out)["size"])
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == pair.world.store.head().seq


def test_a_database_that_crashes_under_launches(pair: Pair) -> None:
    """Every answer is a release or a clean refusal, both replicas recover alone, and count and log agree."""
    host = pair.host()
    tokens = [pair.world.token() for _ in range(24)]
    asked = [prepare(host, token.text, f"vm-{number}") for number, token in enumerate(tokens)]
    replies: list[Reply] = []

    def send(number: int) -> Reply:
        time.sleep(number * 0.05)
        with closing(HttpsExchange(pair.replicas[number % 2].url, pair.world.keys.key_list)) as exchange:
            return asked[number].send(exchange)

    with ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(send, number) for number in range(len(asked))]
        time.sleep(0.3)
        pair.cluster.crash()
        time.sleep(0.3)
        pair.cluster.start()
        replies = [each.result(60) for each in sent]
    refused = {reply.code: reply.retry for reply in replies if isinstance(reply, Refusal)}
    assert all(isinstance(reply, Release | Refusal) for reply in replies)
    assert set(refused) <= {"store-unavailable", "store-busy"}
    assert all(refused.values())
    for exchange in pair.exchanges:
        assert isinstance(prepare(host, pair.world.token().text, "after").send(exchange), Release)
    for token, reply in zip(tokens, replies, strict=True):
        counted = pair.world.store.releases(token_id(token.text))
        assert [d.outcome for d in pair.world.decisions(token)] == ["released"] * counted
        assert counted == 1 or isinstance(reply, Refusal)
    assert pair.world.store.verify_decisions() == pair.world.store.head()
