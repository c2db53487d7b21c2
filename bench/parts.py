"""The parts of a decision, one by one, in this process."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator
from hashlib import sha1, sha256
from pathlib import Path

from bench import log
from bench.measure import Figure, measure
from watchword.crypto import token
from watchword.policy.appraise import appraise
from watchword.policy.profile import Profile
from watchword.policy.release import StackRelease
from watchword.policy.stack import CompiledStack
from watchword.testing.world import World, stack_from_recording
from watchword.verify.ak import restore_ak
from watchword.verify.boot_log import verify_boot_log
from watchword.verify.host import verify_host
from watchword.verify.ima_log import verify_ima_log
from watchword.verify.quote import verify_quote
from watchword.wire.ima_log import ImaLog
from watchword.wire.tcg_log import EventLog
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.pcr import PcrSelection
from watchword.wire.tpm.signature import Signature

__all__ = ["ima_log_of", "run"]

BOOTS = Path(__file__).resolve().parent.parent / "vectors" / "boots"


def run() -> Iterator[Figure]:
    """All figures, one after the other."""
    with World(BOOTS) as world:
        yield from _tokens(world)
        world.host().obtain(world.token())
        yield from log.run(world)
        yield from _evidence(world)


def _tokens(world: World) -> Iterator[Figure]:
    made = world.token()
    key = world.keys.key_list.sealing_key()
    yield measure("token seal", lambda: token.seal_token(made.body, key))
    yield measure("token open", lambda: token.open_token(made.text, world.keys.sealing_keys))


def _evidence(world: World) -> Iterator[Figure]:
    host = world.host()
    row = world.store.host(host.host_id)
    assert row is not None
    ak = restore_ak(row.host_id, row.ek_public, row.ak_public, row.ek_class)
    profile: Profile = world.profile
    bound = secrets.token_bytes(32)
    attest, signature, pcrs = host.use(lambda h: h.tpm.quote_values(profile.selections(), bound))
    event_log = host.machine.event_log_path.read_bytes()
    ima_log = host.machine.ima_log_path.read_bytes()

    def quote() -> object:
        return verify_quote(
            attest=attest, signature=signature, pcrs=pcrs, ak=ak, binding=bound,
            selections=profile.selections(), last=None,
        )  # fmt: skip

    yield _bare_signature(ak, attest, signature)
    yield measure("quote verify", quote, note="P-256, 12 PCRs; clauses B1 to B10")
    verified = verify_quote(
        attest=attest, signature=signature, pcrs=pcrs, ak=ak, binding=bound, selections=profile.selections(), last=None
    )
    events = EventLog.parse(event_log)
    yield measure(
        "boot log parse", lambda: EventLog.parse(event_log), note=f"{len(events.events)} events, {len(event_log)} bytes"
    )
    yield measure("boot log verify", lambda: verify_boot_log(events, verified, Alg.SHA256), note="clauses C2 to C6")

    def whole() -> object:
        return verify_host(
            ak=ak, revoked=False, attest=attest, signature=signature, pcrs=pcrs, event_log=event_log, ima_log=ima_log,
            binding=bound, selections=profile.selections(), last=None, seen=None, max_ahead=100,
        )  # fmt: skip

    yield measure("host verify", whole, note="quote, boot log and a small IMA log together")
    vetted = whole()
    stack = CompiledStack.parse(stack_from_recording(BOOTS / "good"))
    releases = [StackRelease(stack, stack.digest, frozenset())]
    yield measure("appraise", lambda: appraise(vetted, profile, releases, 0, challenged_at=0))  # type: ignore[arg-type]
    yield from _ima(world)


def _bare_signature(ak: object, attest: bytes, signature: bytes) -> Figure:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    from watchword.crypto.tpm_key import public_key

    parsed = Signature.parse(signature)
    key = public_key(ak.ak)  # type: ignore[attr-defined]
    der = encode_dss_signature(int.from_bytes(parsed.r), int.from_bytes(parsed.s))
    algorithm = ec.ECDSA(hashes.SHA256())
    return measure("bare signature check", lambda: key.verify(der, attest, algorithm), note="the floor of quote verify")


def ima_log_of(entries: int) -> tuple[bytes, bytes]:
    """A synthetic ima-ng log of a host whose PCRs 0 to 9 are zero, and the SHA-256 PCR 10 it leads to."""
    parts, pcr = [], bytes(32)
    for number in range(entries):
        name = b"/usr/lib/x86_64-linux-gnu/some-package/file-%08d.so\0" % number if number else b"boot_aggregate\0"
        digest = b"sha256:\0" + sha256(name if number else bytes(32 * 10)).digest()
        data = struct.pack("<I", len(digest)) + digest + struct.pack("<I", len(name)) + name
        parts.append(struct.pack("<I", 10) + sha1(data, usedforsecurity=False).digest())
        parts.append(struct.pack("<I", 6) + b"ima-ng" + struct.pack("<I", len(data)) + data)
        pcr = sha256(pcr + sha256(data).digest()).digest()
    return b"".join(parts), pcr


def _ima(world: World, entries: int = 10_000) -> Iterator[Figure]:
    log, pcr = ima_log_of(entries)
    host = world.host()
    selection = (PcrSelection(Alg.SHA256, tuple(range(11))),)
    host.machine.tpm.reset()  # the synthetic log is measured on top of nothing
    with host.machine.tpm.client() as tpm:
        for entry in ImaLog.parse(log).entries:
            tpm.extend(10, {Alg.SHA256: sha256(entry.data).digest()})
        bound = secrets.token_bytes(32)
        attest, signature, pcrs = tpm.quote_values(selection, bound)
    assert pcrs[Alg.SHA256][10] == pcr
    row = world.store.host(host.host_id)
    assert row is not None
    ak = restore_ak(row.host_id, row.ek_public, row.ak_public, row.ek_class)
    verified = verify_quote(
        attest=attest, signature=signature, pcrs=pcrs, ak=ak, binding=bound, selections=selection, last=None
    )
    yield measure("IMA parse, per entry", lambda: ImaLog.parse(log), per=entries, note=f"{entries} ima-ng entries")
    parsed = ImaLog.parse(log)
    yield measure(
        "IMA verify, per entry",
        lambda: verify_ima_log(parsed, verified, Alg.SHA256, max_ahead=0, seen=None),
        per=entries,
        note="clauses D2, D3, D6",
    )
    data = [entry.data for entry in parsed.entries]
    yield measure("IMA floor, per entry", lambda: _hash_chain(data), per=entries, note="the bare hash chain")


def _hash_chain(entries: list[bytes]) -> bytes:
    pcr = bytes(32)
    for data in entries:
        pcr = sha256(pcr + sha256(data).digest()).digest()
    return pcr
