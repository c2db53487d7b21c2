"""All deleted checks, in the order of the clauses."""

from __future__ import annotations

from . import decision, identity, logs, openstack, quote
from .mutation import Mutation

__all__ = ["MUTATIONS"]

MUTATIONS: tuple[Mutation, ...] = (
    *identity.MUTATIONS,
    *quote.MUTATIONS,
    *logs.MUTATIONS,
    *decision.MUTATIONS,
    *openstack.MUTATIONS,
)
