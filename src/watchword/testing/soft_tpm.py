"""A TPM in a few lines of software, for tests that need a verified quote and no process.

The cryptography is real: real keys, real TPMS_ATTEST structures, real signatures. Only the protection that makes a
TPM a TPM is missing, so it can lie: every argument of :meth:`SoftTpm.quote` may be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from watchword.verify.ak import VerifiedAk, restore_ak
from watchword.verify.ek import EkClass, host_id
from watchword.verify.quote import VerifiedPcrs, verify_quote
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.attest import GENERATED_VALUE, ST_ATTEST_QUOTE, Attest, ClockInfo, QuoteInfo
from watchword.wire.tpm.pcr import PcrSelection, Selections, pcr_digest
from watchword.wire.tpm.public import Public
from watchword.wire.tpm.schemes import EccPoint
from watchword.wire.tpm.signature import Signature
from watchword.wire.tpm.templates import AK_TEMPLATE, EkKind, ek_template

__all__ = ["SoftTpm"]

_CLOCK = ClockInfo(clock=60_000, reset_count=1, restart_count=0, safe=True)


@dataclass(frozen=True, slots=True)
class SoftTpm:
    """An EK and an AK on P-256, and the identity that an authority would have on file for them."""

    ak_key: ec.EllipticCurvePrivateKey
    ek: Public
    ak: VerifiedAk

    @classmethod
    def create(cls, ek_class: EkClass = EkClass.VIRTUAL) -> SoftTpm:
        """A new TPM of the given class."""
        ak_key = ec.generate_private_key(ec.SECP256R1())
        ek = ek_template(EkKind.P256, _point(ec.generate_private_key(ec.SECP256R1())))
        ak = replace(AK_TEMPLATE, unique=_point(ak_key))
        return cls(ak_key, ek, restore_ak(host_id(ek), ek.encode(), ak.encode(), ek_class))

    def quote(
        self,
        selections: Selections,
        values: Mapping[Alg, Mapping[int, bytes]],
        binding: bytes,
        clock: ClockInfo = _CLOCK,
        firmware: int = 1,
    ) -> tuple[bytes, bytes]:
        """TPMS_ATTEST and TPMT_SIGNATURE over ``values`` with ``binding`` as extraData."""
        info = QuoteInfo(selections, pcr_digest(Alg.SHA256, selections, values))
        attest = Attest(GENERATED_VALUE, ST_ATTEST_QUOTE, b"\0", binding, clock, firmware, info).encode()
        r, s = decode_dss_signature(self.ak_key.sign(attest, ec.ECDSA(hashes.SHA256())))
        signature = Signature(Alg.ECDSA, Alg.SHA256, r=r.to_bytes(32, "big"), s=s.to_bytes(32, "big"))
        return attest, signature.encode()

    def verified_pcrs(self, bank: Alg, values: Mapping[int, bytes]) -> VerifiedPcrs:
        """These PCR values, quoted and verified by the real check."""
        selections = (PcrSelection(bank, tuple(sorted(values))),)
        attest, signature = self.quote(selections, {bank: values}, bytes(32))
        return verify_quote(
            attest=attest,
            signature=signature,
            pcrs={bank: values},
            ak=self.ak,
            binding=bytes(32),
            selections=selections,
            last=None,
        )


def _point(key: ec.EllipticCurvePrivateKey) -> EccPoint:
    numbers = key.public_key().public_numbers()
    return EccPoint(numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big"))
