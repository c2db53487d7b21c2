"""Acting as the provider: requests in the making, and what must hold after each attack."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from watchword.agent.collect import Measurements, read_log
from watchword.agent.tpm.client import Tpm
from watchword.agent.tpm.commands import Entity, Handle
from watchword.agent.tpm.errors import TpmError
from watchword.agent.tpm.keys import primary
from watchword.agent.tpm.sessions import Password
from watchword.agent.transport import Exchange, new_reply_key
from watchword.crypto.envelope import open_reply, seal_request
from watchword.testing.world import TestHost, Token, World
from watchword.wire.evidence import MAX_EVENT_LOG, MAX_IMA_LOG, Evidence, Purpose, binding
from watchword.wire.ima_log import ImaLog
from watchword.wire.messages import (
    Challenge,
    ChallengeRequest,
    Refusal,
    Release,
    ReleaseRequest,
    Reply,
    Request,
    encode_reply,
    encode_request,
    parse_reply,
)
from watchword.wire.reader import Writer
from watchword.wire.tcg_log import Event, EventLog
from watchword.wire.token import token_id
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.pcr import PcrValues, Selections, encode_selections
from watchword.wire.tpm.templates import AK_TEMPLATE

OWNER = 0x40000001
GET_TIME, SIGN, HASH, CLOCK_SET, PCR_ALLOCATE = 0x14C, 0x15D, 0x17D, 0x128, 0x12B  # TPM_CC of no honest agent


# --- saying things to the authority ---------------------------------------------------------------------------------


def say(host: TestHost, request: Request, reply_key: bytes | None = None) -> Reply:
    """Send any message over the host's exchange and return the reply, whatever it is."""
    key = reply_key or new_reply_key()
    sealed = seal_request(encode_request(request), host.world.keys.key_list, key)
    return parse_reply(open_reply(host.exchange.send(sealed), key))


@dataclass(frozen=True)
class Attempt:
    """A release request that is complete but not sent. ``bound`` is what its quote carries."""

    host: TestHost
    evidence: Evidence
    reply_key: bytes
    bound: bytes

    def send(self, *, reply_key: bytes | None = None, **changes: Any) -> Reply:
        """Send it, with ``changes`` made to the evidence after the quote."""
        return say(self.host, ReleaseRequest(replace(self.evidence, **changes)), reply_key or self.reply_key)

    def release(self) -> Release:
        """Send it as it is; it must succeed."""
        reply = self.send()
        assert isinstance(reply, Release), reply
        return reply

    @property
    def events(self) -> EventLog:
        return EventLog.parse(self.evidence.event_log)

    @property
    def runtime(self) -> ImaLog:
        return ImaLog.parse(self.evidence.ima_log)


def challenge(host: TestHost, token: Token | str, host_id: bytes | None = None) -> Challenge:
    """A nonce for ``host``; it must be given."""
    text = token if isinstance(token, str) else token.text
    reply = say(host, ChallengeRequest(host_id or host.host_id, Purpose.LAUNCH, text))
    assert isinstance(reply, Challenge), reply
    return reply


def attempt(
    host: TestHost,
    token: Token,
    instance: str = "vm-1",
    *,
    host_id: bytes | None = None,
    quoted_by: TestHost | None = None,
    selections: Selections | None = None,
    quote: Callable[[Tpm, Selections, bytes], tuple[bytes, bytes]] | None = None,
) -> Attempt:
    """Ask for a nonce, quote, and collect the logs.

    ``host_id`` pretends to be that host; ``quoted_by`` lets another host's TPM and logs speak; ``selections`` are
    quoted instead of what was asked for; ``quote`` makes the quote in another way.
    """
    identity = host_id or host.host_id
    given = challenge(host, token, identity)
    key = new_reply_key()
    bound = binding(
        host_id=identity, nonce=given.nonce, purpose=Purpose.LAUNCH, token=token.text, instance=instance, reply_key=key
    )
    found = measure(quoted_by or host, selections or given.selections, bound, quote)
    evidence = Evidence(
        host_id=identity,
        nonce=given.nonce,
        purpose=Purpose.LAUNCH,
        token=token.text,
        instance=instance,
        attest=found.attest,
        signature=found.signature,
        pcrs=found.pcrs,
        event_log=found.event_log,
        ima_from=0,
        ima_log=found.ima_log,
    )
    return Attempt(host, evidence, key, bound)


def measure(
    host: TestHost,
    selections: Selections,
    extra_data: bytes,
    quote: Callable[[Tpm, Selections, bytes], tuple[bytes, bytes]] | None = None,
) -> Measurements:
    """What the agent collects, without the agent's own checks."""
    with host.machine.tpm.client() as tpm:
        attest, signature = quote(tpm, selections, extra_data) if quote else tpm.quote(selections, extra_data)
        pcrs: PcrValues = {}
        with contextlib.suppress(TpmError):  # a bank that is switched off
            pcrs = tpm.read_pcrs(selections)
    machine = host.machine
    event_log = read_log(machine.event_log_path, "log", MAX_EVENT_LOG)
    return Measurements(attest, signature, pcrs, event_log, read_log(machine.ima_log_path, "log", MAX_IMA_LOG))


# --- what must hold after an attack ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """A world, an honest good host, and a good host that the attacker holds."""

    world: World
    honest: TestHost
    evil: TestHost

    def refused(
        self,
        token: Token,
        clause: str,
        code: str,
        attack: Callable[[], Reply],
        *,
        suspect: TestHost | None = None,
        recorded: bool = True,
        learns: bool = False,
        still_good: bool = True,
    ) -> Refusal:
        """``attack`` must be refused for this reason, with nothing released, stored or changed.

        ``suspect`` is the host whose state on file must not change (default: the attacker's), unless its evidence was
        authentic and the authority ``learns`` from it; ``recorded`` whether a decision was due; ``still_good`` whether
        the tenant's token must still serve the honest host afterwards.
        """
        suspect = suspect or self.evil
        before = self._standing(token, suspect, learns)
        decisions = len(self.world.decisions(token))
        reply = attack()
        assert isinstance(reply, Refusal), f"not refused: {type(reply).__name__}"
        assert (reply.clause, reply.code) == (clause, code), reply
        assert token.body.secret not in encode_reply(reply)
        assert self._standing(token, suspect, learns) == before
        new = self.world.decisions(token)[decisions:]
        assert [decision.outcome for decision in new] == ["refused"] * recorded
        if recorded:
            finding = new[0].findings[0]
            assert (finding.clause, finding.code) == (clause, code)
        if still_good:
            assert self.honest.obtain(token, "vm-honest").secret == token.body.secret
        return reply

    def _standing(self, token: Token, suspect: TestHost, learns: bool) -> tuple[object, ...]:
        """Everything that an attack must leave alone."""
        store, on_file = self.world.store, self.world.store.host(suspect.host_id)
        counts = store.counts()
        known = (counts.hosts, counts.hosts_revoked, counts.profiles, counts.stacks, counts.anchors, counts.ek_pins)
        seen = None if learns or on_file is None else (on_file.last, on_file.runtime)
        keys = None if on_file is None else (on_file.ek_public, on_file.ak_public)
        return counts.releases, store.releases(token_id(token.text)), known, keys, seen


@dataclass
class Meddler:
    """An exchange that somebody sits on: keeps what went by, and may act on it."""

    inner: Exchange
    on_request: Callable[[bytes], bytes] = lambda sealed: sealed
    on_reply: Callable[[bytes], bytes] = lambda sealed: sealed
    requests: list[bytes] = field(default_factory=list)
    replies: list[bytes] = field(default_factory=list)

    def send(self, sealed: bytes) -> bytes:
        self.requests.append(sealed)
        reply = self.inner.send(self.on_request(sealed))
        self.replies.append(reply)
        return self.on_reply(reply)

    def close(self) -> None:
        self.inner.close()


def nth(number: int, change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Act on message ``number`` (from 1) only."""
    count = 0

    def act(data: bytes) -> bytes:
        nonlocal count
        count += 1
        return change(data) if count == number else data

    return act


@contextlib.contextmanager
def sitting_on(host: TestHost, **actions: Any) -> Iterator[Meddler]:
    """Put a :class:`Meddler` between ``host`` and its authority."""
    honest = host.exchange
    host.exchange = Meddler(honest, **actions)
    try:
        yield host.exchange
    finally:
        host.exchange = honest


def tamper(world: World, statement: str, *values: Any) -> None:
    """Change the authority's database behind its back."""
    with contextlib.closing(sqlite3.connect(world.folder / "store.sqlite3")) as database, database:
        assert database.execute(statement, values).rowcount == 1


# --- what a TPM does for its owner ----------------------------------------------------------------------------------


def get_time(tpm: Tpm, _selections: Selections, extra_data: bytes) -> tuple[bytes, bytes]:
    """TPM2_GetTime: an attestation by the AK with our extraData that is not a quote (Part 3, 18.7)."""
    parameters = Writer().sized16(extra_data).u16(Alg.NULL).done()
    with primary(tpm.channel, AK_TEMPLATE, Password()) as ak:
        handles = (Entity.of(Handle.ENDORSEMENT), ak.entity)
        answer = tpm.channel.run(GET_TIME, handles, parameters, (Password(), Password()), step="GetTime")
    reader = answer.reader("GetTime")
    return reader.sized16(2048, "attest"), reader.rest()


def sign_anything(tpm: Tpm, data: bytes) -> bytes:
    """TPM2_Hash, then TPM2_Sign by the AK: a restricted key signs what does not begin like the TPM's own structures."""
    parameters = Writer().sized16(data).u16(Alg.SHA256).u32(Handle.ENDORSEMENT).done()
    reader = tpm.channel.run(HASH, (), parameters, step="Hash").reader("Hash")
    digest, ticket = reader.sized16(64, "digest"), reader.rest()
    with primary(tpm.channel, AK_TEMPLATE, Password()) as ak:
        parameters = Writer().sized16(digest).u16(Alg.NULL).raw(ticket).done()
        return tpm.channel.run(SIGN, (ak.entity,), parameters, (Password(),), step="Sign").parameters


def advance_clock(tpm: Tpm, milliseconds: int) -> None:
    """TPM2_ClockSet: whoever owns the host may set the TPM's clock forward, never back (Part 3, 29.2)."""
    parameters = Writer().u64(tpm.read_clock().clock + milliseconds).done()
    tpm.channel.run(CLOCK_SET, (Entity.of(OWNER),), parameters, (Password(),), step="ClockSet")


def allocate(tpm: Tpm, banks: Selections) -> None:
    """TPM2_PCR_Allocate: which banks there are from the next boot on (Part 3, 22.5)."""
    parameters = encode_selections(banks)
    tpm.channel.run(PCR_ALLOCATE, (Entity.of(Handle.PLATFORM),), parameters, (Password(),), step="PCR_Allocate")


def with_events(log: EventLog, change: Callable[[list[Event]], None]) -> bytes:
    """The log after ``change`` to its list of events."""
    events = list(log.events)
    change(events)
    return replace(log, events=tuple(events)).encode()
