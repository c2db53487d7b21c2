"""What a host asks of its TPM, one method for each purpose.

Every method creates the keys it needs, uses them and flushes them: primaries are deterministic, so there is nothing
to store, and a TPM has room for three objects only. What the TPM returns in secret (the credential, the unsealed
bytes) crosses the transport encrypted.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType

from watchword.agent.tpm import capabilities, pcrs
from watchword.agent.tpm.commands import Channel, Code, Entity, Handle
from watchword.agent.tpm.errors import RC_PCR_CHANGED, TpmError, base_code
from watchword.agent.tpm.keys import Key, authorize_ek, endorsement_key, policy_session, primary
from watchword.agent.tpm.sessions import Password, Session
from watchword.agent.tpm.transport import DEFAULT_TIMEOUT, Transport, connect
from watchword.wire.der_chain import FIRST_CHAIN_INDEX, LAST_CHAIN_INDEX, MAX_NV_CHAIN, split_der_chain
from watchword.wire.reader import Reader, Writer
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.attest import Attest, ClockInfo, QuoteInfo
from watchword.wire.tpm.blobs import EncryptedSecret, IdObject, PrivateBlob
from watchword.wire.tpm.pcr import PcrValues, Selections, encode_selections, pcr_digest
from watchword.wire.tpm.policy import Operation
from watchword.wire.tpm.public import Public
from watchword.wire.tpm.templates import AK_TEMPLATE, EkKind, ek_template, nv_certificate_index

__all__ = ["Tpm"]

MAX_EXTRA_DATA = 64  # bytes of extraData in a quote
_MAX_BLOB, _MAX_ATTEST = 1024, 2048
_CLOCK, _RESET_COUNT = 8, 16  # offsets in TPMS_TIME_INFO (Part 2, 10.11.4)
_UNSEAL_TRIES = 8
_QUOTE_TRIES = 8


class Tpm:
    """A TPM, over a transport of its own. Use it as a context manager: leaving it closes the transport."""

    def __init__(self, transport: Transport, *, ek_kind: EkKind = EkKind.P256, endorsement_auth: bytes = b"") -> None:
        """``ek_kind`` is the EK this host is enrolled with; ``endorsement_auth`` the endorsement password, if any."""
        self._channel = Channel(transport)
        self._ek_kind = ek_kind
        self._endorsement = Password(endorsement_auth)

    @classmethod
    def open(
        cls,
        address: str,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        ek_kind: EkKind = EkKind.P256,
        endorsement_auth: bytes = b"",
    ) -> Tpm:
        """Connect to ``address`` (see :func:`watchword.agent.tpm.transport.connect`)."""
        return cls(connect(address, timeout), ek_kind=ek_kind, endorsement_auth=endorsement_auth)

    def __enter__(self) -> Tpm:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the TPM."""
        self._channel.close()

    @property
    def channel(self) -> Channel:
        """For commands that have no method here."""
        return self._channel

    @property
    def ek_kind(self) -> EkKind:
        """The EK that credentials and releases are opened with."""
        return self._ek_kind

    # --- power and state -------------------------------------------------------------------------------------

    def startup(self) -> None:
        """TPM2_Startup(CLEAR), which on a real host the firmware sends. Raises TpmError."""
        self._channel.run(Code.STARTUP, (), bytes(2))

    def shutdown(self) -> None:
        """TPM2_Shutdown(CLEAR): the clock is saved, so that the next boot is ``safe``. Raises TpmError."""
        self._channel.run(Code.SHUTDOWN, (), bytes(2))

    def clear(self, hierarchy: Handle = Handle.LOCKOUT) -> None:
        """TPM2_Clear with the empty authorization of LOCKOUT or PLATFORM. Raises TpmError."""
        self._channel.run(Code.CLEAR, (Entity.of(hierarchy),), b"", (Password(),))

    def read_clock(self) -> ClockInfo:
        """TPM2_ReadClock: milliseconds, reset and restart counts of this moment, unsigned."""
        reader = self._channel.run(Code.READ_CLOCK).reader("TPM2_ReadClock")
        reader.u64()  # time since power-on
        info = ClockInfo(reader.u64(), reader.u32(), reader.u32(), bool(reader.u8()))
        reader.finish()
        return info

    def banks(self) -> Selections:
        """The PCR banks and the PCRs allocated in each."""
        return capabilities.banks(self._channel)

    def properties(self) -> dict[int, int]:
        """The TPM's fixed properties by number (TPM_PT)."""
        return capabilities.properties(self._channel)

    def open_handles(self) -> tuple[int, ...]:
        """Objects and sessions that are loaded now: none between two calls of ours."""
        return tuple(
            handle
            for first in capabilities.HANDLE_RANGES.values()
            for handle in capabilities.handles(self._channel, first)
        )

    def read_ek_certificate(self, kind: EkKind | None = None) -> bytes | None:
        """The EK certificate as the maker left it in NV, padding included, or None when there is none."""
        return capabilities.read_nv(self._channel, nv_certificate_index(kind or self._ek_kind))

    def read_intermediates(self) -> tuple[bytes, ...]:
        """The intermediate certificates (DER, at most 8) that the maker left in NV, in its order; often none.

        Raises MalformedError for what is no chain of certificates, TpmError. TCG EK Credential Profile, 2.2.1.5.
        """
        content = capabilities.read_nv_range(self._channel, FIRST_CHAIN_INDEX, LAST_CHAIN_INDEX, MAX_NV_CHAIN)
        return split_der_chain(content)

    # --- PCRs and quotes -------------------------------------------------------------------------------------

    def read_pcrs(self, selections: Selections) -> PcrValues:
        """The values of ``selections``, all of one moment. Raises TpmError, Unavailable."""
        return pcrs.read_pcrs(self._channel, selections)

    def extend(self, pcr: int, digests: Mapping[Alg, bytes]) -> None:
        """Extend ``pcr`` with one digest per bank. Raises TpmError."""
        pcrs.extend(self._channel, pcr, digests)

    def quote(self, selections: Selections, extra_data: bytes) -> tuple[bytes, bytes]:
        """TPM2_Quote by the AK over ``selections`` with ``extra_data`` (at most 64 bytes).

        Returns TPMS_ATTEST and TPMT_SIGNATURE, as bytes. A bank that the TPM does not have is *not* an error here:
        the TPM signs an empty selection. Raises TpmError. Part 3, 18.4.
        """
        if len(extra_data) > MAX_EXTRA_DATA:
            raise ValueError(f"extraData of a quote has at most {MAX_EXTRA_DATA} bytes")
        parameters = Writer().sized16(extra_data).u16(Alg.NULL).raw(encode_selections(selections)).done()
        with self._primary(AK_TEMPLATE) as ak:
            answer = self._channel.run(Code.QUOTE, (ak.entity,), parameters, (Password(),))
        reader = answer.reader("TPM2_Quote")
        return reader.sized16(_MAX_ATTEST, "quoted"), reader.rest()

    def quote_values(self, selections: Selections, extra_data: bytes) -> tuple[bytes, bytes, PcrValues]:
        """A quote together with the PCR values it is about.

        PCRs move (IMA extends one for each new file), so values are read again until they fit the quote.
        Raises TpmError, and Unavailable ``tpm-pcrs-moving`` through :meth:`read_pcrs`.
        """
        for _ in range(_QUOTE_TRIES):
            attest, signature = self.quote(selections, extra_data)
            values = self.read_pcrs(selections)
            quoted = Attest.parse(attest).attested
            if isinstance(quoted, QuoteInfo) and quoted.pcr_digest == pcr_digest(Alg.SHA256, selections, values):
                return attest, signature, values
        raise TpmError(
            "tpm-pcrs-moving", "PCRs changed between quote and reading, each time", hint="try again when it is quieter"
        )

    # --- identity --------------------------------------------------------------------------------------------

    def create_ek(self, kind: EkKind | None = None) -> Public:
        """The public area of the EK of ``kind`` (default: this client's), made from the default template."""
        with self._ek(kind) as ek:
            return ek.public

    def create_ak(self) -> Public:
        """The public area of our attestation key; the same on every call, boot and after TPM2_Clear."""
        with self._primary(AK_TEMPLATE) as ak:
            return ak.public

    def activate_credential(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """TPM2_ActivateCredential: the secret, if it was made for this EK and this AK. Part 3, 12.5.

        Arguments are whole TPM2B structures. Raises MalformedError, and TpmError ``tpm-wrong-credential``.
        """
        IdObject.parse(id_object)
        EncryptedSecret.parse(encrypted_secret)
        with self._ek() as ek, self._primary(AK_TEMPLATE) as ak, self._session(ek) as session:
            authorize_ek(self._channel, session, ek, self._endorsement)
            session.encrypt = True
            entities, auths = (ak.entity, ek.entity), (Password(), session)
            answer = self._channel.run(Code.ACTIVATE_CREDENTIAL, entities, id_object + encrypted_secret, auths)
        return _only_2b(answer.reader("TPM2_ActivateCredential"))

    # --- releases --------------------------------------------------------------------------------------------

    def import_and_unseal(
        self,
        public: bytes,
        duplicate: bytes,
        encrypted_seed: bytes,
        selections: Selections,
        reset_count: int,
        clock_limit: int,
    ) -> bytes:
        """Open a sealed object that was wrapped to this TPM's EK. Part 3, 13.3 (Import), 12.2 (Load), 12.7 (Unseal).

        ``public``, ``duplicate``, ``encrypted_seed`` are whole TPM2B structures. The policy is PolicyPCR over
        ``selections``, then PolicyCounterTimer resetCount == ``reset_count``, then clock < ``clock_limit`` (ms).
        Raises MalformedError, and TpmError: ``tpm-other-tpm``, ``tpm-wrong-pcrs``, ``tpm-wrong-boot``,
        ``tpm-lease-over``, ``tpm-pcr-changed``.
        """
        sealed = Public.parse_2b(public)
        PrivateBlob.parse(duplicate)
        EncryptedSecret.parse(encrypted_seed)
        with self._ek() as ek, self._session(ek) as session:
            private = self._import(ek, session, public + duplicate + encrypted_seed)
            with self._channel.holding(self._load(ek, session, private + public)) as handle:
                item = Entity(handle, sealed.name())
                with policy_session(self._channel, ek) as policy:
                    policy.encrypt = True
                    return self._unseal(item, policy, selections, reset_count, clock_limit)

    def _import(self, ek: Key, session: Session, blobs: bytes) -> bytes:
        authorize_ek(self._channel, session, ek, self._endorsement)
        parameters = Writer().sized16(b"").raw(blobs).u16(Alg.NULL).done()
        answer = self._channel.run(Code.IMPORT, (ek.entity,), parameters, (session,))
        return Writer().sized16(_only_2b(answer.reader("TPM2_Import"))).done()

    def _load(self, ek: Key, session: Session, parameters: bytes) -> int:
        authorize_ek(self._channel, session, ek, self._endorsement)
        return self._channel.run(Code.LOAD, (ek.entity,), parameters, (session,), out_handles=1).handles[0]

    def _unseal(
        self, item: Entity, policy: Session, selections: Selections, reset_count: int, clock_limit: int
    ) -> bytes:
        """Any PCR that moves after PolicyPCR voids the session, sealed to or not: start over a few times."""
        for attempt in range(_UNSEAL_TRIES):
            self._channel.run(Code.POLICY_RESTART, (policy.entity,))
            parameters = Writer().sized16(b"").raw(encode_selections(selections)).done()
            self._channel.run(Code.POLICY_PCR, (policy.entity,), parameters)
            self._policy_counter(policy, reset_count.to_bytes(4, "big"), _RESET_COUNT, Operation.EQ, "resetCount")
            self._policy_counter(policy, clock_limit.to_bytes(8, "big"), _CLOCK, Operation.UNSIGNED_LT, "clock")
            try:
                answer = self._channel.run(Code.UNSEAL, (item,), b"", (policy,))
            except TpmError as error:
                if base_code(error.rc) != RC_PCR_CHANGED or attempt == _UNSEAL_TRIES - 1:
                    raise
            else:
                return _only_2b(answer.reader("TPM2_Unseal"))
        raise AssertionError("the loop returns or raises")

    def _policy_counter(self, policy: Session, operand: bytes, offset: int, operation: Operation, what: str) -> None:
        parameters = Writer().sized16(operand).u16(offset).u16(operation).done()
        step = f"PolicyCounterTimer({what})"
        self._channel.run(Code.POLICY_COUNTER_TIMER, (policy.entity,), parameters, step=step)

    def _primary(self, template: Public) -> AbstractContextManager[Key]:
        return primary(self._channel, template, self._endorsement)

    def _ek(self, kind: EkKind | None = None) -> AbstractContextManager[Key]:
        return endorsement_key(self._channel, ek_template(kind or self._ek_kind), self._endorsement)

    def _session(self, ek: Key) -> AbstractContextManager[Session]:
        """A session that can satisfy the policy of ``ek``: its hash must be that of the key's name."""
        return policy_session(self._channel, ek, ek.public.name_alg)


def _only_2b(reader: Reader) -> bytes:
    """The content of a response that is one TPM2B."""
    content = reader.sized16(_MAX_BLOB, "content")
    reader.finish()
    return content
