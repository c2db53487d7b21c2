"""Framing of what an authority builds for a TPM: credentials and import blobs (TPM 2.0 Part 1, 23 and 24).

The specification draws the encrypted part of both as a sized buffer, but the size is inside the encryption:
on the wire it is the rest of the outer buffer.
"""

from __future__ import annotations

from dataclasses import dataclass

from watchword.wire.reader import Reader, Writer, parse_whole
from watchword.wire.tpm.algorithms import Alg, read_alg

__all__ = ["EncryptedSecret", "IdObject", "PrivateBlob", "Sensitive"]

_MAX_DIGEST = 64
_MAX_BLOB = 1024
_MAX_SECRET = 512
_SENSITIVE_TYPES = {int(alg): alg for alg in (Alg.RSA, Alg.ECC, Alg.KEYEDHASH, Alg.SYMCIPHER)}


@dataclass(frozen=True, slots=True)
class _Wrapped:
    """An HMAC of at most 64 bytes over the encrypted rest of a buffer of at most 1024 bytes."""

    integrity: bytes
    encrypted: bytes

    @classmethod
    def _parse(cls, data: bytes, what: str) -> tuple[bytes, bytes]:
        inner = parse_whole(data, what, lambda reader: reader.sized16(_MAX_BLOB, "content"))
        reader = Reader(inner, what)
        return reader.sized16(_MAX_DIGEST, "integrity"), reader.rest()

    def encode(self) -> bytes:
        """The sized buffer (TPM2B)."""
        return Writer().sized16(Writer().sized16(self.integrity).raw(self.encrypted).done()).done()


class IdObject(_Wrapped):
    """TPM2B_ID_OBJECT: the credential of TPM2_ActivateCredential."""

    __slots__ = ()

    @classmethod
    def parse(cls, data: bytes) -> IdObject:
        """Parse a whole TPM2B_ID_OBJECT. Raises MalformedError."""
        return cls(*cls._parse(data, "TPM2B_ID_OBJECT"))


class PrivateBlob(_Wrapped):
    """TPM2B_PRIVATE with an outer wrapper: the duplicate of TPM2_Import."""

    __slots__ = ()

    @classmethod
    def parse(cls, data: bytes) -> PrivateBlob:
        """Parse a whole TPM2B_PRIVATE. Raises MalformedError."""
        return cls(*cls._parse(data, "TPM2B_PRIVATE"))


@dataclass(frozen=True, slots=True)
class EncryptedSecret:
    """TPM2B_ENCRYPTED_SECRET: an RSA-OAEP ciphertext or a TPMS_ECC_POINT, at most 512 bytes."""

    secret: bytes

    @classmethod
    def parse(cls, data: bytes) -> EncryptedSecret:
        """Parse a whole TPM2B_ENCRYPTED_SECRET. Raises MalformedError."""
        reader = Reader(data, "TPM2B_ENCRYPTED_SECRET")
        secret = reader.sized16(_MAX_SECRET, "secret")
        reader.finish()
        return cls(secret)

    def encode(self) -> bytes:
        return Writer().sized16(self.secret).done()


@dataclass(frozen=True, slots=True)
class Sensitive:
    """TPMT_SENSITIVE: the secret half of an object. Never shown: its repr is only its type."""

    type: Alg
    auth: bytes
    seed: bytes
    sensitive: bytes

    def __repr__(self) -> str:
        return f"Sensitive(type={self.type!r})"

    @classmethod
    def read(cls, reader: Reader) -> Sensitive:
        kind = read_alg(reader, _SENSITIVE_TYPES)
        auth, seed = reader.sized16(_MAX_DIGEST, "authValue"), reader.sized16(_MAX_DIGEST, "seedValue")
        return cls(kind, auth, seed, reader.sized16(_MAX_SECRET, "sensitive"))

    @classmethod
    def parse(cls, data: bytes) -> Sensitive:
        """Parse a whole TPMT_SENSITIVE. Raises MalformedError."""
        return parse_whole(data, "TPMT_SENSITIVE", cls.read)

    def encode(self) -> bytes:
        writer = Writer().u16(self.type).sized16(self.auth).sized16(self.seed).sized16(self.sensitive)
        return writer.done()

    def encode_2b(self) -> bytes:
        """The TPM2B_SENSITIVE: what is encrypted in an import blob."""
        return Writer().sized16(self.encode()).done()
