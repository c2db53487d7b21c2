"""Makes this host known to an authority: proves that its attestation key lives in the TPM with that EK (A1 to A4).

Source: TPM 2.0 Library, Part 1, "Credential Protection"; Part 3, TPM2_ActivateCredential.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from watchword.agent.host import Host
from watchword.agent.journal import step
from watchword.agent.tpm.client import Tpm
from watchword.agent.tpm.errors import TpmError
from watchword.agent.transport import ask
from watchword.errors import MalformedError
from watchword.wire.der_chain import MAX_CHAIN, MAX_NV_CHAIN
from watchword.wire.evidence import enrol_proof
from watchword.wire.messages import EnrolBegin, EnrolChallenge, EnrolFinish, Enrolled
from watchword.wire.tpm.templates import EkKind
from watchword.wire.trace import exchange_trace, traced

__all__ = ["choose_ek", "enrol", "introduce"]

# Makers of hardware leave P-256 and RSA-2048 certificates, emulators P-384 too; the fastest comes first.
_PREFERRED = (EkKind.P256, EkKind.P384, EkKind.P256_H, EkKind.RSA2048, EkKind.RSA2048_H, EkKind.RSA3072)


def choose_ek(tpm: Tpm) -> EkKind:
    """The first kind of endorsement key that the TPM has a certificate for; P-256 when it has none (pinned EKs)."""
    for kind in _PREFERRED:
        if tpm.read_ek_certificate(kind):
            return kind
    return EkKind.P256


def enrol(host: Host, intermediates: Sequence[bytes] = ()) -> bytes:
    """Enrol ``host`` and return its 32-byte host id, a hash of its endorsement key.

    ``intermediates`` are DER certificates between the TPM's and its maker's root. Enrolling again is harmless and
    needed after TPM2_Clear. Raises :class:`Rejected` with the authority's reason, :class:`Unavailable` or a TPM error.
    """
    challenge = ask(host.exchange, host.keys, introduce(host.tpm, host.ek_kind, intermediates), EnrolChallenge)
    trace = exchange_trace(challenge.cookie)
    step("enrol-challenge", trace)
    with traced(trace):
        secret = host.tpm.activate_credential(challenge.id_object, challenge.encrypted_secret)
        finish = EnrolFinish(challenge.cookie, enrol_proof(secret, challenge.cookie))
        host_id = ask(host.exchange, host.keys, finish, Enrolled).host_id
    step("enrol-done", trace)
    return host_id


def introduce(tpm: Tpm, kind: EkKind, intermediates: Sequence[bytes] = ()) -> EnrolBegin:
    """What this TPM says about itself: keys, certificate, and intermediates, those given before those from its NV.

    A host without an EK certificate is known only to authorities that pinned its EK. Raises a TPM error.
    """
    return EnrolBegin(
        ek_kind=kind,
        ek_certificate=tpm.read_ek_certificate(kind) or b"",
        ek_public=tpm.create_ek(kind).encode(),
        intermediates=_fitting(dict.fromkeys((*intermediates, *_from_nv(tpm)))),
        ak_public=tpm.create_ak().encode(),
    )


def _fitting(chain: Iterable[bytes]) -> tuple[bytes, ...]:
    """As many certificates from the front of ``chain`` as a message may carry."""
    found: list[bytes] = []
    size = 0
    for each in chain:
        size += len(each)
        if len(found) == MAX_CHAIN or size > MAX_NV_CHAIN:
            break
        found.append(each)
    return tuple(found)


def _from_nv(tpm: Tpm) -> tuple[bytes, ...]:
    """The maker's chain in NV. One that cannot be read is none: the authority may know the maker without it."""
    try:
        return tpm.read_intermediates()
    except (MalformedError, TpmError):  # no certificates; never written, not for everybody, too long
        return ()
