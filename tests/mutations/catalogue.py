"""All deleted checks, in the order of the clauses."""

from __future__ import annotations

from . import decision, identity, keys, logs, openstack, quote, shares, stacks
from .mutation import Mutation

__all__ = ["MUTATIONS"]

MUTATIONS: tuple[Mutation, ...] = tuple(
    mutation
    for table in (identity, quote, logs, decision, shares, stacks, openstack, keys)
    for mutation in table.MUTATIONS
)
