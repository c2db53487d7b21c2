"""The list of deleted checks must fit the sources; ``bin/mutations`` runs it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from .catalogue import MUTATIONS
from .mutation import Mutation

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_every_mutation_applies(mutation: Mutation) -> None:
    source = (ROOT / "src/watchword" / mutation.file).read_text()
    mutated = mutation.apply(source)
    assert mutated != source
    ast.parse(mutated)
    for test in mutation.tests:
        assert (ROOT / test.partition("::")[0]).is_file(), test


def test_no_mutation_is_there_twice() -> None:
    keys = [(mutation.file, mutation.old, mutation.new, mutation.tests) for mutation in MUTATIONS]
    assert len(set(keys)) == len(keys)


def test_every_clause_has_one() -> None:
    clauses = {mutation.clause for mutation in MUTATIONS}
    wanted = {f"A{n}" for n in range(1, 6)} | {f"B{n}" for n in range(1, 11)} | {f"C{n}" for n in range(1, 7)}
    wanted |= {f"D{n}" for n in range(1, 7)} | {f"E{n}" for n in range(1, 6)} | {f"F{n}" for n in range(1, 6)}
    assert wanted | {"L1", "L2"} <= clauses
