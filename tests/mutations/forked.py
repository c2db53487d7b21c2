"""Runs the tests against many mutants in one process: collected once, forked for each, the functions' code replaced.

Started by ``every`` with a copy of the sources in PYTHONPATH: ``python -m tests.mutations.forked COPY SECONDS FILE…
[--TESTS…]``.
It writes one line of JSON for each mutant. Tests run once without any mutation first, to see that they pass and which
functions each of them calls: a mutant is tried on the tests that call the mutated function, nearest first.
"""

from __future__ import annotations

import ast
import gc
import json
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType

import pytest
from _pytest.main import pytest_runtestloop as run_tests

from .sites import changes, mutated

# Where a mutant of wire, verify or policy may be noticed. Tests that start programs are left out.
TESTS = ("tests/wire", "tests/verify", "tests/policy", "tests/crypto", "tests/launch", "tests/attacks")
_FAR = 60  # how many tests of other folders are tried at most, evenly spread
_CAUGHT, _SURVIVED, _NOT_APPLIED = 1, 0, 3


class Forked:
    """The pytest plugin that takes the place of the loop over the tests."""

    def __init__(self, source: Path, seconds: int, files: Sequence[str], report: Callable[[object], None]) -> None:
        self._source, self._seconds, self._files, self._report = source / "watchword", seconds, files, report
        self._callers: dict[str, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))

    def pytest_sessionstart(self) -> None:
        """Few examples, always the same ones, and no file."""
        import hypothesis  # its own plugin wants to be there first

        hypothesis.settings.register_profile("mutations", max_examples=20, database=None, derandomize=True)
        hypothesis.settings.load_profile("mutations")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try all mutants. True: the tests have been run."""
        items = list(session.items)
        self._watch(session)
        if session.testsfailed:
            return True
        for file in self._files:
            functions = list(_functions(str(self._source / file)))
            text = (self._source / file).read_text()
            found = changes(ast.parse(text))
            if not self._still_pass(session, items, file, text, functions):
                self._report({"file": file, "problem": "the tests fail with code that was compiled anew"})
                continue
            for number, change in enumerate(found):
                start = time.monotonic()
                near = self._tests(items, file, change.line)
                status = self._try(session, near, file, mutated(text, number), functions)
                row = {"file": file, "number": number, "status": status, "tests": len(near)}
                self._report({**row, "seconds": round(time.monotonic() - start, 2)})
        return True

    def _watch(self, session: pytest.Session) -> None:
        """Run every test as it is and note who calls which line of which file."""
        prefix = str(self._source) + os.sep
        current = -1

        def profile(frame: FrameType, event: str, _: object) -> None:
            code = frame.f_code
            if event == "call" and code.co_filename.startswith(prefix):
                self._callers[code.co_filename[len(prefix) :]][code.co_firstlineno].add(current)

        class Current:
            @pytest.hookimpl(tryfirst=True)
            def pytest_runtest_protocol(self, item: pytest.Item) -> None:
                nonlocal current
                current = session.items.index(item)

        session.config.pluginmanager.register(Current(), "watchword-current")
        sys.setprofile(profile)
        try:
            run_tests(session)
        except session.Failed:
            pass
        finally:
            sys.setprofile(None)
            session.config.pluginmanager.unregister(name="watchword-current")

    def _tests(self, items: list[pytest.Item], file: str, line: int) -> list[pytest.Item]:
        """The tests that call the function around ``line``: those of the same name first, then the same folder."""
        lines = _around(self._source / file, line)
        called = self._callers[file]
        chosen = {at for first in called if first in lines for at in called[first]} - {-1}
        folder, stem = Path("tests") / Path(file).parent, Path(file).stem

        def distance(at: int) -> tuple[int, int]:
            path = items[at].path.relative_to(items[at].config.rootpath)
            return (0 if path.parent == folder and stem in path.stem else 1 if path.parent == folder else 2), at

        near = sorted((at for at in chosen if distance(at)[0] < 2), key=distance)
        far = sorted(chosen.difference(near))
        return [items[at] for at in (*near, *far[:: len(far) // _FAR + 1])]

    def _still_pass(
        self, session: pytest.Session, items: list[pytest.Item], file: str, text: str, functions: list[FunctionType]
    ) -> bool:
        called = sorted({at for tests in self._callers[file].values() for at in tests} - {-1})
        some = [items[at] for at in called[:200]]
        return self._try(session, some, file, mutated(text, -1), functions, 20 * self._seconds) == "survived"

    def _try(
        self,
        session: pytest.Session,
        items: list[pytest.Item],
        file: str,
        tree: ast.Module,
        functions: list[FunctionType],
        seconds: int = 0,
    ) -> str:
        """Run ``items`` in a child in which ``functions`` have the code of ``tree``."""
        code = compile(tree, str(self._source / file), "exec", dont_inherit=True)
        child = os.fork()
        if child == 0:
            # The default action of SIGALRM ends the child: a mutant that hangs is not a mutant that was caught.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(seconds or self._seconds)
            try:
                os._exit(_child(session, items, functions, code))
            finally:
                os._exit(_NOT_APPLIED + 1)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            return "too slow" if os.WTERMSIG(status) == signal.SIGALRM else f"signal {os.WTERMSIG(status)}"
        words = {_CAUGHT: "caught", _SURVIVED: "survived", _NOT_APPLIED: "not applied"}
        return words.get(os.WEXITSTATUS(status), "broken")


def _child(session: pytest.Session, items: list[pytest.Item], functions: list[FunctionType], code: CodeType) -> int:
    new = {(each.co_qualname, each.co_firstlineno): each for each in _codes(code)}
    for function in functions:
        old = function.__code__
        replacement = new.get((old.co_qualname, old.co_firstlineno))
        if replacement is None or replacement.co_freevars != old.co_freevars:
            return _NOT_APPLIED
        function.__code__ = replacement
    session.items[:] = items
    session.testsfailed, session.testscollected, session.shouldfail = 0, len(items), False
    try:
        run_tests(session)
    except session.Failed:
        pass
    return _CAUGHT if session.testsfailed else _SURVIVED


def _functions(path: str) -> Iterator[FunctionType]:
    """All functions that were made from the file at ``path``; who imported them has the very same objects."""
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and each.__code__.co_filename == path:
            yield each


def _codes(code: CodeType) -> Iterator[CodeType]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from _codes(each)


def _around(path: Path, line: int) -> range:
    """The lines of the smallest function around ``line``, decorators included."""
    best = range(0)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.lineno <= line <= (node.end_lineno or 0):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            lines = range(first, (node.end_lineno or 0) + 1)
            best = lines if not best or len(lines) < len(best) else best
    return best


def main(source: Path, seconds: int, files: Sequence[str]) -> int:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what pytest prints is not the report
    import watchword

    if not str(watchword.__file__).startswith(f"{source}{os.sep}"):
        print("the copy is not what is imported", file=sys.stderr)
        return 2

    def report(row: object) -> None:
        print(json.dumps(row), file=out, flush=True)

    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not vm and not slow"]
    tests = [each.removeprefix("--") for each in files if each.startswith("--")]
    files = [each for each in files if not each.startswith("--")]
    return int(pytest.main([*options, *(tests or TESTS)], plugins=[Forked(source, seconds, files, report)]))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
