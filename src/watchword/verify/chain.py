"""From a certificate to a trust anchor: RFC 5280 clause 6, as far as makers of TPMs use it, and stricter.

Every certificate on the way must be valid at the given time and must be allowed to issue the one below. What makers
do not use (constraints on names and policies, critical extensions that we do not know) is refused, not skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from watchword.errors import Finding, MalformedError, Rejected
from watchword.verify.certificate import MAX_CHAIN, Certificate, issuer_text, subject_text
from watchword.verify.certificate_key import RSAES_OAEP, key_weakness, signature_fault
from watchword.verify.extensions import EKU_ANY, EKU_EK_CERTIFICATE, KeyUsage

__all__ = ["MAX_DEPTH", "find_chain", "issuer_fault"]

MAX_DEPTH: Final = 4  # intermediates between an EK and its anchor; makers use one to three

Chain = tuple[Certificate, ...]


def find_chain(
    leaf: Certificate, intermediates: Sequence[Certificate], anchors: Sequence[Certificate], now: int
) -> Chain:
    """A chain from ``leaf`` over at most 4 of ``intermediates`` (at most 8) to one of ``anchors`` (included).

    Names are compared by their bytes; ``now`` is Unix seconds. An anchor's own signature says nothing and is not looked
    at. Raises MalformedError for too many intermediates, Rejected (ek-chain) with the reason of the longest attempt.
    """
    if len(intermediates) > MAX_CHAIN:
        raise MalformedError(f"{len(intermediates)} intermediate certificates; {MAX_CHAIN} are allowed")
    search = _Search(tuple(anchors), tuple(intermediates), now)
    fault = _leaf_fault(leaf, now)
    chain = None if fault else search.upwards((leaf,))
    if chain is None:
        actual = fault or search.fault or "nobody of that name is known"
        raise Rejected(
            Finding(
                "A1",
                "ek-chain",
                "the certificate does not lead to a trust anchor" if anchors else "there are no trust anchors",
                expected=f"one of {len(anchors)} anchors",
                actual=f"issuer {issuer_text(leaf)}: {actual}",
            )
        )
    return chain


@dataclass(slots=True)
class _Search:
    """A search in depth. Every signature is checked once at most, so the cost is bounded by the number of pairs."""

    anchors: Chain
    intermediates: Chain
    now: int
    fault: str = ""
    _fault_depth: int = 0
    _signatures: dict[tuple[bytes, bytes], str] = field(default_factory=dict)

    def upwards(self, chain: Chain) -> Chain | None:
        """``chain`` continued to an anchor, or None."""
        for issuer in self._named(self.anchors, chain):
            if self._issues(issuer, chain):
                return (*chain, issuer)
        if len(chain) > MAX_DEPTH:
            return None
        for issuer in self._named(self.intermediates, chain):
            if issuer.der not in {each.der for each in chain} and self._issues(issuer, chain):
                found = self.upwards((*chain, issuer))
                if found is not None:
                    return found
        return None

    def _named(self, candidates: Chain, chain: Chain) -> Iterator[Certificate]:
        return (each for each in candidates if each.subject == chain[-1].issuer)

    def _issues(self, issuer: Certificate, chain: Chain) -> bool:
        fault = issuer_fault(issuer, self.now, below=len(chain) - 1)
        if fault:
            fault = f"{subject_text(issuer)}: {fault}"
        else:
            fault = self._signature_fault(chain[-1], issuer)
        if fault and len(chain) >= self._fault_depth:
            self.fault, self._fault_depth = fault, len(chain)
        return not fault

    def _signature_fault(self, certificate: Certificate, issuer: Certificate) -> str:
        pair = certificate.der, issuer.der
        if pair not in self._signatures:
            self._signatures[pair] = signature_fault(
                certificate.algorithm, certificate.signed, certificate.signature, issuer.key
            )
        return self._signatures[pair]


def _time_fault(certificate: Certificate, now: int) -> str:
    if now < certificate.not_before:
        return "it is not valid yet"
    return "it has expired" if now > certificate.not_after else ""


def _extension_fault(certificate: Certificate) -> str:
    if certificate.extensions.unknown:
        return f"it has a critical extension that is not understood: {certificate.extensions.unknown[0]}"
    return "it constrains names or policies" if certificate.extensions.constrained else ""


def _leaf_fault(leaf: Certificate, now: int) -> str:
    return _time_fault(leaf, now) or _extension_fault(leaf)


def issuer_fault(issuer: Certificate, now: int | None, below: int = 0) -> str:
    """Why ``issuer`` may not certify endorsement keys, or an empty string.

    ``below`` counts the authorities between it and the EK; with ``now`` None the time is not looked at.
    """
    extensions = issuer.extensions
    if not extensions.is_ca:
        return "it is no certificate authority"
    if extensions.usage is None or KeyUsage.KEY_CERT_SIGN not in extensions.usage:
        return "it may not sign certificates"
    if extensions.path_length is not None and below > extensions.path_length:
        return f"it allows {extensions.path_length} authorities below it"
    if extensions.purposes is not None and not {EKU_EK_CERTIFICATE, EKU_ANY} & set(extensions.purposes):
        return "it is not for certificates of endorsement keys"
    if issuer.key_type == RSAES_OAEP:
        return "its key is not for signatures"
    time_fault = "" if now is None else _time_fault(issuer, now)
    return time_fault or _extension_fault(issuer) or key_weakness(issuer.key)
