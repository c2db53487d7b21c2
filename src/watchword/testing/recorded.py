"""A recorded boot as evidence of a software TPM: what ``verify_host`` takes, ready to have one thing broken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from watchword.testing.soft_tpm import SoftTpm
from watchword.verify.host import VerifiedHost, verify_host
from watchword.wire.ima_log import IMA_PCR, ImaLog, replay
from watchword.wire.tpm.algorithms import Alg, alg_by_name
from watchword.wire.tpm.pcr import PcrSelection

__all__ = ["BINDING", "RecordedHost"]

BINDING = b"recorded".ljust(32, b"\0")


class RecordedHost:
    """The recording in ``folder``, quoted by ``tpm``.

    ``pcrs`` of ``bank`` are quoted. Another ``ima_log`` than the recorded one may be given; PCR 10 follows it, so the
    evidence is authentic whatever it says.
    """

    def __init__(
        self,
        folder: Path,
        tpm: SoftTpm,
        *,
        pcrs: tuple[int, ...] = tuple(range(13)),
        bank: str = "sha256",
        ima_log: bytes | None = None,
    ) -> None:
        self.folder = folder
        self.tpm = tpm
        self.bank: Alg = alg_by_name(bank)
        self.event_log = (folder / "eventlog.bin").read_bytes()
        self.ima_log = (folder / "ima.bin").read_bytes() if ima_log is None else ima_log
        recorded = json.loads((folder / "pcrs.json").read_text())[bank]
        self.values: Mapping[int, bytes] = {pcr: bytes.fromhex(recorded[str(pcr)]) for pcr in pcrs}
        if ima_log is not None:
            value = replay(ImaLog.parse(ima_log), self.bank)[IMA_PCR]
            self.values = {**self.values, IMA_PCR: value}

    def arguments(self, **quote: Any) -> dict[str, Any]:
        """The arguments of ``verify_host``; ``quote`` may change ``clock`` and ``firmware`` of the quote."""
        selections = (PcrSelection(self.bank, tuple(self.values)),)
        values = {self.bank: self.values}
        attest, signature = self.tpm.quote(selections, values, BINDING, **quote)
        return {
            "ak": self.tpm.ak,
            "revoked": False,
            "attest": attest,
            "signature": signature,
            "pcrs": values,
            "event_log": self.event_log,
            "ima_log": self.ima_log,
            "binding": BINDING,
            "selections": selections,
            "last": None,
            "seen": None,
            "max_ahead": 0,
        }

    def verify(self, **changes: Any) -> VerifiedHost:
        """Run the real checks, with ``changes`` to the arguments."""
        return verify_host(**{**self.arguments(), **changes})
