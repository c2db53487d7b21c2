"""Small good stack and profile documents, for tests that break one thing in them."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def event(pcr: int, text: str) -> dict[str, Any]:
    return {"pcr": pcr, "digests": {"sha256": sha(text)}, "note": text}


STACK: dict[str, Any] = {
    "format": "watchword-stack/1",
    "name": "compute",
    "version": "1.0",
    "serial": 5,
    "origin": "computed",
    "pcrs": [0, 4, 9],
    "components": [
        {"name": "firmware", "variants": [{"name": "a", "events": [event(0, "fw a")]}]},
        {"name": "boot", "variants": [{"name": "one", "events": [event(4, "kernel"), event(9, "initrd")]}]},
    ],
    "runtime": {"files": {"/bin/sh": ["sha256:" + sha("sh")]}, "any_path": ["sha256:" + sha("anywhere")]},
}

PROFILE: dict[str, Any] = {
    "format": "watchword-profile/1",
    "name": "gold",
    "bank": "sha256",
    "pcrs": [0, 4, 7, 9, 10],
    "levels": [
        {
            "name": "silver",
            "rules": {
                "identity": ["hardware", "virtual"],
                "covers": [4, 9],
                "stacks": ["compute"],
                "runtime": "ignored",
            },
        },
        {
            "name": "gold",
            "rules": {
                "identity": ["hardware", "virtual"],
                "covers": [0, 4, 9],
                "stacks": ["compute"],
                "runtime": "listed",
                "secure_boot": True,
                "endorsers": {"keys": ["11" * 32, "22" * 32], "threshold": 2},
            },
        },
    ],
}


def encode(document: Any) -> bytes:
    return json.dumps(document).encode()


def changed(document: dict[str, Any], *path: Any, value: Any) -> bytes:
    """``document`` as JSON with ``value`` at ``path``; a value of ... removes what is there."""
    document = copy.deepcopy(document)
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return encode(document)
