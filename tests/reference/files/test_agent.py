"""What the agent is made of, compared with what it opens and maps when it runs."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.reference.files.artifacts import need

from watchword.errors import UsageError
from watchword.reference.files import Options, agent_sources, collect, files_from_table
from watchword.reference.files.source import Source

#: Runs a command of Watchword, loads all that the agent may load later, and says which files code came from.
PROBE = """
import importlib, pkgutil, sys
import watchword.agent
from watchword.cli.main import run
run(sys.argv[1:])
for module in pkgutil.walk_packages(watchword.agent.__path__, "watchword.agent."):
    importlib.import_module(module.name)
maps = [line.split(None, 5) for line in open("/proc/self/maps")]
found = {fields[5].strip() for fields in maps if len(fields) == 6 and "x" in fields[1]}
for module in list(sys.modules.values()):
    found |= {getattr(module, "__file__", None), getattr(module, "__cached__", None)}
print("\\n".join(sorted(name for name in found if name)), file=sys.stderr)
"""


def used(*arguments: str) -> set[Path]:
    done = subprocess.run([sys.executable, "-c", PROBE, *arguments], check=True, capture_output=True, text=True)
    named = {Path(line).resolve() for line in done.stderr.splitlines() if line.startswith("/")}
    return {path for path in named if path.is_file()}


@pytest.fixture(scope="module")
def environment() -> dict[str, list[str]]:
    if sys.prefix == sys.base_prefix:
        pytest.skip("the tests do not run in a virtual environment")
    return collect(agent_sources(Path(sys.prefix)), Options()).listing()


@pytest.mark.parametrize(
    "command", [["agent", "status"], ["agent", "evidence", "--help"], ["agent", "enrol", "--help"]]
)
def test_everything_that_the_agent_runs_is_covered(command: list[str], environment: dict[str, list[str]]) -> None:
    touched = used(*command)
    assert {"main.py", "agent.py"} <= {path.name for path in touched if "watchword" in path.parts}
    assert any(path.suffix == ".so" for path in touched)
    system = {path for path in touched if str(path) not in environment}
    covered = (
        environment
        | collect([Source(path, str(path), single=True) for path in owned_by_packages(system)], Options()).listing()
    )
    for path in touched:
        assert covered[str(path)] == ["sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()]


def owned_by_packages(paths: set[Path]) -> list[Path]:
    """System libraries: every file of the Debian packages that own ``paths``; one that nobody owns fails the test."""
    need("dpkg-query")
    packages = {package for path in paths for package in owners(path)}
    listed = subprocess.run(["dpkg-query", "-L", *packages], check=True, capture_output=True, text=True).stdout
    return sorted({Path(line).resolve() for line in listed.splitlines() if os.path.isfile(line)})


def owners(path: Path) -> list[str]:
    for name in (str(path), str(path).removeprefix("/usr")):  # packages may list /lib/… for /usr/lib/…
        done = subprocess.run(["dpkg-query", "-S", name], check=False, capture_output=True, text=True)
        if done.returncode == 0:
            return [owner.strip() for owner in done.stdout.partition(": ")[0].split(",")]
    raise AssertionError(f"{path} is neither in the environment nor of a package")


def test_the_environment_of_this_command(environment: dict[str, list[str]], tmp_path: Path) -> None:
    found = files_from_table({"agent": True}, tmp_path).listing()
    assert found.keys() >= {path for path in environment if path.endswith((".py", ".so"))}
    assert str(Path(sys.executable).resolve()) in found


def test_a_folder_that_is_no_environment(tmp_path: Path) -> None:
    for text in (
        None,
        "home = /nowhere/bin\nversion = 3.11.2\n",
        f"home = {tmp_path}/bin\nversion = 3.11.2\n",
        "version = 2.7",
    ):
        if text is not None:
            (tmp_path / "pyvenv.cfg").write_text(text)
            (tmp_path / "bin").mkdir(exist_ok=True)
            (tmp_path / "bin/python").write_text("")
        with pytest.raises(UsageError, match=tmp_path.name):
            agent_sources(tmp_path)


def test_links_lead_to_files_that_are_listed(tmp_path: Path) -> None:
    home = tmp_path / "usr/bin"
    library = tmp_path / "usr/lib/python3.11"
    site = tmp_path / "venv/lib/python3.11/site-packages"
    for folder in (home, library, site, tmp_path / "venv/bin", tmp_path / "etc", tmp_path / "project"):
        folder.mkdir(parents=True)
    (home / "python3.11").write_text("interpreter")
    (home / "python3").symlink_to("python3.11")
    (tmp_path / "venv/bin/python").symlink_to(home / "python3")
    (tmp_path / "venv/pyvenv.cfg").write_text(f"home = {home}\nversion = 3.11.2\n")
    (tmp_path / "etc/sitecustomize.py").write_text("site")
    (library / "sitecustomize.py").symlink_to(tmp_path / "etc/sitecustomize.py")
    (library / "os.py").write_text("os")
    (tmp_path / "project/code.py").write_text("code")
    (site / "project.pth").write_text(f"# a comment\nimport os\n{tmp_path}/project\n/nowhere\n")
    found = {os.path.relpath(path, tmp_path) for path in collect(agent_sources(tmp_path / "venv"), Options()).listing()}
    assert found == {
        "etc/sitecustomize.py",
        "project/code.py",
        "usr/bin/python3.11",
        "usr/lib/python3.11/os.py",
        "venv/lib/python3.11/site-packages/project.pth",
        "venv/pyvenv.cfg",
    }
