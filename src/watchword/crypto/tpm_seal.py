"""What an authority builds for one TPM without having a TPM: credentials and sealed objects.

Both are wrapped to an endorsement key, so only the TPM that holds it can open them. TPM 2.0 Part 1: "Credential
Protection" and "Duplication"; annexes B and C for how a seed reaches an RSA or an ECC key.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from watchword.crypto.tpm_key import hash_of, point, public_key
from watchword.errors import MalformedError
from watchword.wire.reader import Writer
from watchword.wire.tpm.algorithms import Alg, digest, digest_size, hash_name
from watchword.wire.tpm.blobs import EncryptedSecret, IdObject, PrivateBlob, Sensitive
from watchword.wire.tpm.kdf import kdfa, kdfe
from watchword.wire.tpm.pcr import Selections
from watchword.wire.tpm.policy import Operation, policy_counter_timer, policy_pcr, start
from watchword.wire.tpm.public import Attributes, Public
from watchword.wire.tpm.schemes import EccParameters, KeyedHashParameters, RsaParameters, Scheme

__all__ = ["MAX_SEALED", "Credential", "SealedObject", "boot_policy", "make_credential", "seal_object"]

MAX_SEALED = 128  # bytes: MAX_SYM_DATA, what every TPM takes
_SEAL_ALG = Alg.SHA256
_CLOCK_OFFSET = 8  # of TPMS_TIME_INFO
_RESET_COUNT_OFFSET = 16


@dataclass(frozen=True, slots=True)
class Credential:
    """What TPM2_ActivateCredential takes: a TPM2B_ID_OBJECT and a TPM2B_ENCRYPTED_SECRET."""

    id_object: bytes
    encrypted_secret: bytes


@dataclass(frozen=True, slots=True)
class SealedObject:
    """What TPM2_Import takes: a TPM2B_PUBLIC, a TPM2B_PRIVATE and a TPM2B_ENCRYPTED_SECRET."""

    public: bytes
    duplicate: bytes
    encrypted_seed: bytes


def make_credential(ek: Public, ak_name: bytes, secret: bytes) -> Credential:
    """Wrap ``secret`` so that only a TPM with both ``ek`` and the object called ``ak_name`` can read it.

    ``secret`` has 1 byte to the size of the EK's name hash (32 or 48). Raises ValueError when it has not, and
    MalformedError when ``ek`` is not a storage key we can wrap to.
    """
    if not 1 <= len(secret) <= digest_size(ek.name_alg):
        raise ValueError(f"a credential of {len(secret)} bytes does not fit this key")
    seed, encrypted_secret = _share_seed(ek, "IDENTITY")
    integrity, encrypted = _wrap(ek, seed, ak_name, Writer().sized16(secret).done())
    return Credential(IdObject(integrity, encrypted).encode(), encrypted_secret)


def seal_object(ek: Public, data: bytes, policy: bytes) -> SealedObject:
    """Seal ``data`` (1 to 128 bytes) for import under ``ek``; it opens only for who satisfies ``policy`` (32 bytes).

    The object has no authorisation value and does not let one be used: the policy is the only way in. Raises
    ValueError for wrong sizes, and MalformedError when ``ek`` is not a storage key we can wrap to.
    """
    if not 1 <= len(data) <= MAX_SEALED or len(policy) != digest_size(_SEAL_ALG):
        raise ValueError("sealed data has 1 to 128 bytes, and a policy 32")
    # The obfuscation value hides the data from who reads its hash in the public area.
    obfuscation = secrets.token_bytes(digest_size(_SEAL_ALG))
    public = _sealed_public(policy, digest(_SEAL_ALG, obfuscation, data))
    sensitive = Sensitive(Alg.KEYEDHASH, b"", obfuscation, data).encode_2b()
    seed, encrypted_seed = _share_seed(ek, "DUPLICATE")
    integrity, encrypted = _wrap(ek, seed, public.name(), sensitive)
    return SealedObject(public.encode_2b(), PrivateBlob(integrity, encrypted).encode(), encrypted_seed)


def boot_policy(pcr: Selections, pcr_digest: bytes, reset_count: int, clock_limit: int) -> bytes:
    """The policy that holds only in one boot, in one state, for a while.

    ``pcr_digest`` is the SHA-256 over the values of ``pcr``; ``reset_count`` the counter of the boot that was quoted;
    ``clock_limit`` the TPM clock, in milliseconds, at which the lease ends. The three steps are taken in this order:
    PolicyPCR, PolicyCounterTimer(resetCount equal), PolicyCounterTimer(clock smaller). Returns 32 bytes.
    """
    policy = policy_pcr(start(), pcr, pcr_digest)
    policy = policy_counter_timer(policy, reset_count.to_bytes(4, "big"), _RESET_COUNT_OFFSET, Operation.EQ)
    return policy_counter_timer(policy, clock_limit.to_bytes(8, "big"), _CLOCK_OFFSET, Operation.UNSIGNED_LT)


def _sealed_public(policy: bytes, unique: bytes) -> Public:
    # Neither userWithAuth (the policy would not be needed) nor fixedTPM and fixedParent (it could not be imported).
    attributes = Attributes.ADMIN_WITH_POLICY | Attributes.NO_DA
    parameters = KeyedHashParameters(Scheme(Alg.NULL))
    return Public(Alg.KEYEDHASH, _SEAL_ALG, attributes, policy, parameters, unique)


def _share_seed(ek: Public, label: str) -> tuple[bytes, bytes]:
    """A fresh seed, and the TPM2B_ENCRYPTED_SECRET that carries it to ``ek``."""
    key, size = public_key(ek), digest_size(ek.name_alg)
    if isinstance(key, ec.EllipticCurvePublicKey):
        ephemeral = ec.generate_private_key(key.curve)
        ours = point(ephemeral.public_key())
        shared = ephemeral.exchange(ec.ECDH(), key)
        seed = kdfe(ek.name_alg, shared, label, ours.x, point(key).x, 8 * size)
        return seed, EncryptedSecret(ours.encode()).encode()
    seed, algorithm = secrets.token_bytes(size), hash_of(ek.name_alg)
    oaep = padding.OAEP(padding.MGF1(algorithm), algorithm, label.encode() + b"\0")
    return seed, EncryptedSecret(key.encrypt(seed, oaep)).encode()


def _wrap(ek: Public, seed: bytes, name: bytes, plain: bytes) -> tuple[bytes, bytes]:
    """The outer wrapper: (HMAC, ciphertext) of ``plain``, bound to the object called ``name``."""
    symmetric_key = kdfa(ek.name_alg, seed, "STORAGE", name, b"", _aes_bits(ek))
    # A zero initialisation vector is what the specification prescribes: the key is never used twice.
    encryptor = Cipher(AES(symmetric_key), CFB(bytes(16))).encryptor()
    encrypted = encryptor.update(plain) + encryptor.finalize()
    mac_key = kdfa(ek.name_alg, seed, "INTEGRITY", b"", b"", 8 * digest_size(ek.name_alg))
    return hmac.digest(mac_key, encrypted + name, hash_name(ek.name_alg)), encrypted


def _aes_bits(ek: Public) -> int:
    parameters = ek.parameters
    if isinstance(parameters, EccParameters | RsaParameters):
        symmetric = parameters.symmetric
        if (symmetric.alg, symmetric.mode) == (Alg.AES, Alg.CFB) and symmetric.key_bits in (128, 192, 256):
            return symmetric.key_bits
    raise MalformedError("the key does not protect its children with AES in CFB mode")
