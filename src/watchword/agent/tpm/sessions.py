"""Passwords and policy sessions: TPM 2.0 Library, Part 1, clauses 19 to 21.

Every session here is *salted* to a primary key of the TPM and can encrypt the first response parameter. Somebody who
reads the wires between processor and TPM, or between agent and an emulated TPM, sees neither the secret nor the
key it is encrypted with, and cannot change a response unnoticed. Somebody who replaces the TPM's first answer
(the public key the salt goes to) is a physical attack in progress, which the threat model leaves out.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from hmac import compare_digest
from hmac import digest as hmac_digest

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from watchword.agent.tpm.commands import Channel, Code, Entity, Handle
from watchword.agent.tpm.errors import TpmError
from watchword.agent.tpm.salt import protect_salt
from watchword.wire.reader import Reader, Writer
from watchword.wire.tpm.algorithms import Alg, digest, digest_size, hash_name
from watchword.wire.tpm.kdf import kdfa
from watchword.wire.tpm.public import Public

__all__ = ["Password", "Session", "start_session"]

_POLICY = 0x01  # TPM_SE
_CONTINUE, _ENCRYPT = 0x01, 0x40  # TPMA_SESSION
_AES_BITS = 128
_NONCE = 32


def _forged(why: str) -> TpmError:
    return TpmError(
        "tpm-response-forged",
        f"a response of the TPM is not what the TPM sent: {why}",
        hint="something between the agent and the TPM changes their messages",
    )


@dataclass(frozen=True, slots=True)
class Password:
    """TPM_RS_PW: the authorization value itself; empty for everything that Watchword creates."""

    auth: bytes = b""

    def command(self, code: int, names: bytes, parameters: bytes) -> bytes:
        return Writer().u32(Handle.PASSWORD).sized16(b"").u8(_CONTINUE).sized16(self.auth).done()

    def check(self, code: int, parameters: bytes, nonce: bytes, attributes: int, hmac: bytes) -> None:
        if nonce or hmac:
            raise _forged("a password was answered with a nonce or an HMAC")

    def reveal(self, parameters: bytes) -> bytes:
        return parameters

    def __repr__(self) -> str:
        return "Password()"


class Session:
    """A started, salted session. The nonces roll with each command, so it serves one command at a time."""

    def __init__(self, handle: int, key: bytes, nonce_tpm: bytes, alg: Alg) -> None:
        self.handle = handle
        self.encrypt = False  # ask for the first response parameter to be encrypted
        self._key = key
        self._alg = alg
        self._nonce_tpm = nonce_tpm
        self._nonce_caller = b""

    @property
    def entity(self) -> Entity:
        return Entity.of(self.handle)

    @property
    def _attributes(self) -> int:
        return _CONTINUE | (_ENCRYPT if self.encrypt else 0)

    def command(self, code: int, names: bytes, parameters: bytes) -> bytes:
        """TPMS_AUTH_COMMAND with the HMAC over cpHash and both nonces (Part 1, 19.6.3 and 16.7).

        The objects that Watchword opens this way have an empty authorization value: it adds nothing to the key.
        A session that encrypts is always the only one besides passwords, so no other nonce goes in.
        """
        self._nonce_caller = secrets.token_bytes(_NONCE)
        cp_hash = digest(self._alg, code.to_bytes(4, "big"), names, parameters)
        proof = self._hmac(cp_hash, self._nonce_caller, self._nonce_tpm, self._attributes)
        writer = Writer().u32(self.handle).sized16(self._nonce_caller).u8(self._attributes)
        return writer.sized16(proof).done()

    def check(self, code: int, parameters: bytes, nonce: bytes, attributes: int, hmac: bytes) -> None:
        """Verify the HMAC over rpHash and both nonces (Part 1, 19.6.3 and 16.8). Raises TpmError."""
        if len(nonce) < 16 or attributes != self._attributes:
            raise _forged("its nonce is too short or its session attributes differ")
        rp_hash = digest(self._alg, bytes(4), code.to_bytes(4, "big"), parameters)
        if not compare_digest(hmac, self._hmac(rp_hash, nonce, self._nonce_caller, attributes)):
            raise _forged("its HMAC is wrong")
        self._nonce_tpm = nonce

    def reveal(self, parameters: bytes) -> bytes:
        """``parameters`` with the first TPM2B decrypted: AES-128-CFB, key and IV from KDFa (Part 1, 21.3)."""
        if not self.encrypt:
            return parameters
        reader = Reader(parameters, "encrypted response")
        cipher_text = reader.sized16(len(parameters), "encrypted parameter")
        bits = _AES_BITS + 128
        key = kdfa(self._alg, self._key, "CFB", self._nonce_tpm, self._nonce_caller, bits)
        cipher = Cipher(AES(key[: _AES_BITS // 8]), CFB(key[_AES_BITS // 8 :])).decryptor()
        return Writer().sized16(cipher.update(cipher_text) + cipher.finalize()).raw(reader.rest()).done()

    def _hmac(self, body: bytes, newer: bytes, older: bytes, attributes: int) -> bytes:
        return hmac_digest(self._key, body + newer + older + bytes([attributes]), hash_name(self._alg))


def start_session(channel: Channel, salt_key: Entity, public: Public, alg: Alg = Alg.SHA256) -> Session:
    """TPM2_StartAuthSession: a policy session of hash ``alg``, salted to the loaded key ``salt_key`` (Part 3, 11.1).

    ``public`` is that key's public area. The caller flushes the session.
    """
    nonce_caller = secrets.token_bytes(_NONCE)
    salt, encrypted_salt = protect_salt(public)
    parameters = Writer().sized16(nonce_caller).sized16(encrypted_salt).u8(_POLICY)
    parameters.u16(Alg.AES).u16(_AES_BITS).u16(Alg.CFB).u16(alg)
    entities = (salt_key, Entity.of(Handle.NULL))
    answer = channel.run(Code.START_AUTH_SESSION, entities, parameters.done(), out_handles=1)
    reader = answer.reader("TPM2_StartAuthSession")
    nonce_tpm = reader.sized16(64, "nonceTPM")
    reader.finish()
    key = kdfa(alg, salt, "ATH", nonce_tpm, nonce_caller, digest_size(alg) * 8)
    return Session(answer.handles[0], key, nonce_tpm, alg)
