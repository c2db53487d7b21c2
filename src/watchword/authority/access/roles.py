"""Roles, who a caller is, and the one table of what each role may do.

The table below is the one in ``docs/howto/people-and-roles.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

__all__ = ["PERMISSIONS", "Caller", "How", "Role"]


class Role(StrEnum):
    """What somebody is to this authority."""

    AUDITOR = "auditor"  # decides what is believed and what is good
    ENDORSER = "endorser"  # hands in releases and signatures
    OPERATOR = "operator"  # keeps the service and the fleet going
    TENANT = "tenant"  # uses it
    READ_ONLY = "read-only"  # sees everything, changes nothing


class How(StrEnum):
    """How somebody proved who they are."""

    CERTIFICATE = "certificate"
    TOKEN = "token"  # noqa: S105 - a kind, not a secret


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who proved to be ``name``; without a role there is nothing that they may do."""

    name: str
    roles: frozenset[Role]
    how: How

    @property
    def actor(self) -> str:
        """What the record calls them, "certificate:alice": a remote name cannot look like a local one."""
        return f"{self.how}:{self.name}"


_A, _E, _O, _T, _R = Role.AUDITOR, Role.ENDORSER, Role.OPERATOR, Role.TENANT, Role.READ_ONLY
_READERS: Final = frozenset({_A, _O, _R})

PERMISSIONS: Final[Mapping[str, frozenset[Role]]] = MappingProxyType(
    {
        # reading
        "read-catalogue": frozenset(Role),  # stacks (drafts too) and profiles
        "read-trust": _READERS | {_E},  # anchors, revocation lists, pinned EKs, endorsers, rules
        "read-hosts": _READERS,
        "read-record": _READERS,
        "dry-run": frozenset({_A, _O}),
        # what hosts may run
        "stack-draft": frozenset({_A, _E}),
        "stack-activate": frozenset({_A}),
        "stack-retire": frozenset({_A, _O}),
        "stack-revoke": frozenset({_A, _O}),
        "stack-rule": frozenset({_A}),
        "endorser": frozenset({_A}),
        "profile-add": frozenset({_A, _O, _T}),
        "profile-remove": frozenset({_A, _O}),
        # whose TPMs are believed
        "anchor": frozenset({_A}),
        # hosts
        "host-revoke": frozenset({_A, _O}),
        "host-accept": frozenset({_A}),
        "watch": frozenset({_A, _O}),
    }
)
