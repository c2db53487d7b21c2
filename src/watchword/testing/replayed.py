"""A host whose evidence is a recorded boot, quoted by a TPM of software under a key of its own; for load and faults.

Making its evidence costs little beside judging it, and one process can be thousands of hosts. A release can be asked
for, and not opened: that takes a TPM that keeps its keys.
"""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from watchword.agent.transport import new_reply_key
from watchword.crypto.envelope import open_reply, seal_request
from watchword.crypto.keylist import KeyList
from watchword.testing.soft_tpm import SoftTpm
from watchword.wire.evidence import Evidence, Purpose, binding
from watchword.wire.messages import (
    AttestRequest,
    Challenge,
    ReleaseRequest,
    Reply,
    Request,
    encode_request,
    parse_reply,
)
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.attest import ClockInfo
from watchword.wire.tpm.pcr import PcrValues

__all__ = ["Line", "Recording", "ReplayedHost", "StatusError"]


@dataclass(frozen=True, slots=True)
class Recording:
    """What a boot left in the ``pcrs`` of the SHA-256 bank, and its two logs."""

    pcrs: PcrValues
    event_log: bytes
    runtime_log: bytes

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder of ``vectors/boots``."""
        values = json.loads((folder / "pcrs.json").read_text())["sha256"]
        pcrs = {Alg.SHA256: {int(index): bytes.fromhex(value) for index, value in values.items()}}
        return cls(pcrs, (folder / "eventlog.bin").read_bytes(), (folder / "ima.bin").read_bytes())


@dataclass
class ReplayedHost:
    """One host; its TPM's ``clock`` (milliseconds) runs with every quote, ``pending`` is its next challenge if any."""

    recording: Recording
    tpm: SoftTpm = field(default_factory=SoftTpm.create)
    clock: int = 60_000
    pending: Challenge | None = None

    @property
    def host_id(self) -> bytes:
        """The 32-byte id."""
        return self.tpm.ak.host_id

    def attest_request(self, challenge: Challenge) -> tuple[AttestRequest, bytes]:
        """The answer to a challenge for an attestation, and the 32-byte key for the reply."""
        evidence, key = self._evidence(challenge, Purpose.ATTEST, "", "")
        return AttestRequest(evidence), key

    def release_request(self, challenge: Challenge, token: str, instance: str) -> tuple[ReleaseRequest, bytes]:
        """The answer to a challenge for the launch of ``instance``, and the 32-byte key for the reply."""
        evidence, key = self._evidence(challenge, Purpose.LAUNCH, token, instance)
        return ReleaseRequest(evidence), key

    def _evidence(self, challenge: Challenge, purpose: Purpose, token: str, instance: str) -> tuple[Evidence, bytes]:
        self.clock += 1000
        key = new_reply_key()
        bound = binding(
            host_id=self.host_id,
            nonce=challenge.nonce,
            purpose=purpose,
            token=token,
            instance=instance,
            reply_key=key,
        )
        pcrs = {s.bank: {pcr: self.recording.pcrs[s.bank][pcr] for pcr in s.pcrs} for s in challenge.selections}
        attest, signature = self.tpm.quote(challenge.selections, pcrs, bound, ClockInfo(self.clock, 1, 0, True))
        asked = any(10 in selection.pcrs for selection in challenge.selections)
        whole = asked and not challenge.ima_from
        evidence = Evidence(
            host_id=self.host_id,
            nonce=challenge.nonce,
            purpose=purpose,
            token=token,
            instance=instance,
            attest=attest,
            signature=signature,
            pcrs=pcrs,
            event_log=b"" if challenge.boot_log else self.recording.event_log,
            ima_from=0 if whole or not asked else challenge.ima_from,
            ima_log=self.recording.runtime_log if whole else b"",
        )
        return evidence, key


class StatusError(Exception):
    """The authority answered with an HTTP ``status`` and the ``body`` of a problem."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status}: {body[:300]!r}")
        self.status, self.body = status, body


class Line:
    """One connection to an authority that stays open; ``timeout`` seconds for each step of an exchange."""

    def __init__(self, url: str, keys: KeyList, timeout: float = 60) -> None:
        parts = urlsplit(url)
        context = ssl.create_default_context(cadata=keys.tls_ca)
        host = parts.hostname or ""
        self._connection = http.client.HTTPSConnection(host, parts.port, context=context, timeout=timeout)
        self._keys = keys

    def ask(self, request: Request, key: bytes | None = None) -> Reply:
        """The reply to ``request``, under the 32-byte ``key``.

        Raises :class:`StatusError`, OSError, http.client.HTTPException, MalformedError.
        """
        key = key or new_reply_key()
        sealed = seal_request(encode_request(request), self._keys, key)
        self._connection.request("POST", "/v1/messages", sealed, {"Content-Type": "application/octet-stream"})
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise StatusError(response.status, body)
        return parse_reply(open_reply(body, key))

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
