"""Primary keys of the endorsement hierarchy and the sessions that use them, each gone at the end of its block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from watchword.agent.tpm.capabilities import handles
from watchword.agent.tpm.commands import Channel, Code, Entity, Handle
from watchword.agent.tpm.errors import TpmError
from watchword.agent.tpm.sessions import Password, Session, start_session
from watchword.errors import MalformedError
from watchword.wire.reader import Writer
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.policy import RH_ENDORSEMENT, policy_secret, start
from watchword.wire.tpm.public import Public

__all__ = ["Key", "authorize_ek", "endorsement_key", "policy_session", "primary"]

_MAX_PUBLIC = 1024
# Where EKs are made persistent (TCG Registry of Reserved TPM 2.0 Handles): RSA at the first, others behind.
_PERSISTENT_EKS, _PERSISTENT_EKS_END = 0x81010000, 0x81010100
# "PolicyC" of the TCG EK Credential Profile, B.6: PolicyAuthorizeNV on an index of the profile. High-range EKs take it
# or PolicySecret(endorsement); a branch is chosen by naming both.
_POLICY_C = {
    Alg.SHA256: bytes.fromhex("3767e2edd43ff45a3a7e1eaefcef78643dca964632e7aad82c673a30d8633fde"),
    Alg.SHA384: bytes.fromhex(
        "d6032ce61f2fb3c240eb3cf6a33237ef2b6a16f4293c22b455e261cffd217ad5b4947c2d73e63005eed2dc2b3593d165"
    ),
}


@dataclass(frozen=True, slots=True)
class Key:
    """A loaded key."""

    entity: Entity
    public: Public


@contextmanager
def primary(channel: Channel, template: Public, endorsement: Password) -> Iterator[Key]:
    """TPM2_CreatePrimary of ``template`` in the endorsement hierarchy (Part 3, 24.1).

    Raises TpmError; ``tpm-key`` when the key that came back is of another kind than the one asked for.
    """
    empty_sensitive = Writer().sized16(Writer().sized16(b"").sized16(b"").done()).done()
    parameters = Writer().raw(empty_sensitive).raw(template.encode_2b()).sized16(b"").u32(0).done()
    hierarchy = Entity.of(Handle.ENDORSEMENT)
    answer = channel.run(Code.CREATE_PRIMARY, (hierarchy,), parameters, (endorsement,), out_handles=1)
    with channel.holding(answer.handles[0]) as handle:
        public = Public.parse(answer.reader("TPM2_CreatePrimary").sized16(_MAX_PUBLIC, "public area"))
        if not _is_made_from(template, public):
            raise TpmError("tpm-key", "the TPM made another kind of key than the one asked for")
        yield Key(Entity(handle, public.name()), public)


@contextmanager
def endorsement_key(channel: Channel, template: Public, endorsement: Password) -> Iterator[Key]:
    """The EK of ``template``: the one that somebody made persistent, or else a fresh primary.

    Making an RSA primary takes a hardware TPM many seconds. A persistent key that only looks like an EK is no danger:
    its attributes say that it never leaves this TPM, and what was made for the real EK does not open with it.
    """
    for handle in handles(channel, _PERSISTENT_EKS):
        public = _read_public(channel, handle) if handle < _PERSISTENT_EKS_END else None
        if public is not None and _is_made_from(template, public):
            yield Key(Entity(handle, public.name()), public)
            return
    with primary(channel, template, endorsement) as key:
        yield key


def _is_made_from(template: Public, public: Public) -> bool:
    """Do they agree in everything but the key itself?"""
    ours, theirs = (
        (area.type, area.name_alg, area.attributes, area.auth_policy, area.parameters) for area in (template, public)
    )
    return ours == theirs


def _read_public(channel: Channel, handle: int) -> Public | None:
    """TPM2_ReadPublic (Part 3, 12.4), or None for a key of a sort that we do not know."""
    reader = channel.run(Code.READ_PUBLIC, (Entity.of(handle),)).reader("TPM2_ReadPublic")
    try:
        return Public.parse(reader.sized16(_MAX_PUBLIC, "public area"))
    except MalformedError:
        return None


@contextmanager
def policy_session(channel: Channel, salt_key: Key, alg: Alg = Alg.SHA256) -> Iterator[Session]:
    """A policy session of hash ``alg``, salted to ``salt_key``, with no policy yet."""
    session = start_session(channel, salt_key.entity, salt_key.public, alg)
    with channel.holding(session.handle):
        yield session


def authorize_ek(channel: Channel, session: Session, ek: Key, endorsement: Password) -> None:
    """Make ``session`` satisfy the policy of ``ek``, for one command: PolicySecret(endorsement) (Part 3, 23.4).

    High-range EKs would also take their own empty authorization, but that one is subject to dictionary attack
    protection, and a host that lost power a few times would be locked out of its own EK.
    """
    alg = ek.public.name_alg
    channel.run(Code.POLICY_RESTART, (session.entity,))
    parameters = Writer().sized16(b"").sized16(b"").sized16(b"").u32(0).done()
    channel.run(Code.POLICY_SECRET, (Entity.of(Handle.ENDORSEMENT), session.entity), parameters, (endorsement,))
    first = policy_secret(start(alg), RH_ENDORSEMENT.to_bytes(4, "big"), alg=alg)
    if ek.public.auth_policy != first:
        branches = Writer().u32(2).sized16(first).sized16(_POLICY_C[alg]).done()
        channel.run(Code.POLICY_OR, (session.entity,), branches)
