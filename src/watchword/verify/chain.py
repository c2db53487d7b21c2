"""From a certificate to a trust anchor: RFC 5280 clause 6, as far as makers of TPMs use it, and stricter.

Every certificate on the way must be valid at the given time and must be allowed to issue the one below. What makers
do not use (constraints on names and policies, critical extensions that we do not know) is refused, not skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from watchword.errors import Finding, MalformedError, Rejected
from watchword.verify.certificate import MAX_CHAIN, Certificate, issuer_text, subject_text
from watchword.verify.certificate_key import RSAES_OAEP, key_weakness, signature_fault
from watchword.verify.distinguished_name import same_name
from watchword.verify.extensions import EKU_ANY, EKU_EK_CERTIFICATE, KeyUsage

__all__ = ["MAX_DEPTH", "find_chain", "issuer_fault"]

MAX_DEPTH: Final = 4  # intermediates between an EK and its anchor; makers use one to three

Chain = tuple[Certificate, ...]


def find_chain(
    leaf: Certificate, intermediates: Sequence[Certificate], anchors: Sequence[Certificate], now: int
) -> Chain:
    """A chain from ``leaf`` over at most 4 of ``intermediates`` (at most 8) to one of ``anchors`` (included).

    ``now`` is Unix seconds. An anchor's own signature says nothing and is not looked at. Raises MalformedError for too
    many intermediates, Rejected (ek-chain) with the reason of one of the longest attempts.
    """
    if len(intermediates) > MAX_CHAIN:
        raise MalformedError(f"{len(intermediates)} intermediate certificates; {MAX_CHAIN} are allowed")
    fault = _leaf_fault(leaf, now)
    search = _Search(tuple(anchors), tuple(intermediates), now, fault or "nobody of that name is known")
    chain = None if fault else search.run(leaf)
    if chain is None:
        raise Rejected(
            Finding(
                "A1",
                "ek-chain",
                "the certificate does not lead to a trust anchor" if anchors else "there are no trust anchors",
                expected=f"one of {len(anchors)} anchors",
                actual=f"issuer {issuer_text(leaf)}: {search.fault}",
            )
        )
    return chain


@dataclass(slots=True)
class _Search:
    """A search in breadth: each certificate is continued once, by its shortest way, which no path length forbids.

    So its cost is bounded by the number of pairs of certificates, whatever certificates a host sends. ``fault`` is the
    last reason met, and so one of those farthest from the EK.
    """

    anchors: Chain
    intermediates: Chain
    now: int
    fault: str

    def run(self, leaf: Certificate) -> Chain | None:
        """A chain from ``leaf`` to an anchor, or None."""
        queue: list[Chain] = [(leaf,)]
        seen = {leaf.der}
        for chain in queue:
            for issuer in self._issuers(self.anchors, chain):
                return (*chain, issuer)
            if len(chain) <= MAX_DEPTH:
                for issuer in self._issuers(self.intermediates, chain):
                    if issuer.der not in seen:
                        seen.add(issuer.der)
                        queue.append((*chain, issuer))
        return None

    def _issuers(self, candidates: Chain, chain: Chain) -> Iterator[Certificate]:
        for issuer in candidates:
            if same_name(issuer.subject, chain[-1].issuer):
                fault = self._fault(issuer, chain)
                if not fault:
                    yield issuer
                else:
                    self.fault = fault

    def _fault(self, issuer: Certificate, chain: Chain) -> str:
        fault = issuer_fault(issuer, self.now, below=len(chain) - 1)
        if fault:
            return f"{subject_text(issuer)}: {fault}"
        below = chain[-1]
        return signature_fault(below.algorithm, below.signed, below.signature, issuer.key)


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
