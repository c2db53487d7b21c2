"""Where a module refuses something, and every way to take that away: found in its syntax tree, not listed by hand."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["BOUNDARY", "KINDS", "REMOVES", "STRICTER", "Change", "changes", "mutated"]

# What a change does. The first four remove a check, so a test must notice; the others are counted.
REMOVES = ("removed", "operand", "finish", "call")
STRICTER, BOUNDARY = "stricter", "boundary"
KINDS = (*REMOVES, STRICTER, BOUNDARY)

_REFUSAL = re.compile(r"Finding|fail|_?(rejected|refused|refusal|malformed|mismatch|bad|finding)")
_CHECK = re.compile(r"_?(check|verify|require|expect|refuse|ensure|same|only)(_\w+)?")
_MOVED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}


@dataclass(frozen=True)
class Change:
    """One change: in ``function``, at ``line``, of ``text``; ``apply`` carries it out on the tree it was found in."""

    kind: str
    function: str
    line: int
    text: str
    apply: Callable[[], None]


def changes(tree: ast.Module) -> list[Change]:
    """All changes, always in the same order for the same source."""
    return list(_block(tree, ""))


def mutated(source: str, number: int) -> ast.Module:
    """The tree of ``source`` with the change ``number`` of :func:`changes` made; with -1, unchanged."""
    tree = ast.parse(source)
    if number >= 0:
        changes(tree)[number].apply()
    return ast.fix_missing_locations(tree)


def _block(node: ast.AST, where: str) -> Iterator[Change]:
    """Changes below ``node``, which is in the function or class ``where``."""
    for field, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        for at, child in enumerate(children):
            if not isinstance(child, ast.AST):
                continue
            inside = where
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inside = f"{where}.{child.name}".lstrip(".")
            if inside:
                following = children[at + 1] if at + 1 < len(children) else None
                put = _putter(node, field, at if isinstance(value, list) else None)
                yield from _here(child, following, put, inside)
            yield from _block(child, inside)


def _here(node: ast.AST, following: ast.AST | None, put: Callable[[ast.AST], None], where: str) -> Iterator[Change]:
    """Changes of ``node`` itself, which ``following`` comes after and ``put`` replaces."""
    if isinstance(node, ast.If):
        refuses = _refuses(node.body)
        if refuses or _refuses(node.orelse) or (_leaves(node.body) and isinstance(following, ast.Raise)):
            yield from _condition(node, node.test, where, refuses=refuses)
    elif isinstance(node, ast.IfExp) and _says_no(node.body) != _says_no(node.orelse):
        yield from _condition(node, node.test, where, refuses=_says_no(node.body))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        name = _name(node.value)
        if name == "finish" or _CHECK.fullmatch(name):
            kind = "finish" if name == "finish" else "call"
            yield Change(kind, where, node.lineno, ast.unparse(node), lambda: put(ast.Pass()))
    elif isinstance(node, ast.Call) and _name(node) == "parse_whole" and len(node.args) == 3:
        yield Change("finish", where, node.lineno, ast.unparse(node), lambda: put(_without_end(node)))
    elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp) and _says_no(node.elt):
        for clause in node.generators:
            for test in list(clause.ifs):
                yield from _condition(clause, test, where, refuses=True)


def _condition(owner: ast.AST, test: ast.expr, where: str, *, refuses: bool) -> Iterator[Change]:
    """The whole condition, each of its operands, each of its bounds. ``refuses``: when it is true, not when false."""
    whole = ast.unparse(test)
    root = _slot(owner, test)
    yield Change("removed", where, test.lineno, whole, lambda: root(ast.Constant(not refuses)))
    yield from _operands(test, root, where, whole, refuses)


def _operands(
    test: ast.expr, put: Callable[[ast.AST], None], where: str, whole: str, refuses: bool
) -> Iterator[Change]:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        yield from _operands(test.operand, _putter(test, "operand", None), where, whole, not refuses)
    elif isinstance(test, ast.BoolOp):
        kind = "operand" if isinstance(test.op, ast.Or) is refuses else STRICTER
        for operand in test.values:
            rest = [value for value in test.values if value is not operand]
            new = rest[0] if len(rest) == 1 else ast.BoolOp(test.op, rest)
            yield _without(kind, where, whole, operand, new, put)
        for at, operand in enumerate(test.values):
            yield from _operands(operand, _putter(test, "values", at), where, whole, refuses)
    elif isinstance(test, ast.Compare):
        yield from _bounds(test, put, where, whole, refuses)


def _bounds(
    test: ast.Compare, put: Callable[[ast.AST], None], where: str, whole: str, refuses: bool
) -> Iterator[Change]:
    parts = [test.left, *test.comparators]
    if len(test.ops) == 2:  # a <= b <= c is two comparisons, joined by "and"
        for at in (0, 1):
            other = ast.Compare(parts[1 - at], [test.ops[1 - at]], [parts[2 - at]])
            gone = ast.Compare(parts[at], [test.ops[at]], [parts[at + 1]])
            gone.lineno = test.lineno
            yield _without(STRICTER if refuses else "operand", where, whole, gone, other, put)
    for at, op in enumerate(test.ops):
        if moved := _MOVED.get(type(op)):
            ops = [*test.ops[:at], moved(), *test.ops[at + 1 :]]
            new = ast.Compare(test.left, ops, test.comparators)
            text = f"{whole} -> {ast.unparse(new)}"
            yield Change(BOUNDARY, where, test.lineno, text, lambda new=new: put(new))  # type: ignore[misc]


def _without(
    kind: str, where: str, whole: str, gone: ast.expr, new: ast.expr, put: Callable[[ast.AST], None]
) -> Change:
    return Change(kind, where, gone.lineno, f"{whole} without {ast.unparse(gone)}", lambda: put(new))


def _without_end(call: ast.Call) -> ast.expr:
    """``parse_whole`` that accepts trailing bytes."""
    reader = ast.parse('__import__("watchword.wire.reader", fromlist=["Reader"]).Reader', mode="eval").body
    return ast.Call(call.args[2], [ast.Call(reader, call.args[:2], [])], [])


def _refuses(body: Sequence[ast.stmt]) -> bool:
    """Whether this block ends in an error, a finding or False. An ``elif`` speaks for itself."""
    if not body:
        return False
    last = body[-1]
    if isinstance(last, ast.Raise):
        return True
    if not isinstance(last, ast.Return | ast.Expr) or last.value is None:
        return False
    return _says_no(last.value) or (isinstance(last.value, ast.Constant) and last.value.value is False)


def _leaves(body: Sequence[ast.stmt]) -> bool:
    return isinstance(body[-1], ast.Return | ast.Continue | ast.Break)


def _says_no(expression: ast.AST) -> bool:
    return any(isinstance(each, ast.Call) and _REFUSAL.fullmatch(_name(each)) for each in ast.walk(expression))


def _name(call: ast.Call) -> str:
    """The last part of the name of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _putter(owner: ast.AST, field: str, at: int | None) -> Callable[[ast.AST], None]:
    def put(new: ast.AST) -> None:
        if at is None:
            setattr(owner, field, new)
        else:
            getattr(owner, field)[at] = new

    return put


def _slot(owner: ast.AST, child: ast.AST) -> Callable[[ast.AST], None]:
    """What replaces ``child`` in ``owner``."""
    for field, value in ast.iter_fields(owner):
        if value is child:
            return _putter(owner, field, None)
        if isinstance(value, list) and any(each is child for each in value):
            return _putter(owner, field, next(at for at, each in enumerate(value) if each is child))
    raise AssertionError(f"{ast.unparse(child)} is not there")
