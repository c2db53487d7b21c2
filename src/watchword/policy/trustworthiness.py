"""Trustworthiness vectors: what our findings mean in the words that other verifiers use too.

A vector has up to eight claims with values from -128 to 127. A value belongs to a tier by its range, and within a tier
the positive values have meanings that all verifiers share. ``MAPPING`` is the one table from our clauses and codes to
a claim and its value; ``docs/reference/ear.md`` shows it.
Source: draft-ietf-rats-ar4si (Attestation Results for Secure Interactions), "Trustworthiness Claims".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType

from watchword.errors import Finding

__all__ = ["MAPPING", "Claim", "Tier", "contradicted", "entry_for", "tier_of", "worst_tier"]


class Claim(StrEnum):
    """The claims of a vector, in the order of their numbers (0 to 7)."""

    INSTANCE_IDENTITY = "instance-identity"
    CONFIGURATION = "configuration"
    EXECUTABLES = "executables"
    FILE_SYSTEM = "file-system"
    HARDWARE = "hardware"
    RUNTIME_OPAQUE = "runtime-opaque"
    STORAGE_OPAQUE = "storage-opaque"
    SOURCED_DATA = "sourced-data"


class Tier(StrEnum):
    """How much trust a value supports. ``NONE`` says nothing, for or against."""

    NONE = "none"
    AFFIRMING = "affirming"
    WARNING = "warning"
    CONTRAINDICATED = "contraindicated"

    @property
    def number(self) -> int:
        """0, 2, 32 or 96: the higher, the worse."""
        return _NUMBERS[self]


_NUMBERS = {Tier.NONE: 0, Tier.AFFIRMING: 2, Tier.WARNING: 32, Tier.CONTRAINDICATED: 96}

# Values that all claims share.
_MALFUNCTION, _NO_CONCLUSION, _UNEXPECTED_EVIDENCE, _CRYPTOGRAPHY_FAILED = -1, 0, 1, 99
# Values of one claim. 2 affirms everywhere: recognised, approved, genuine.
_INSTANCE_UNTRUSTWORTHY, _INSTANCE_UNRECOGNISED = 96, 97
_CONFIGURATION_UNSUPPORTABLE = 96
_EXECUTABLES_UNSAFE, _EXECUTABLES_UNRECOGNISED, _EXECUTABLES_CONTRAINDICATED = 32, 33, 96
_HARDWARE_CONTRAINDICATED, _HARDWARE_UNRECOGNISED = 96, 97

_I, _C, _E, _H = Claim.INSTANCE_IDENTITY, Claim.CONFIGURATION, Claim.EXECUTABLES, Claim.HARDWARE

# A code, else its clause, else the letter of the clause. None: the finding is not about the host.
MAPPING: Mapping[str, tuple[Claim, int] | None] = MappingProxyType(
    {
        "A": (_I, _INSTANCE_UNRECOGNISED),
        "ek-revoked": (_I, _INSTANCE_UNTRUSTWORTHY),
        "A3": (_I, _INSTANCE_UNTRUSTWORTHY),
        "A5": (_I, _INSTANCE_UNTRUSTWORTHY),
        "ak-proof": (_I, _CRYPTOGRAPHY_FAILED),
        "ak-record": (_I, _MALFUNCTION),
        "B": (_I, _CRYPTOGRAPHY_FAILED),
        "B2": (_I, _UNEXPECTED_EVIDENCE),
        "B3": (_I, _UNEXPECTED_EVIDENCE),
        "B7": (_I, _UNEXPECTED_EVIDENCE),
        "B9": (_I, _INSTANCE_UNTRUSTWORTHY),
        "B10": (_H, _HARDWARE_CONTRAINDICATED),
        "purpose-unknown": None,
        "C": (_E, _CRYPTOGRAPHY_FAILED),
        "C1": (_E, _UNEXPECTED_EVIDENCE),
        "evidence-malformed": (_I, _UNEXPECTED_EVIDENCE),
        "boot-log-bank": (_E, _UNEXPECTED_EVIDENCE),
        "C5": (_E, _EXECUTABLES_CONTRAINDICATED),
        "C6": (_C, _CRYPTOGRAPHY_FAILED),
        "D": (_E, _CRYPTOGRAPHY_FAILED),
        "D1": (_E, _UNEXPECTED_EVIDENCE),
        "runtime-log-part": (_E, _UNEXPECTED_EVIDENCE),
        "D5": (_E, _EXECUTABLES_UNRECOGNISED),
        "E": (_E, _EXECUTABLES_UNRECOGNISED),
        "coverage": (_E, _NO_CONCLUSION),
        "stack-expired": (_E, _EXECUTABLES_UNSAFE),
        "stack-rolled-back": (_E, _EXECUTABLES_UNSAFE),
        "stack-revoked": (_E, _EXECUTABLES_CONTRAINDICATED),
        "known-bad": (_E, _EXECUTABLES_CONTRAINDICATED),
        "E4": (_I, _NO_CONCLUSION),
        "identity-class": (_H, _HARDWARE_UNRECOGNISED),
        "secure-boot": (_C, _CONFIGURATION_UNSUPPORTABLE),
        "secure-boot-keys": (_C, _CONFIGURATION_UNSUPPORTABLE),
        "command-line": (_C, _CONFIGURATION_UNSUPPORTABLE),
        "lockdown": (_C, _CONFIGURATION_UNSUPPORTABLE),
        "ima-policy": (_C, _CONFIGURATION_UNSUPPORTABLE),
        "profile-level": None,
        "F": None,
    }
)


def tier_of(value: int) -> Tier:
    """The tier of a claim's value (-128 to 127). Raises ValueError for any other number."""
    if not -128 <= value <= 127:
        raise ValueError(f"{value} is not the value of a trustworthiness claim")
    if -1 <= value <= 1:
        return Tier.NONE
    if -32 <= value <= 31:
        return Tier.AFFIRMING
    if -96 <= value <= 95:
        return Tier.WARNING
    return Tier.CONTRAINDICATED


def worst_tier(vector: Mapping[Claim, int]) -> Tier:
    """The tier of the claim that supports least trust; ``NONE`` when no claim says anything."""
    return max((tier_of(value) for value in vector.values()), key=lambda tier: tier.number, default=Tier.NONE)


def entry_for(finding: Finding) -> tuple[Claim, int] | None:
    """The claim and value that ``finding`` stands for, None when it is not about the host."""
    for key in (finding.code, finding.clause, finding.clause[:1]):
        if key in MAPPING:
            return MAPPING[key]
    return None


def contradicted(findings: Iterable[Finding]) -> dict[Claim, int]:
    """The claims that fatal ``findings`` contradict, each with its worst value."""
    vector: dict[Claim, int] = {}
    for finding in findings:
        entry = entry_for(finding)
        if entry is not None and finding.fatal:
            claim, value = entry
            vector[claim] = max(vector.get(claim, value), value, key=lambda v: (tier_of(v).number, v))
    return vector
