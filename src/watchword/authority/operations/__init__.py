"""Everything that people can ask an authority for: one list, for the command line on the machine and for the web.

An operation's name is the words of its command, and its place on the web: ``stack revoke``, ``/v1/admin/stack/revoke``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from watchword.authority.operations import dry_run, hosts, stacks, trust
from watchword.authority.operations.desk import Answer, Desk, Nothing, Operation, Question, find_stack, one

__all__ = ["OPERATIONS", "Answer", "Desk", "Nothing", "Operation", "Question", "find_stack", "one"]

OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {each.name: each for each in (*stacks.OPERATIONS, *trust.OPERATIONS, *hosts.OPERATIONS, *dry_run.OPERATIONS)}
)
