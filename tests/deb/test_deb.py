"""The Debian packages: what is in them, that it works by itself, and that one commit always gives the same bytes."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.conftest import ROOT

DEBIAN = Path("/usr/bin/python3")
NOVA = ROOT / ".tools" / "nova" / "bin" / "python"
HOST, AUTHORITY, FILTER = "watchword", "watchword-authority", "python3-watchword-nova"


def _is_debian_12() -> bool:
    release = Path("/etc/os-release")
    return (
        release.exists() and "VERSION_CODENAME=bookworm" in release.read_text() and shutil.which("dpkg-deb") is not None
    )


pytestmark = pytest.mark.skipif(not _is_debian_12(), reason="the packages are for Debian 12 and built on it")


@dataclass(frozen=True, slots=True)
class Built:
    """The built packages by name, and for each a folder with its files."""

    archives: dict[str, Path]
    trees: dict[str, Path]

    def field(self, package: str, name: str) -> str:
        return subprocess.check_output(["dpkg-deb", "-f", self.archives[package], name], text=True).strip()

    def command(self, *arguments: str, with_authority: bool = False) -> subprocess.CompletedProcess[str]:
        """``/usr/bin/watchword`` as installed, with the folders of the packages where they were unpacked."""
        text = (self.trees[HOST] / "usr/bin/watchword").read_text()
        trees = [self.trees[HOST], *([self.trees[AUTHORITY]] if with_authority else [])]
        text = text.replace('f"/usr/lib/watchword/{name}"', 'root + f"/usr/lib/watchword/{name}"')
        text = text.replace("for name in", f"for root in {list(map(str, trees))} for name in")
        first, _, program = text.partition("\n")
        return subprocess.run(
            [*first.removeprefix("#!").split(), "-c", program, *arguments], capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip


def build(out: Path, *options: str, **environment: str) -> list[Path]:
    done = subprocess.run(
        [ROOT / "bin" / "deb", out, *options], check=True, capture_output=True, text=True,
        env={**os.environ, **environment}, cwd=out.parent,
    )  # fmt: skip
    return [Path(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Built once, whichever workers of pytest ask."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    out, names = shared / "debs", (HOST, AUTHORITY, FILTER)
    with (shared / "debs.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.exists():
            partial = shared / "debs.partial"
            build(partial, "--uncompressed", *(word for name in names for word in ("--only", name)))
            for path in list(partial.glob("*.deb")):
                subprocess.run(["dpkg-deb", "-x", path, partial / path.name.partition("_")[0]], check=True)
            partial.rename(out)
    return Built(
        {path.name.partition("_")[0]: path for path in out.glob("*.deb")}, {name: out / name for name in names}
    )


def test_names_versions_and_dependencies(built: Built) -> None:
    version = built.field(HOST, "Version")
    assert version.startswith("0.1.0")
    assert {built.field(name, "Version") for name in built.archives} == {version}
    assert "python3 (>= 3.11), python3 (<< 3.12)" in built.field(HOST, "Depends")  # the modules are compiled for it
    assert f"watchword (= {version})" in built.field(AUTHORITY, "Depends")
    assert "libc6" in built.field(HOST, "Depends")
    assert built.field(FILTER, "Architecture") == "all"
    assert built.field(FILTER, "Depends") == "python3 (>= 3.11)"


def test_files_are_roots_and_nobody_else_writes_them(built: Built) -> None:
    for path in built.archives.values():
        listing = subprocess.check_output(["dpkg-deb", "-c", path], text=True).splitlines()
        assert {line.split()[1] for line in listing} == {"root/root"}
        assert {line[:10] for line in listing} <= {"drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x"}


def test_units_and_what_they_name_are_there(built: Built) -> None:
    host = built.trees[HOST]
    units = [path for tree in built.trees.values() for path in tree.glob("lib/systemd/system/*")]
    assert {path.name for path in units} == {path.name for path in (ROOT / "packaging").glob("*.service")}
    for unit in units:
        text = unit.read_text()
        for program in re.findall(r"^ExecStart=(/usr/bin/watchword) ", text, re.MULTILINE):
            assert os.access(host / program.lstrip("/"), os.X_OK)
        for page, section in re.findall(r"man:([\w-]+)\((\d)\)", text):
            assert (host / f"usr/share/man/man{section}/{page}.{section}.gz").exists()
    assert (host / "etc/watchword").is_dir()
    assert not list(built.trees[HOST].glob("etc/systemd/**/*")), "a package enables nothing"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_units_and_finds_them_closed(built: Built, tmp_path: Path) -> None:
    for tree in built.trees.values():
        for unit in tree.glob("lib/systemd/system/*"):
            copy = tmp_path / unit.name
            copy.write_text(unit.read_text().replace("/usr/bin/watchword", f"{built.trees[HOST]}/usr/bin/watchword"))
            verify = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", copy]
            done = subprocess.run(verify, capture_output=True, text=True, timeout=60, check=False)
            assert [line for line in done.stderr.splitlines() if unit.name in line] == []
            # 3 of 10: an agent that needs the TPM, as root, has 2.6.
            ask = ["systemd-analyze", "security", "--offline=true", "--threshold=30", "--no-pager", copy]
            subprocess.run(ask, check=True, capture_output=True, timeout=60)


def test_the_agents_unit_reaches_the_tpm() -> None:
    settings = (ROOT / "packaging" / "watchword-agent.service").read_text().splitlines()
    assert "PrivateDevices=yes" not in settings
    # ProtectClock closes every device but those that are named (systemd.exec(5)): without a name, the TPM too.
    assert {"ProtectClock=yes", "DeviceAllow=/dev/tpmrm0 rw"} <= set(settings)


def test_every_module_is_compiled_for_the_path_that_it_will_have(built: Built) -> None:
    for tree in (built.trees[HOST], built.trees[AUTHORITY]):
        sources = {path for path in tree.glob("usr/lib/watchword/**/*.py") if "templates" not in path.parts}
        compiled = set(tree.glob("usr/lib/watchword/**/*.pyc"))
        assert {str(path.parent.parent / path.name.split(".")[0]) for path in compiled} >= {
            str(path.with_suffix("")) for path in sources
        }
        assert not any(str(tree).encode() in path.read_bytes() for path in compiled)


def test_what_only_tests_use_is_left_out(built: Built) -> None:
    folder = built.trees[HOST] / "usr/lib/watchword/host"
    assert (folder / "watchword/cli/main.py").exists()
    assert not (folder / "watchword/testing").exists()
    for name in ("sqlalchemy", "starlette", "openstack", "pytest"):
        assert not (folder / name).exists(), "a compute host measures what it has"


def test_the_command_needs_nothing_but_debians_python(built: Built) -> None:
    assert built.command("--version").stdout.startswith("watchword, version ")
    status = built.command("agent", "status", "--json")
    assert status.returncode == 2, status.stderr
    assert '"ready": false' in status.stdout


def test_the_authority_is_a_package_more(built: Built, tmp_path: Path) -> None:
    create = ("authority", "create", "--data", str(tmp_path / "data"), "--name", "auditor")
    missing = built.command(*create)
    assert missing.returncode == 1
    assert "watchword-authority" in missing.stderr, "the hint names the package"
    made = built.command(*create, with_authority=True)
    assert made.returncode == 0, made.stderr
    assert "SHA256:" in made.stdout


def test_the_scheduler_imports_five_modules_and_the_standard_library(built: Built) -> None:
    folder = built.trees[FILTER] / "usr/lib/python3/dist-packages"
    program = f"import sys; sys.path.insert(0, {str(folder)!r}); import watchword.integrations.openstack.trust_query\n"
    program += "print(sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    bare = subprocess.run([DEBIAN, "-ISc", program], check=True, capture_output=True, text=True, timeout=60)
    assert bare.stdout.strip() == "['__main__', 'watchword']"
    assert len(list(folder.rglob("*.py"))) == 5


@pytest.mark.skipif(not NOVA.exists(), reason="nova is not installed: bin/test puts it into .tools/nova")
def test_nova_finds_filter_and_weigher(built: Built) -> None:
    folder = built.trees[FILTER] / "usr/lib/python3/dist-packages"
    program = "import sys, watchword.integrations.openstack.nova_scheduler as ours\n"
    program += "print(ours.__file__, ours.WatchwordFilter.__name__, ours.WatchwordWeigher.__name__)\n"
    program += "print(*sorted(name for name in sys.modules if name.startswith('watchword')))"
    done = subprocess.run(
        [NOVA, "-c", program], check=True, capture_output=True, text=True, timeout=120, cwd="/",
        env={"PYTHONPATH": str(folder), "PATH": os.defpath},
    )  # fmt: skip
    first, modules = done.stdout.splitlines()[-2:]
    assert first.startswith(str(folder))
    assert first.endswith("WatchwordFilter WatchwordWeigher")
    assert len(modules.split()) == 5


def test_scripts_start_and_stop_nothing_by_themselves(built: Built, tmp_path: Path) -> None:
    for name, archive in built.archives.items():
        subprocess.run(["dpkg-deb", "-e", archive, tmp_path / name], check=True)
        assert not (tmp_path / name / "conffiles").exists()
        for script in ("postinst", "prerm", "postrm"):
            path = tmp_path / name / script
            if path.exists():
                subprocess.run(["sh", "-n", path], check=True)
                text = path.read_text()
                assert not re.search(
                    r"(systemctl|deb-systemd-\w+)\S* (--\S+ )*(enable|start|restart|preset) ",
                    text.replace("systemctl restart $unit", ""),
                )
                assert not re.search(r"\brm\b|userdel|deluser", text), (
                    "keys and records are nobody's but the operator's"
                )


def test_the_same_commit_gives_the_same_bytes(tmp_path: Path) -> None:
    first = build(tmp_path / "a", "--only", FILTER)
    old = os.umask(0o077)
    try:
        second = build(tmp_path / "b", "--only", FILTER, TZ="Pacific/Auckland", LC_ALL="C")
    finally:
        os.umask(old)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.slow
def test_all_packages_have_the_same_bytes_twice_and_lintian_is_content(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    first = build(tmp_path / "a")
    second = build(tmp_path / "elsewhere" / "b", PYTHONHASHSEED="7", TZ="Pacific/Auckland")
    assert len(first) == 5
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    if shutil.which("lintian") is None:
        pytest.skip("the bytes are the same; lintian is not installed (Debian: lintian)")
    command = ["lintian", "--allow-root", "--fail-on", "error,warning", *first]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_what_is_not_locked_is_not_packaged() -> None:
    program = "import sys; sys.path.insert(0, sys.argv[1]); from closure import locked; from pathlib import Path\n"
    program += "locked(Path(sys.argv[2]), {'click', 'left-pad'})"
    folder = ROOT / "packaging" / "deb"
    done = subprocess.run(
        [sys.executable, "-c", program, folder, ROOT / "requirements.lock"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "not in requirements.lock: left-pad" in done.stderr
