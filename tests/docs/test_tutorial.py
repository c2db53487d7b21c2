"""The tutorials are run as they are written: every command, in order, and what it shows.

A ``console`` block holds commands (``$ ``) and what they print; ``…`` stands for any text. The lines shown must appear
in that order; others may stand between them. A comment before a block says more: ``stays: NAME`` is a command in a
terminal of its own that keeps running (and replaces the one of that name), ``file: NAME`` a file to save.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.conftest import ROOT

TUTORIALS = ROOT / "docs" / "tutorial"
FIRST, FLEET = "first-launch", "built-image-to-trusted-fleet"
FOLDERS = {FIRST: "first-launch", FLEET: "fleet"}
STAYING = {FIRST: 4, FLEET: 5}
_BLOCK = re.compile(r"(?:<!-- (stays|file): (\S+) -->\n)?```(console|json|toml)\n(.*?)```\n", re.DOTALL)
_FINGERPRINT = re.compile(r"^fingerprint  (SHA256:\S+)$", re.MULTILINE)
_PORTS = ("8443", "8500")
_SECONDS = 240


@dataclass(frozen=True)
class Step:
    """One command and the lines that it shows; or a file and its content."""

    kind: str  # "", "stays" or "file"
    name: str
    text: str
    shown: tuple[str, ...] = ()


def steps(page: str) -> Iterator[Step]:
    for kind, name, language, body in _BLOCK.findall(page):
        if language != "console":
            assert kind == "file", f"a {language} block without the name of its file"
            yield Step(kind, name, body)
            continue
        for command in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            first, *shown = command.splitlines()
            yield Step(kind, name, first, tuple(shown))


def shows(shown: tuple[str, ...], text: str) -> bool:
    """Whether ``text`` has all the lines ``shown``, in this order."""
    lines = [".*".join(map(re.escape, line.split("…"))) for line in shown]
    return re.search(r"^(.*\n)*?" + r"\n(?:.*\n)*?".join(lines), text, re.MULTILINE) is not None


class Terminals:
    """The first terminal, a shell, and one more for each command that stays."""

    def __init__(self, home: Path, folder: str) -> None:
        self.home, self.folder = home, home / folder
        self._environment = {**os.environ, "HOME": str(home), "LC_ALL": "C.UTF-8", "COLUMNS": "200"}
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "WATCHWORD_PASSPHRASE"):
            self._environment.pop(name, None)
        cache = os.environ.get("WATCHWORD_CACHE") or str(Path.home() / ".cache" / "watchword")
        self._environment["WATCHWORD_CACHE"] = cache
        self._shell = self._start("exec bash --norc", ROOT, self.home / "shell")
        self._staying: dict[str, subprocess.Popen[bytes]] = {}
        self._count = 0

    def _start(self, command: str, folder: Path, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as output:
            return subprocess.Popen(
                ["bash", "--norc", "-c", command], cwd=folder, env=self._environment, start_new_session=True,
                stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def run(self, command: str) -> str:
        """Type ``command`` into the first terminal; what it printed."""
        self._count += 1
        end = f"-- end of command {self._count} --"
        log = self.home / "shell"
        start = log.stat().st_size
        assert self._shell.stdin is not None
        # The exit status must be there for an "echo $?" that follows.
        self._shell.stdin.write(f"{command}\n_status=$?; echo '{end}'; (exit $_status)\n".encode())
        self._shell.stdin.flush()
        said = self._wait(log, lambda text: end in text, start)
        return said.partition(end)[0]

    def stay(self, name: str, command: str, shown: tuple[str, ...]) -> str:
        """Start ``command`` in the terminal called ``name`` and wait for what it shows."""
        self.end(name)
        log = self.home / f"terminal-{name}"
        prefix = f"export REPO={ROOT} PATH={ROOT}/.venv/bin:$PATH; cd {self.folder}; exec "
        self._staying[name] = self._start(prefix + command, ROOT, log)
        return self._wait(log, lambda text: shows(shown, text))

    def _wait(self, log: Path, done: Callable[[str], bool], start: int = 0) -> str:
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            text = log.read_bytes()[start:].decode(errors="replace")
            if done(text):
                return text
            time.sleep(0.05)
        pytest.fail(f"waited in vain; {log.name} says: {text[-2000:]}")

    def end(self, name: str) -> None:
        """Ctrl-C in that terminal."""
        process = self._staying.pop(name, None)
        if process is not None:
            process.send_signal(signal.SIGINT)
            self._finish(process)

    def _finish(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def close(self) -> None:
        for name in reversed(list(self._staying)):
            self.end(name)
        self._finish(self._shell)


def free_port() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return str(sock.getsockname()[1])


@contextmanager
def terminals(folder: str) -> Iterator[Terminals]:
    # Not tmp_path: the address of a Unix socket has to be short.
    home = Path(tempfile.mkdtemp(prefix="ww-tutorial-"))
    opened = Terminals(home, folder)
    try:
        yield opened
    finally:
        opened.close()
        shutil.rmtree(home)


@pytest.mark.vm
@pytest.mark.parametrize("name", [FIRST, FLEET])
def test_the_tutorial_does_what_it_says(name: str) -> None:
    for program in ("swtpm", "qemu-system-x86_64"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    with terminals(FOLDERS[name]) as opened:
        follow((TUTORIALS / f"{name}.md").read_text(), opened)


def follow(page: str, terminals: Terminals) -> None:
    """Do what ``page`` says, and compare what it shows."""
    for port in _PORTS:
        page = page.replace(port, free_port())
    fingerprint, said = "SHA256:…", ""
    for step in steps(page):
        command = step.text.replace("SHA256:…", fingerprint)
        if step.kind == "file":
            (terminals.folder / step.name).write_text(step.text)
            continue
        if step.kind == "stays":
            said = terminals.stay(step.name, command, step.shown)
            found = _FINGERPRINT.search(said)
            fingerprint = found[1] if found else fingerprint
            continue
        before, said = said, terminals.run(command)
        why = f"{command}\nshould show\n{step.shown}\nand shows\n{said}\nafter\n{before[-2000:]}"
        assert shows(step.shown, said), why


def test_lines_are_compared_in_order() -> None:
    assert shows(("a … c", "d"), "x\na b c\ny\nd e\n")
    assert not shows(("d", "a"), "x\na b c\ny\nd e\n")
    assert not shows(("a … d",), "a b c\nd\n")
    assert shows((), "")


@pytest.mark.parametrize("name", [FIRST, FLEET])
def test_every_block_of_the_tutorial_is_understood(name: str) -> None:
    page = (TUTORIALS / f"{name}.md").read_text()
    found = list(steps(page))
    assert sum(1 for step in found if step.kind == "stays") == STAYING[name]
    assert page.count("\n$ ") == sum(1 for step in found if step.kind != "file")
