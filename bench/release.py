"""From a built image to an authority that accepts it: 100,000 files, 2 GB, by the commands that people type.

Wall and CPU time of ``stack measure``, two endorsements, ``authority stack add --draft`` and ``stack activate``, each
in a process of its own; the image is in the page cache. The boot part is a unified kernel image of Debian's kernel.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.files import ext4_image
from bench.measure import Figure

__all__ = ["run"]

_IMAGES = Path(__file__).resolve().parent.parent / "images"
_RELEASE = """format = "watchword-release/1"
name = "compute"
version = "1"
serial = 1
[secure-boot]
state = "off"
[[boot]]
kind = "uki"
image = "compute.efi"
[runtime]
images = ["root.img"]
"""


def run(count: int) -> Iterator[Figure]:
    """Microseconds of wall time of each step, and of all, for an image of ``count`` files; CPU in the notes."""
    with TemporaryDirectory(prefix="watchword-bench-") as name:
        folder = Path(name)
        size = ext4_image(folder / "tree", folder / "root.img", count)
        _kernel(folder / "compute.efi")
        (folder / "release.toml").write_text(_RELEASE)
        watchword = [sys.executable, "-c", "from watchword.cli.main import main; main()"]
        authority = ("--data", "authority")
        _prepare(folder, watchword, authority)
        steps = (
            ("release, measure", ("stack", "measure", "release.toml", "-o", "stack.json")),
            ("release, endorse", ("stack", "endorse", "stack.json", "--key", "a.pem", "-o", "stack.dsse.json")),
            (
                "release, endorse again",
                ("stack", "endorse", "stack.dsse.json", "--key", "b.pem", "-o", "stack.dsse.json"),
            ),
            ("release, add as a draft", ("authority", "stack", "add", "stack.dsse.json", "--draft", *authority)),
            ("release, activate", ("authority", "stack", "activate", "compute@1", *authority)),
        )
        began, used = time.monotonic(), _cpu()
        for what, arguments in steps:
            yield _figure(what, folder, [*watchword, *arguments], f"{size / 1e9:.1f} GB, {count} files")
        wall, cpu = time.monotonic() - began, _cpu() - used
        yield Figure("release, all of it", wall * 1e6, wall * 1e6, wall * 1e6, 1, f"{wall:.1f} s wall, {cpu:.1f} s CPU")


def _figure(name: str, folder: Path, command: list[str], note: str) -> Figure:
    wall, cpu = time.monotonic(), _cpu()
    _quiet(folder, command)
    wall, cpu = time.monotonic() - wall, _cpu() - cpu
    return Figure(name, wall * 1e6, wall * 1e6, wall * 1e6, 1, f"{note}: {wall:.1f} s wall, {cpu:.1f} s CPU")


def _kernel(path: Path) -> None:
    sys.path.insert(0, str(_IMAGES))
    from lib import hostimage, scenarios

    path.write_bytes(hostimage.HostImage.build(scenarios.SCENARIOS[0], hostimage.Packages.fetch()).uki)


def _prepare(folder: Path, watchword: list[str], authority: tuple[str, ...]) -> None:
    """An authority with two endorsers, both of whom must sign."""
    ready = folder / "ready"
    serve = [*watchword, "authority", "serve", "--listen", "127.0.0.1:0", "--ready-file", str(ready), *authority]
    with subprocess.Popen(serve, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not ready.exists() and process.poll() is None:
            time.sleep(0.1)
        process.terminate()
    for name in "ab":
        _quiet(folder, ["openssl", "genpkey", "-algorithm", "ed25519", "-out", f"{name}.pem"])
        _quiet(folder, ["openssl", "pkey", "-in", f"{name}.pem", "-pubout", "-out", f"{name}.pub"])
    added = [_quiet(folder, [*watchword, "authority", "endorser", "add", f"{n}.pub", *authority]).strip() for n in "ab"]
    rule = [part for key in added for part in ("--endorsers", key)]
    _quiet(folder, [*watchword, "authority", "stack", "rule", "set", "compute", *rule, "--threshold", "2", *authority])


def _quiet(folder: Path, command: list[str]) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[-6:])}: {done.stderr.strip()}")
    return done.stdout


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
