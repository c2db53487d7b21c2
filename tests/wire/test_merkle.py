"""The tree against its definition, and against other people's proofs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import ROOT

from watchword.errors import MalformedError
from watchword.wire import merkle
from watchword.wire.merkle import Frontier, leaf_hash, node_hash

VECTORS = ROOT.parent / "shared" / "corpus" / "transparency-dev+merkle"
ROOT_HASH = bytes(32)
LEAVES = [leaf_hash(bytes([number])) for number in range(70)]


def definition(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162, section 2.1.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    middle = 1
    while middle * 2 < len(leaves):
        middle *= 2
    return node_hash(definition(leaves[:middle]), definition(leaves[middle:]))


def subtree(level: int, index: int) -> bytes:
    return definition(LEAVES[index << level : (index + 1) << level])


def grown(size: int) -> Frontier:
    tree = Frontier()
    for leaf in LEAVES[:size]:
        tree, _ = tree.append(leaf)
    return tree


@pytest.mark.parametrize("size", range(len(LEAVES)))
def test_the_root_is_that_of_the_definition(size: int) -> None:
    tree = grown(size)
    assert tree.root() == definition(LEAVES[:size])
    assert Frontier.parse(size, tree.encode()) == tree


def test_appending_tells_which_subtrees_it_completes() -> None:
    tree, told = Frontier(), {}
    for leaf in LEAVES[:64]:
        tree, completed = tree.append(leaf)
        told |= {(level, index): hashed for level, index, hashed in completed}
    assert told == {(level, index): subtree(level, index) for level in range(1, 7) for index in range(64 >> level)}


@given(st.integers(1, len(LEAVES)), st.data())
def test_a_proof_leads_to_the_root_and_no_other_proof_does(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(index, size, subtree)
    root = definition(LEAVES[:size])
    assert merkle.inclusion_root(index, size, LEAVES[index], proof) == root
    for number in range(len(proof)):
        other = [*proof[:number], bytes(32), *proof[number + 1 :]]
        assert merkle.inclusion_root(index, size, LEAVES[index], other) != root
    for wrong in (proof[:-1], [*proof, bytes(32)]) if proof else ([bytes(32)],):
        with pytest.raises(MalformedError):
            merkle.inclusion_root(index, size, LEAVES[index], wrong)


@given(st.integers(1, len(LEAVES)), st.data())
def test_an_older_log_is_proven_to_be_the_beginning(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size))
    proof = merkle.consistency_proof(old, size, subtree)
    roots = definition(LEAVES[:old]), definition(LEAVES[:size])
    assert merkle.consistency_roots(old, size, roots[0], proof) == roots
    for wrong in (proof[:-1], [*proof, bytes(32)]) if proof else ([bytes(32)],):
        with pytest.raises(MalformedError):
            merkle.consistency_roots(old, size, roots[0], wrong)


@pytest.mark.parametrize(
    ("size", "hashes"),
    [(-1, ()), (-1, (ROOT_HASH,)), (1, ()), (2, (ROOT_HASH, ROOT_HASH)), (merkle.MAX_SIZE + 1, (ROOT_HASH,) * 2)],
)
def test_a_frontier_that_cannot_be_is_malformed(size: int, hashes: tuple[bytes, ...]) -> None:
    with pytest.raises(MalformedError):
        Frontier(size, hashes)


@pytest.mark.parametrize(("old", "size"), [(2, 1), (merkle.MAX_SIZE, merkle.MAX_SIZE + 1), (0, 1), (-1, 1)])
@pytest.mark.parametrize("length", range(4))
def test_no_log_grows_out_of_a_longer_one_or_of_nothing(old: int, size: int, length: int) -> None:
    with pytest.raises(MalformedError, match="does not grow out of"):
        merkle.consistency_roots(old, size, ROOT_HASH, [ROOT_HASH] * length)


@pytest.mark.parametrize(("index", "size"), [(1, 1), (-1, 1), (0, 0), (0, merkle.MAX_SIZE + 1)])
@pytest.mark.parametrize("length", range(4))
def test_there_is_no_such_leaf(index: int, size: int, length: int) -> None:
    with pytest.raises(MalformedError, match="there is no leaf"):
        merkle.inclusion_root(index, size, ROOT_HASH, [ROOT_HASH] * length)


def test_a_proof_is_made_of_hashes() -> None:
    for leaf, proof in ((bytes(31), [ROOT_HASH]), (ROOT_HASH, [bytes(33)])):
        with pytest.raises(MalformedError, match="does not have 32 bytes"):
            merkle.inclusion_root(0, 2, leaf, proof)
        with pytest.raises(MalformedError, match="does not have 32 bytes"):
            merkle.consistency_roots(1, 2, leaf, proof)


def test_a_frontier_of_half_a_hash_is_malformed() -> None:
    with pytest.raises(MalformedError):
        Frontier.parse(1, bytes(31))


def cases(kind: str) -> list[Path]:
    return sorted((VECTORS / "merkle" / kind).rglob("*.json"))


def raw(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def accepts(vector: dict[str, Any]) -> bool:
    proof = [raw(each) for each in vector["proof"] or []]
    try:
        if "leafIdx" in vector:
            leaf, size = raw(vector["leafHash"]), vector["treeSize"]
            return merkle.inclusion_root(vector["leafIdx"], size, leaf, proof) == raw(vector["root"])
        old, new = raw(vector["root1"]), raw(vector["root2"])
        return merkle.consistency_roots(vector["size1"], vector["size2"], old, proof) == (old, new)
    except MalformedError:
        return False


@pytest.mark.parametrize("kind", ["inclusion", "consistency"])
def test_other_peoples_proofs(kind: str) -> None:
    if not VECTORS.is_dir():
        pytest.skip("the shared corpus (../shared/corpus) is not here")
    results = {}
    for path in cases(kind):
        vector = json.loads(path.read_text())
        results[str(path.relative_to(VECTORS))] = (accepts(vector), not vector["wantErr"])
    assert len(results) > 40
    assert {name: got for name, (got, wanted) in results.items() if got != wanted} == {}
    assert any(wanted for _, wanted in results.values())


def test_other_peoples_ranges() -> None:
    """Inputs of a foreign fuzzer: what two sizes of a log say about each other."""
    if not VECTORS.is_dir():
        pytest.skip("the shared corpus (../shared/corpus) is not here")
    found = 0
    for path in sorted((VECTORS / "fuzz").rglob("*")):
        numbers = [int(each) for each in re.findall(r"uint64\((\d+)\)", path.read_text())] if path.is_file() else []
        if len(numbers) == 2 and 0 < numbers[0] <= numbers[1] <= len(LEAVES):
            proof = merkle.consistency_proof(*numbers, subtree)
            old, new = (definition(LEAVES[:size]) for size in numbers)
            assert merkle.consistency_roots(*numbers, old, proof) == (old, new)
            found += 1
    assert found
