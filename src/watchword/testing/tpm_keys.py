"""The keys of a TPM without the TPM: real signatures over structures that a test may bend before they are signed.

A real TPM refuses to sign what is wrong. To show that a verifier notices, something must sign it all the same.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field, replace

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from watchword.crypto.tpm_key import hash_of, point
from watchword.crypto.tpm_seal import Credential, SealedObject, make_credential
from watchword.verify.ak import VerifiedAk, prove_ak
from watchword.verify.ek import EkClass, host_id, verify_pinned_ek
from watchword.wire.reader import parse_whole
from watchword.wire.tpm.algorithms import Alg, digest_size, hash_name
from watchword.wire.tpm.attest import GENERATED_VALUE, ST_ATTEST_QUOTE, Attest, ClockInfo, QuoteInfo
from watchword.wire.tpm.blobs import EncryptedSecret, IdObject, PrivateBlob, Sensitive
from watchword.wire.tpm.kdf import kdfa, kdfe
from watchword.wire.tpm.pcr import PcrValues, Selections, pcr_digest
from watchword.wire.tpm.public import Public
from watchword.wire.tpm.schemes import EccParameters, EccPoint, RsaParameters, Scheme, Symmetric
from watchword.wire.tpm.signature import Signature
from watchword.wire.tpm.templates import AK_TEMPLATE, EkKind, ek_template

__all__ = ["TpmKeys"]

_CURVES = {EkKind.P256: ec.SECP256R1(), EkKind.P256_H: ec.SECP256R1(), EkKind.P384: ec.SECP384R1()}


@dataclass
class TpmKeys:
    """An endorsement key of ``kind`` and an attestation key that signs with ``ak_scheme`` and SHA-256, in memory.

    ``clock_info`` and ``firmware_version`` are what quotes will say; change them to play a reboot or a clear.
    """

    kind: EkKind = EkKind.P256
    ak_scheme: Alg = Alg.ECDSA
    clock_info: ClockInfo = field(default_factory=lambda: ClockInfo(60_000, 7, 0, safe=True))
    firmware_version: int = 0x2019_1023_0016_3636
    ek_key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = field(init=False, repr=False)
    ak_key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = field(init=False, repr=False)
    ek: Public = field(init=False)
    ak: Public = field(init=False)

    def __post_init__(self) -> None:
        parameters = ek_template(self.kind).parameters
        if isinstance(parameters, RsaParameters):
            self.ek_key = rsa.generate_private_key(65537, parameters.key_bits)
            self.ek = ek_template(self.kind, _modulus(self.ek_key))
        else:
            self.ek_key = ec.generate_private_key(_CURVES[self.kind])
            self.ek = ek_template(self.kind, point(self.ek_key.public_key()))
        if self.ak_scheme is Alg.ECDSA:
            self.ak_key = ec.generate_private_key(ec.SECP256R1())
            self.ak = replace(AK_TEMPLATE, unique=point(self.ak_key.public_key()))
        else:
            self.ak_key = rsa.generate_private_key(65537, 2048)
            rsa_parameters = RsaParameters(Symmetric(Alg.NULL), Scheme(self.ak_scheme, Alg.SHA256), 2048)
            unique = _modulus(self.ak_key)
            self.ak = replace(AK_TEMPLATE, type=Alg.RSA, parameters=rsa_parameters, unique=unique)

    def verified_ak(self, ek_class: EkClass = EkClass.VIRTUAL) -> VerifiedAk:
        """Enrol by the real steps: pinned EK, credential, proof."""
        ek = verify_pinned_ek(self.ek, {host_id(self.ek): ek_class})
        secret = bytes(range(32))
        opened = self.activate(make_credential(ek.public, self.ak.name(), secret))
        return prove_ak(ek, self.ak, secret, opened)

    # --- attestation ------------------------------------------------------------------------------------------------

    def attest(self, selections: Selections, values: PcrValues, extra_data: bytes) -> Attest:
        """What a TPM with these PCR values would sign."""
        quoted = QuoteInfo(selections, pcr_digest(Alg.SHA256, selections, values))
        kind, signer = ST_ATTEST_QUOTE, self.ak.name()
        return Attest(GENERATED_VALUE, kind, signer, extra_data, self.clock_info, self.firmware_version, quoted)

    def quote(self, selections: Selections, values: PcrValues, extra_data: bytes) -> tuple[bytes, bytes]:
        """A good quote: (TPMS_ATTEST, TPMT_SIGNATURE)."""
        data = self.attest(selections, values, extra_data).encode()
        return data, self.sign(data)

    def sign(self, data: bytes) -> bytes:
        """A TPMT_SIGNATURE by the AK over any ``data``, which a real TPM would not give."""
        if isinstance(self.ak_key, ec.EllipticCurvePrivateKey):
            r, s = decode_dss_signature(self.ak_key.sign(data, ec.ECDSA(hashes.SHA256())))
            both = [value.to_bytes(32, "big") for value in (r, s)]
            return Signature(Alg.ECDSA, Alg.SHA256, r=both[0], s=both[1]).encode()
        scheme: padding.AsymmetricPadding = padding.PKCS1v15()
        if self.ak_scheme is Alg.RSAPSS:
            scheme = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
        signature = self.ak_key.sign(data, scheme, hashes.SHA256())
        return Signature(self.ak_scheme, Alg.SHA256, rsa=signature).encode()

    # --- what was wrapped to the EK ---------------------------------------------------------------------------------

    def activate(self, credential: Credential, name: bytes | None = None) -> bytes:
        """TPM2_ActivateCredential for the AK, or for the object called ``name``. Raises ValueError."""
        blob = IdObject.parse(credential.id_object)
        seed = self._seed(credential.encrypted_secret, "IDENTITY")
        name = self.ak.name() if name is None else name
        plain = self._unwrap(seed, name, blob.integrity, blob.encrypted)
        return parse_whole(plain, "TPM2B_DIGEST", lambda reader: reader.sized16(64, "secret"))

    def open_sealed(self, sealed: SealedObject) -> bytes:
        """The data of a sealed object, its policy ignored. Raises ValueError."""
        blob = PrivateBlob.parse(sealed.duplicate)
        name = Public.parse_2b(sealed.public).name()
        seed = self._seed(sealed.encrypted_seed, "DUPLICATE")
        plain = self._unwrap(seed, name, blob.integrity, blob.encrypted)
        inner = parse_whole(plain, "TPM2B_SENSITIVE", lambda reader: reader.sized16(512, "sensitive"))
        return Sensitive.parse(inner).sensitive

    def _seed(self, encrypted: bytes, label: str) -> bytes:
        secret, bits = EncryptedSecret.parse(encrypted).secret, 8 * digest_size(self.ek.name_alg)
        if isinstance(self.ek_key, rsa.RSAPrivateKey):
            algorithm = hash_of(self.ek.name_alg)
            oaep = padding.OAEP(padding.MGF1(algorithm), algorithm, label.encode() + b"\0")
            return self.ek_key.decrypt(secret, oaep)
        theirs = EccPoint.parse(secret)
        x, y = int.from_bytes(theirs.x, "big"), int.from_bytes(theirs.y, "big")
        key = ec.EllipticCurvePublicNumbers(x, y, self.ek_key.curve).public_key()
        z = self.ek_key.exchange(ec.ECDH(), key)
        return kdfe(self.ek.name_alg, z, label, theirs.x, point(self.ek_key.public_key()).x, bits)

    def _unwrap(self, seed: bytes, name: bytes, integrity: bytes, encrypted: bytes) -> bytes:
        alg, parameters = self.ek.name_alg, self.ek.parameters
        mac_key = kdfa(alg, seed, "INTEGRITY", b"", b"", 8 * digest_size(alg))
        if not hmac.compare_digest(hmac.digest(mac_key, encrypted + name, hash_name(alg)), integrity):
            raise ValueError("integrity check failed")
        if not isinstance(parameters, EccParameters | RsaParameters):
            raise ValueError("not a storage key")
        key = kdfa(alg, seed, "STORAGE", name, b"", parameters.symmetric.key_bits)
        decryptor = Cipher(AES(key), CFB(bytes(16))).decryptor()
        return decryptor.update(encrypted) + decryptor.finalize()


def _modulus(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_numbers().n.to_bytes(key.key_size // 8, "big")
