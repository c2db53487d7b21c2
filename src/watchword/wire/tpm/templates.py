"""The key templates of this protocol: endorsement keys as makers certify them, and our attestation key.

Endorsement keys: TCG EK Credential Profile for TPM 2.0, annex B (templates L-1, L-2, H-1 to H-7). An
authority rebuilds the public area of an EK from the certified key and its template and never takes it from a host.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum

from watchword.wire.tpm.algorithms import Alg, Curve
from watchword.wire.tpm.public import Attributes, Parameters, Public, Unique
from watchword.wire.tpm.schemes import EccParameters, EccPoint, RsaParameters, Scheme, Symmetric

__all__ = ["AK_ATTRIBUTES", "AK_TEMPLATE", "EkKind", "ek_policy", "ek_template", "nv_certificate_index"]


class EkKind(IntEnum):
    """Which template an endorsement key was made from; the numbers travel in enrolment messages."""

    RSA2048 = 1  # L-1
    P256 = 2  # L-2
    RSA2048_H = 3  # H-1
    P256_H = 4  # H-2
    P384 = 5  # H-3
    RSA3072 = 6  # H-6
    RSA4096 = 7  # H-7


_NULL = Scheme(Alg.NULL)
_LOW = (
    Attributes.FIXED_TPM
    | Attributes.FIXED_PARENT
    | Attributes.SENSITIVE_DATA_ORIGIN
    | Attributes.ADMIN_WITH_POLICY
    | Attributes.RESTRICTED
    | Attributes.DECRYPT
)
_HIGH = _LOW | Attributes.USER_WITH_AUTH

# PolicySecret(TPM_RH_ENDORSEMENT), "PolicyA".
_POLICY_A_SHA256 = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
# PolicyOR(PolicyA, PolicyAuthorizeNV of the profile's index), "PolicyB".
_POLICY_B_SHA256 = bytes.fromhex("ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0")
_POLICY_B_SHA384 = bytes.fromhex(
    "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12"
)


def _rsa(bits: int, aes_bits: int) -> RsaParameters:
    return RsaParameters(Symmetric(Alg.AES, aes_bits, Alg.CFB), _NULL, bits, 0)


def _ecc(curve: Curve, aes_bits: int) -> EccParameters:
    return EccParameters(Symmetric(Alg.AES, aes_bits, Alg.CFB), _NULL, curve, _NULL)


@dataclass(frozen=True, slots=True)
class _Template:
    nv_index: int
    name_alg: Alg
    attributes: Attributes
    policy: bytes
    parameters: Parameters
    unique: Unique


_EMPTY_POINT = EccPoint(b"", b"")
_EK: dict[EkKind, _Template] = {
    EkKind.RSA2048: _Template(0x01C00002, Alg.SHA256, _LOW, _POLICY_A_SHA256, _rsa(2048, 128), bytes(256)),
    EkKind.P256: _Template(
        0x01C0000A, Alg.SHA256, _LOW, _POLICY_A_SHA256, _ecc(Curve.P256, 128), EccPoint(bytes(32), bytes(32))
    ),
    EkKind.RSA2048_H: _Template(0x01C00012, Alg.SHA256, _HIGH, _POLICY_B_SHA256, _rsa(2048, 128), b""),
    EkKind.P256_H: _Template(0x01C00014, Alg.SHA256, _HIGH, _POLICY_B_SHA256, _ecc(Curve.P256, 128), _EMPTY_POINT),
    EkKind.P384: _Template(0x01C00016, Alg.SHA384, _HIGH, _POLICY_B_SHA384, _ecc(Curve.P384, 256), _EMPTY_POINT),
    EkKind.RSA3072: _Template(0x01C0001C, Alg.SHA384, _HIGH, _POLICY_B_SHA384, _rsa(3072, 256), b""),
    EkKind.RSA4096: _Template(0x01C0001E, Alg.SHA384, _HIGH, _POLICY_B_SHA384, _rsa(4096, 256), b""),
}


def ek_template(kind: EkKind, unique: Unique | None = None) -> Public:
    """The public area of an EK of ``kind``.

    ``unique`` is the key (modulus, or a point padded to the field size); without it the result is the
    template that TPM2_CreatePrimary takes. Raises MalformedError when ``unique`` is not of the template's type.
    """
    template = _EK[kind]
    key_type = Alg.RSA if isinstance(template.parameters, RsaParameters) else Alg.ECC
    return Public(
        key_type,
        template.name_alg,
        template.attributes,
        template.policy,
        template.parameters,
        template.unique if unique is None else unique,
    )


def ek_policy(kind: EkKind) -> bytes:
    """The authorisation policy of an EK of ``kind``."""
    return _EK[kind].policy


def nv_certificate_index(kind: EkKind) -> int:
    """The NV index at which a maker leaves the certificate of an EK of ``kind``."""
    return _EK[kind].nv_index


# NO_DA: without it every power loss after the key was used counts as a failed authorization, and after a few the TPM
# locks a host out that only crashed. The key's authorization is empty, so there is nothing to guess.
AK_ATTRIBUTES = (
    Attributes.FIXED_TPM
    | Attributes.FIXED_PARENT
    | Attributes.SENSITIVE_DATA_ORIGIN
    | Attributes.USER_WITH_AUTH
    | Attributes.NO_DA
    | Attributes.RESTRICTED
    | Attributes.SIGN
)

#: Our attestation key: a primary of the endorsement hierarchy, so its quotes carry the real resetCount and
#: firmware version, and it is the same after every reboot. The unique field makes it ours and nobody else's.
AK_TEMPLATE = Public(
    Alg.ECC,
    Alg.SHA256,
    AK_ATTRIBUTES,
    b"",
    EccParameters(Symmetric(Alg.NULL), Scheme(Alg.ECDSA, Alg.SHA256), Curve.P256, _NULL),
    EccPoint(hashlib.sha256(b"watchword/ak/1\0").digest(), bytes(32)),
)
