"""A3 and A4: an attestation key that can sign nothing but what its TPM made, in the TPM of a verified EK."""

from __future__ import annotations

import hmac
from dataclasses import InitVar, dataclass, field
from functools import lru_cache

from watchword.crypto.tpm_key import PublicKey, public_key
from watchword.errors import Finding, MalformedError, Rejected
from watchword.verify.ek import EkClass, VerifiedEk, host_id
from watchword.wire.tpm.algorithms import Alg, Curve
from watchword.wire.tpm.public import Attributes, Public
from watchword.wire.tpm.schemes import EccParameters, RsaParameters, Scheme

__all__ = ["VerifiedAk", "ak_scheme", "prove_ak", "restore_ak", "verify_ak_public"]

_REQUIRED = (
    Attributes.RESTRICTED  # signs only what the TPM itself made: nobody can have it sign a quote of their own
    | Attributes.SIGN
    | Attributes.FIXED_TPM
    | Attributes.FIXED_PARENT
    | Attributes.SENSITIVE_DATA_ORIGIN  # the TPM made the private key, so nobody else has a copy
)
# Who may use the key is the host's business; what the key can do is ours. Anything not named here is refused.
_TOLERATED = Attributes.USER_WITH_AUTH | Attributes.ADMIN_WITH_POLICY | Attributes.NO_DA | Attributes.ST_CLEAR
_STRONG_HASHES = (Alg.SHA256, Alg.SHA384, Alg.SHA512)
_CURVES = (Curve.P256, Curve.P384)
_MIN_RSA = 2048
_EXPONENTS = (0, 65537)
_PROOF_SIZE = 32
_PROOF = object()


@dataclass(frozen=True, slots=True)
class VerifiedAk:
    """An attestation key that passed A3 and A4. Made only by this module.

    ``host_id`` has 32 bytes; ``name`` is the TPM name of ``ak``; ``key`` is the loaded public key and ``scheme`` the
    only scheme whose signatures count.
    """

    _proof: InitVar[object]
    host_id: bytes
    ek: Public
    ak: Public
    name: bytes
    ek_class: EkClass
    scheme: Scheme = field(repr=False, compare=False)
    key: PublicKey = field(repr=False, compare=False)

    def __post_init__(self, _proof: object) -> None:
        if _proof is not _PROOF:
            raise TypeError("only watchword.verify.ak makes a VerifiedAk")


def verify_ak_public(ak: Public) -> None:
    """Check what kind of key ``ak`` is (A3). Raises Rejected (ak-attributes, ak-algorithm)."""
    attributes = ak.attributes
    # Plain integers: ~ on a flag forgets the bits that have no name.
    missing, surplus = int(_REQUIRED) & ~int(attributes), int(attributes) & ~int(_REQUIRED | _TOLERATED)
    if missing or surplus:
        message = "the attestation key has the wrong attributes"
        raise Rejected(Finding("A3", "ak-attributes", message, _names(_REQUIRED), _names(attributes)))
    if not _algorithm_allowed(ak):
        expected = "RSA of 2048 bits or more, P-256 or P-384, a fixed signing scheme, SHA-2"
        message = "the attestation key has an algorithm that is not allowed"
        raise Rejected(Finding("A3", "ak-algorithm", message, expected, _describe(ak)))


def prove_ak(ek: VerifiedEk, ak: Public, expected: bytes, proof: bytes) -> VerifiedAk:
    """Accept ``ak`` for the host of ``ek`` when the host could open a credential made for both (A4).

    ``expected`` is the 32-byte proof computed from that credential, ``proof`` what the host answered. Raises Rejected
    (ak-proof, or what A3 raises) or MalformedError when the key in ``ak`` is not one.
    """
    if len(expected) != _PROOF_SIZE:
        raise ValueError(f"an expected proof of {len(expected)} bytes; {_PROOF_SIZE} are needed")
    verify_ak_public(ak)
    if not hmac.compare_digest(expected, proof):
        message = "the host did not prove that this attestation key lives beside this endorsement key"
        raise Rejected(Finding("A4", "ak-proof", message))
    return _make(ek.host_id, ek.public, ak, ek.ek_class)


@lru_cache(maxsize=4096)
def restore_ak(host: bytes, ek_public: bytes, ak_public: bytes, ek_class: EkClass) -> VerifiedAk:
    """Read back a key that :func:`prove_ak` accepted, from the authority's own store.

    ``ek_public`` and ``ak_public`` are TPMT_PUBLIC. A3 runs again, so that a rule tightened later applies to keys
    enrolled before. The caller vouches that the record is its own. Raises Rejected (ak-record, or what A3 raises) or
    MalformedError. The answer follows from the arguments alone, so those of the newest 4096 records are kept.
    """
    ek, ak = Public.parse(ek_public), Public.parse(ak_public)
    if host_id(ek) != host:
        raise Rejected(Finding("A4", "ak-record", "the stored endorsement key is not that of this host"))
    verify_ak_public(ak)
    return _make(host, ek, ak, ek_class)


def ak_scheme(ak: Public) -> Scheme:
    """The signing scheme that ``ak`` is bound to. Raises MalformedError when it is not an asymmetric key."""
    if isinstance(ak.parameters, EccParameters | RsaParameters):
        return ak.parameters.scheme
    raise MalformedError("an attestation key is an RSA or ECC key")


def _make(host: bytes, ek: Public, ak: Public, ek_class: EkClass) -> VerifiedAk:
    return VerifiedAk(_PROOF, host, ek, ak, ak.name(), ek_class, ak_scheme(ak), public_key(ak))


def _algorithm_allowed(ak: Public) -> bool:
    parameters = ak.parameters
    if ak.name_alg not in _STRONG_HASHES:
        return False
    if isinstance(parameters, EccParameters):
        known = parameters.scheme.alg is Alg.ECDSA and parameters.curve in _CURVES
    elif isinstance(parameters, RsaParameters):
        known = parameters.scheme.alg in (Alg.RSASSA, Alg.RSAPSS)
        known = known and parameters.key_bits >= _MIN_RSA and parameters.exponent in _EXPONENTS
    else:
        return False
    return known and parameters.scheme.hash_alg in _STRONG_HASHES


def _names(attributes: Attributes) -> str:
    return "|".join((flag.name or "").lower() for flag in attributes) or "none"


def _describe(ak: Public) -> str:
    parameters = ak.parameters
    if not isinstance(parameters, EccParameters | RsaParameters):
        return ak.type.name
    size = parameters.curve.name if isinstance(parameters, EccParameters) else str(parameters.key_bits)
    hash_alg = parameters.scheme.hash_alg
    scheme = parameters.scheme.alg.name + (f" {hash_alg.name}" if hash_alg is not None else "")
    return f"{ak.type.name} {size} {scheme}, name by {ak.name_alg.name}"
