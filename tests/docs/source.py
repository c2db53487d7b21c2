"""What reason codes the source raises, read from its syntax trees.

A finding is a call whose first two arguments are a clause and a code, or a call of a function that passes one of its
parameters on as a code (``_deviation``). A ``Finding`` or an error whose code cannot be told from the source fails the
test that asked, so that a new way of raising one cannot go by unnoticed; ``PASSED_ON`` are the places that repeat
what somebody else said.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent.parent / "src" / "watchword"
CLAUSE = re.compile(r"[A-Z][0-9]{1,2}\Z")

# module:function (or module:*) -> codes that it adds itself when the other side gave none that can be used.
PASSED_ON = {
    "agent.transport:_refused": {"refused"},
    "agent.transport:_problem": {"exchange-refused"},
    "tenant.client:_failed": {"http-status"},
    "tenant.verdict:reasons": set(),
    "tenant.split_verdict:_about": set(),  # one authority's word, with its name
    "agent.shares:_reason": set(),
    "verify.der:Der.fail": set(),  # the code of whoever reads
    "agent.tpm.errors:tpm_error": {"tpm-refused"},
    "cli.authority_remote:_error": set(),  # http-status, as tenant.client has it
    "cli.explain_input:*": set(),
}
_ERRORS = {"WatchwordError", "UsageError", "Unavailable", "MalformedError", "TpmError", "_Meaning"}
_KINDS = {"_Meaning": "TpmError"}


@dataclass(frozen=True)
class Raised:
    """A code, the clause of a finding or the class of an error, and the function (``module:name``) that raises it."""

    kind: str
    code: str
    function: str


@dataclass(frozen=True)
class _Call:
    node: ast.Call
    name: str
    module: str
    scope: tuple[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, ...]

    @property
    def function(self) -> str:
        return f"{self.module}:{'.'.join(scope.name for scope in self.scope)}"

    def argument(self, position: int, keyword: str) -> ast.expr | None:
        named = [given.value for given in self.node.keywords if given.arg == keyword]
        if named:
            return named[0]
        return self.node.args[position] if len(self.node.args) > position else None


@cache
def calls() -> tuple[_Call, ...]:
    """Every call in the package, ``testing`` left out."""
    found: list[_Call] = []
    for path in sorted(SOURCE.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        if not module.startswith("testing"):
            found += _calls(ast.parse(path.read_text()), module, ())
    return tuple(found)


def _calls(node: ast.AST, module: str, scope: tuple) -> Iterator[_Call]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        scope = (*scope, node)
    if isinstance(node, ast.Call):
        called = node.func
        name = called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
        yield _Call(node, name, module, scope)
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, module, scope)


@cache
def constants(module: str) -> dict[str, str]:
    """The texts that a module gives names to, at its top level."""
    tree = ast.parse((SOURCE / f"{module.replace('.', '/')}.py").read_text())
    named: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                targets, values = _parts(target), _parts(node.value)
                named |= {
                    each.id: _text(value)
                    for each, value in zip(targets, values, strict=False)
                    if isinstance(each, ast.Name) and _text(value)
                }
    return named


def _parts(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def findings() -> set[Raised]:
    """Every clause and code of a finding, with the functions that raise it."""
    return _collect("Finding")


def errors() -> set[Raised]:
    """Every code of an error that is no refusal; ``kind`` is the class."""
    found: set[Raised] = set()
    for name in sorted(_ERRORS):
        found |= _collect(name)
    return found


def _collect(name: str) -> set[Raised]:
    found: set[Raised] = set()
    for call in calls():
        if call.name != name:
            continue
        passed_on = PASSED_ON.get(call.function, PASSED_ON.get(f"{call.module}:*"))
        if passed_on is not None:
            if name != "Finding":
                found |= {Raised(_KINDS.get(name, name), code, call.function) for code in passed_on}
            continue
        found |= _resolve(call, name)
    return found


def _resolve(call: _Call, name: str) -> set[Raised]:
    if name == "Finding":
        kind, code = _text(call.argument(0, "clause")), call.argument(1, "code")
    elif name == "MalformedError":
        kind, code = name, call.argument(99, "code") or ast.Constant("malformed")
    else:
        kind, code = _KINDS.get(name, name), call.argument(0, "code")
    if isinstance(code, ast.Name) and code.id in constants(call.module):
        code = ast.Constant(constants(call.module)[code.id])
    if kind and _text(code):
        return {Raised(kind, _text(code), call.function)}
    assert isinstance(code, ast.Name), f"{call.function}: cannot tell which code {name} has"
    return set(_through(call, kind, code.id))


def _through(helper: _Call, kind: str, parameter: str) -> Iterator[Raised]:
    """The codes that callers of the function around ``helper`` give it, in the same module."""
    function = helper.scope[-1]
    assert not isinstance(function, ast.ClassDef)
    names = [each.arg for each in (*function.args.posonlyargs, *function.args.args) if each.arg != "self"]
    assert parameter in names, f"{helper.function}: {parameter} is no parameter"
    for call in calls():
        if call.module != helper.module or call.name != function.name:
            continue
        code = _text(call.argument(names.index(parameter), parameter))
        clause = kind or _text(call.argument(0, "clause"))
        assert all((clause, code)), f"{call.function}: cannot tell which code it gives to {function.name}"
        yield Raised(clause, code, call.function)


def _text(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
