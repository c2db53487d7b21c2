"""The images of a run: ours from its Containerfile, the others from their registry, or made here in their place."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from e2e.compose.engine import Engine

__all__ = ["STAND_INS", "make"]

BASE = "docker.io/library/debian:12-slim"
STAND_INS = {
    BASE: "Debian 12 by mmdebstrap, minbase",
    "docker.io/library/postgres:15": "PostgreSQL 15 of Debian, with an entry point of ours",
    "docker.io/library/haproxy:2.8": "HAProxy 2.6 of Debian",
}
_HERE = Path(__file__).resolve().parent
_PIP = "/etc/xdg/pip"  # where pip looks for settings of the whole system
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def make(engine: Engine, *, pull: bool, say: Callable[[str], None]) -> None:
    """Have all images of the composition in the storage; ours is built anew with what did not change from the cache."""
    for name in STAND_INS:
        kept = subprocess.run(["podman", "image", "exists", name], env=engine.environment, check=False).returncode == 0
        if pull:
            say(f"{name} from its registry")
            engine.podman("pull", name)
        elif not kept:
            say(f"{name}: a stand-in, {STAND_INS[name]}")
            _stand_in(engine, name)
    say("watchword, from packaging/compose/Containerfile")
    engine.compose(f"--podman-build-args=--network=host {_settings(engine)}", "build", "authority-1")


def _stand_in(engine: Engine, name: str) -> None:
    if name == BASE:
        archive = engine.state / "base.tar"
        engine.run("mmdebstrap", "--quiet", "--variant=minbase", "bookworm", archive)
        engine.podman("import", archive, name)
        archive.unlink()
        return
    folder = _HERE / "stand-ins" / name.rpartition("/")[2].partition(":")[0]
    engine.podman("build", "--network=host", "--tag", name, folder)


def _settings(engine: Engine) -> str:
    """How this machine reaches a package index, mounted for the build only: nothing of it stays in the image."""
    folder = engine.state / "build-pip"
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["[global]"]
    if _CERTIFICATES.exists():
        (folder / "ca.crt").write_bytes(_CERTIFICATES.read_bytes())
        lines.append(f"cert = {_PIP}/ca.crt")
    for name in ("index-url", "proxy") if shutil.which("pip3") else ():
        found = subprocess.run(["pip3", "config", "get", f"global.{name}"], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            lines.append(f"{name} = {found.stdout.strip()}")
    (folder / "pip.conf").write_text("\n".join(lines) + "\n")
    return f"--volume={folder}:{_PIP}:ro"
