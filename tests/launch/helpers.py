"""A launch without an authority: real keys, a real token, and a soft TPM with the logs of a recorded boot."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from watchword.crypto.token import seal_token, sealing_key_id
from watchword.launch import challenge
from watchword.launch.machine import Known, Launch
from watchword.policy.profile import Profile
from watchword.policy.release import StackRelease
from watchword.policy.stack import CompiledStack
from watchword.testing.soft_tpm import SoftTpm
from watchword.testing.world import profile_document, stack_from_recording
from watchword.wire.evidence import Evidence, Purpose, binding
from watchword.wire.token import TokenBody, token_id
from watchword.wire.tpm.algorithms import Alg

NOW = 1_800_000_000
MAC_KEY, PSEUDONYM_KEY, REPLY_KEY, DATA_KEY = (bytes([number]) * 32 for number in range(1, 5))
RUN = b"run-of-one-host!"


@dataclass
class Case:
    """Everything that one launch needs; ``launch()`` starts it from NEW."""

    boots: Path
    tpm: SoftTpm = field(default_factory=SoftTpm.create)
    sealing: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)
    purpose: Purpose | None = None  # another one than the token's

    def __post_init__(self) -> None:
        self.profile = Profile.parse(profile_document())
        stack = CompiledStack.parse(stack_from_recording(self.boots / "good"))
        self.releases = (StackRelease(stack, stack.digest, frozenset()),)
        self.keys = {sealing_key_id(self.sealing.public_key()): self.sealing}
        self.body = self.new_body()

    def new_body(self, **fields: object) -> TokenBody:
        values = {"secret": bytes(32), "launch_id": bytes(16), "inputs": bytes(32), "profile": self.profile.id}
        return TokenBody(**{**values, "expires": NOW + 600, "level": 2, **fields})  # type: ignore[arg-type]

    def known(self, **fields: object) -> Known:
        values = {"ak": self.tpm.ak, "revoked": False, "last": None, "seen": None}
        values |= {"profile": self.profile, "releases": self.releases, **fields}
        return Known(**values)  # type: ignore[arg-type]

    def launch(self, recording: str = "good", now: int = NOW) -> Launch:
        """A launch with good evidence of ``recording``, in state NEW."""
        return Launch(self.evidence(recording), REPLY_KEY, now)

    def evidence(self, recording: str = "good") -> Evidence:
        token = seal_token(self.body, self.sealing.public_key())
        purpose = self.purpose or (Purpose.SHARE if self.body.place else Purpose.LAUNCH)
        run = RUN if purpose is Purpose.SHARE else b""
        host_id = self.tpm.ak.host_id
        nonce = challenge.issue(
            MAC_KEY, host_id=host_id, purpose=purpose, token_id=token_id(token), now=NOW, random=bytes(16)
        )
        bound = binding(
            host_id=host_id, nonce=nonce, purpose=purpose, token=token, instance="vm", reply_key=REPLY_KEY, run=run
        )
        folder = self.boots / recording
        recorded = json.loads((folder / "pcrs.json").read_text())["sha256"]
        pcrs = {Alg.SHA256: {pcr: bytes.fromhex(recorded[str(pcr)]) for pcr in self.profile.pcrs}}
        attest, signature = self.tpm.quote(self.profile.selections(), pcrs, bound)
        return Evidence(
            host_id=host_id,
            nonce=nonce,
            purpose=purpose,
            run=run,
            token=token,
            instance="vm",
            attest=attest,
            signature=signature,
            pcrs=pcrs,
            event_log=(folder / "eventlog.bin").read_bytes(),
            ima_from=0,
            ima_log=(folder / "ima.bin").read_bytes(),
        )
