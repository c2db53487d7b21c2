"""A machine for attackers: a real emulated TPM that boots whatever it is told to have measured, with any key."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from watchword.agent.tpm.commands import Code, Entity, Handle
from watchword.agent.tpm.errors import TpmError
from watchword.agent.tpm.keys import authorize_ek, policy_session, primary
from watchword.agent.tpm.sessions import Password
from watchword.conformance.scenario import Credential
from watchword.crypto.tpm_seal import make_credential
from watchword.testing.ek_authority import EkAuthority
from watchword.testing.farm import SwTpm
from watchword.testing.logs import boot_aggregate
from watchword.wire.ima_log import ImaEntry, ImaLog, template_digest
from watchword.wire.reader import Writer
from watchword.wire.tcg_log import Event, EventLog, EventType, pcr0_start
from watchword.wire.tcg_log import replay as replay_events
from watchword.wire.tpm.algorithms import Alg, Curve
from watchword.wire.tpm.pcr import PcrSelection, PcrValues, Selections, encode_selections
from watchword.wire.tpm.public import Attributes, Public
from watchword.wire.tpm.schemes import EccParameters, EccPoint, RsaParameters, Scheme, Symmetric
from watchword.wire.tpm.templates import AK_TEMPLATE, EkKind, ek_template

__all__ = ["AKS", "Boot", "Machine", "unrestricted"]

_BANKS = (Alg.SHA1, Alg.SHA256, Alg.SHA384)
# TPM_CC of no honest agent.
_GET_TIME, _SIGN, _HASH, _PCR_ALLOCATE = (cast(Code, code) for code in (0x14C, 0x15D, 0x17D, 0x12B))
_MAX = 2048


def _rsa_ak(scheme: Alg) -> Public:
    parameters = RsaParameters(Symmetric(Alg.NULL), Scheme(scheme, Alg.SHA256), 2048)
    return replace(AK_TEMPLATE, type=Alg.RSA, parameters=parameters, unique=bytes(256))


def _p384_ak() -> Public:
    scheme = Scheme(Alg.ECDSA, Alg.SHA384)
    parameters = EccParameters(Symmetric(Alg.NULL), scheme, Curve.P384, Scheme(Alg.NULL))
    return replace(AK_TEMPLATE, name_alg=Alg.SHA384, parameters=parameters, unique=EccPoint(bytes(48), bytes(48)))


#: Templates of attestation keys by scheme.
AKS = {
    "p256": AK_TEMPLATE,
    "p384": _p384_ak(),
    "rsassa": _rsa_ak(Alg.RSASSA),
    "rsapss": _rsa_ak(Alg.RSAPSS),
}


def unrestricted() -> Public:
    """Our attestation key, but one that signs anything."""
    return replace(AK_TEMPLATE, attributes=AK_TEMPLATE.attributes & ~Attributes.RESTRICTED)


@dataclass(frozen=True)
class Boot:
    """What a machine measures from power-on: the firmware's events, then the kernel's entries if there is an IMA."""

    events: EventLog
    runtime: ImaLog | None = None

    @classmethod
    def recorded(cls, folder: Path) -> Boot:
        """The boot in a folder of ``vectors/boots``."""
        events = EventLog.parse((folder / "eventlog.bin").read_bytes())
        return cls(events, ImaLog.parse((folder / "ima.bin").read_bytes()))

    def with_events(self, events: Sequence[Event]) -> Boot:
        """Other events, and the boot_aggregate that a kernel computes after them."""
        log = replace(self.events, events=tuple(events))
        if self.runtime is None:
            return replace(self, events=log)
        first = boot_aggregate(replay_events(log, Alg.SHA256))
        return Boot(log, replace(self.runtime, entries=(first, *self.runtime.entries[1:])))

    def with_entries(self, entries: Sequence[ImaEntry]) -> Boot:
        """Another runtime log after the same events."""
        assert self.runtime is not None
        return replace(self, runtime=replace(self.runtime, entries=tuple(entries)))

    def without_runtime(self) -> Boot:
        """A kernel without IMA."""
        return replace(self, runtime=None)


class Machine:
    """One emulated TPM with an EK certificate of ``makers``."""

    def __init__(self, makers: EkAuthority, kind: EkKind = EkKind.P256) -> None:
        self.makers = makers
        self.kind = kind
        self.tpm = SwTpm().start()
        self.certificate = self.tpm.manufacture(makers, (kind,))[kind]
        with self.tpm.client(kind) as tpm:
            self.ek = tpm.create_ek()

    def stop(self) -> None:
        self.tpm.stop()

    def boot(self, boot: Boot) -> None:
        """Power off and on, then measure all of ``boot``."""
        self.tpm.reset(orderly=True, locality=pcr0_start(boot.events))
        with self.tpm.client() as tpm:
            for event in boot.events.events:
                if event.type != EventType.NO_ACTION:
                    tpm.extend(event.pcr, {Alg(alg): value for alg, value in event.digests})
            for entry in boot.runtime.entries if boot.runtime else ():
                tpm.extend(entry.pcr, {alg: template_digest(entry, alg) for alg in _BANKS})

    def extend(self, pcr: int, event: Event) -> None:
        """Measure an event into another PCR than its own."""
        with self.tpm.client() as tpm:
            tpm.extend(pcr, {Alg(alg): value for alg, value in event.digests})

    def values(self, selections: Selections) -> PcrValues:
        """The PCRs as they are."""
        with self.tpm.client() as tpm:
            return tpm.read_pcrs(selections)

    def attestation_key(self, template: Public) -> Public:
        """The public area of the key that the TPM makes from ``template``."""
        with self.tpm.client() as tpm, primary(tpm.channel, template, Password()) as key:
            return key.public

    def quote(self, template: Public, selections: Selections, extra_data: bytes) -> tuple[bytes, bytes]:
        """TPM2_Quote by the key of ``template``."""
        parameters = Writer().sized16(extra_data).u16(Alg.NULL).raw(encode_selections(selections)).done()
        with self.tpm.client() as tpm, primary(tpm.channel, template, Password()) as ak:
            reader = tpm.channel.run(Code.QUOTE, (ak.entity,), parameters, (Password(),)).reader("Quote")
        return reader.sized16(_MAX, "quoted"), reader.rest()

    def get_time(self, template: Public, extra_data: bytes) -> tuple[bytes, bytes]:
        """TPM2_GetTime: an attestation that is no quote (Part 3, 18.7)."""
        parameters = Writer().sized16(extra_data).u16(Alg.NULL).done()
        with self.tpm.client() as tpm, primary(tpm.channel, template, Password()) as ak:
            handles = (Entity.of(Handle.ENDORSEMENT), ak.entity)
            answer = tpm.channel.run(_GET_TIME, handles, parameters, (Password(), Password()), step="GetTime")
        reader = answer.reader("GetTime")
        return reader.sized16(_MAX, "attest"), reader.rest()

    def sign(self, template: Public, data: bytes) -> bytes:
        """TPM2_Hash and TPM2_Sign: with a restricted key only what does not begin like the TPM's own structures."""
        parameters = Writer().sized16(data).u16(Alg.SHA256).u32(Handle.ENDORSEMENT).done()
        with self.tpm.client() as tpm:
            reader = tpm.channel.run(_HASH, (), parameters, step="Hash").reader("Hash")
            hashed, ticket = reader.sized16(64, "digest"), reader.rest()
            with primary(tpm.channel, template, Password()) as ak:
                parameters = Writer().sized16(hashed).u16(Alg.NULL).raw(ticket).done()
                return tpm.channel.run(_SIGN, (ak.entity,), parameters, (Password(),), step="Sign").parameters

    def allocate(self, banks: Sequence[Alg]) -> None:
        """TPM2_PCR_Allocate: only these banks exist from the next boot on (Part 3, 22.5)."""
        every = tuple(PcrSelection(alg, tuple(range(24)) if alg in banks else ()) for alg in (*_BANKS, Alg.SHA512))
        with self.tpm.client() as tpm:
            platform = (Entity.of(Handle.PLATFORM),)
            tpm.channel.run(_PCR_ALLOCATE, platform, encode_selections(every), (Password(),), step="PCR_Allocate")

    def credential(self, template: Public, ek: Public | None = None) -> Credential:
        """Enrol: a secret for this EK and the key of ``template``, opened by the TPM.

        With somebody else's ``ek`` the TPM refuses, and the answer is a guess.
        """
        secret, kind = secrets.token_bytes(32), self.kind
        ak = self.attestation_key(template)
        made = make_credential(ek or ek_template(kind, self.ek.unique), ak.name(), secret)
        with (
            self.tpm.client(kind) as tpm,
            primary(tpm.channel, ek_template(kind), Password()) as key,
            primary(tpm.channel, template, Password()) as loaded,
            policy_session(tpm.channel, key, key.public.name_alg) as session,
        ):
            authorize_ek(tpm.channel, session, key, Password())
            blob, auths = made.id_object + made.encrypted_secret, (Password(), session)
            try:
                answer = tpm.channel.run(Code.ACTIVATE_CREDENTIAL, (loaded.entity, key.entity), blob, auths)
            except TpmError:
                return Credential(expected=secret, answer=bytes(32))
        return Credential(expected=secret, answer=answer.reader("ActivateCredential").sized16(64, "secret"))
