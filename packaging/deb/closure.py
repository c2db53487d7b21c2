"""Which of the locked distributions an extra of ours needs, by the metadata of what is installed here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["closure", "locked"]


def closure(extras: Iterable[str]) -> set[str]:
    """The names of all distributions that ``watchword[extras]`` needs, itself left out."""
    found: set[tuple[str, str]] = set()
    waiting = [("watchword", extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(requirement.name), each) for each in ("", *requirement.extras)]
    return {name for name, _ in found} - {"watchword"}


def locked(lock: Path, names: set[str]) -> str:
    """The entries of ``names`` in a lock file, with their hashes; SystemExit when one is not in it."""
    entries = re.split(r"^(?=[A-Za-z0-9])", lock.read_text(), flags=re.MULTILINE)
    by_name = {canonicalize_name(re.split(r"[=\[ ;]", entry)[0]): entry for entry in entries if "==" in entry}
    if missing := names - set(by_name):
        raise SystemExit(f"error: not in {lock.name}: {', '.join(sorted(missing))}\nhint: run bin/lock")
    return "".join(by_name[name] for name in sorted(names))
