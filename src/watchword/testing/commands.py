"""``watchword`` commands run as people run them, and the auditor's part: one maker, one stack, one profile."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchword.crypto.keylist import KeyList, verify_chain
from watchword.tenant.http import anonymous_context, exchange
from watchword.testing.farm import EkAuthority
from watchword.testing.world import profile_document, stack_from_recording

__all__ = ["Answer", "audit", "fetch_keys", "run_command", "watchword"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a ``watchword`` command said: exit ``status``, its JSON ``document``, and ``said`` on stderr."""

    status: int
    document: dict[str, Any]
    said: str

    @property
    def error(self) -> dict[str, Any]:
        """The error object, empty when there is none."""
        error = self.document.get("error", {})
        return error if isinstance(error, dict) else {}

    @property
    def findings(self) -> list[dict[str, Any]]:
        """The findings of the error."""
        return list(self.error.get("findings", []))

    @property
    def codes(self) -> list[str]:
        """The code of the error, and clause and code of all its findings."""
        return [str(self.error.get("code", "")), *(f"{f.get('clause')} {f.get('code')}" for f in self.findings)]


def watchword(*arguments: str | Path) -> list[str]:
    """The command line of ``watchword ARGUMENTS``, with the Python that runs this."""
    return [sys.executable, "-m", "watchword", *map(str, arguments)]


def run_command(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    text: str = "",
    timeout: float = 240,
    cwd: Path | None = None,
) -> Answer:
    """Run a command line that ends in ``--json``; ``text`` is its stdin, ``timeout`` in seconds."""
    done = subprocess.run(
        list(command), input=text.encode(), capture_output=True, timeout=timeout, env=dict(environment), check=False,
        cwd=cwd,
    )  # fmt: skip
    try:
        document = json.loads(done.stdout or b"{}")
    except ValueError:
        document = {}
    return Answer(done.returncode, document, done.stderr.decode(errors="replace").strip())


def fetch_keys(url: str, fingerprint: str, file: Path) -> KeyList:
    """The authority's key list into ``file``, checked against the ``fingerprint`` of its first root."""
    document = exchange("GET", f"{url}/v1/keys", anonymous_context(), timeout=60).body
    file.write_bytes(document)
    return verify_chain([json.dumps(envelope).encode() for envelope in json.loads(document)["keys"]], fingerprint)


def audit(must: Callable[..., object], folder: Path, makers: EkAuthority, recording: Path, data: Path) -> Path:
    """Have the authority in ``data`` accept the TPMs of ``makers`` and hosts like ``recording``; the profile's file."""
    root, stack, profile = (folder / name for name in ("maker-root.der", "stack.json", "gold.json"))
    root.write_bytes(makers.root)
    stack.write_bytes(stack_from_recording(recording, name="compute-host", version="2026.11"))
    profile.write_bytes(profile_document(stacks=["compute-host"]))
    must("authority", "anchor", "add", root, "--class", "virtual", "--data", data)
    must("authority", "stack", "add", stack, "--unendorsed", "--data", data)
    must("authority", "profile", "add", profile, "--data", data)
    return profile
