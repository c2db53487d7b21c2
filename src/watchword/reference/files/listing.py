"""Paths and digests as a JSON object: what ``watchword stack files`` writes, and what people write by hand."""

from __future__ import annotations

import json

from watchword.policy.document import load, parse_digest
from watchword.policy.stack import path_bytes
from watchword.wire.tpm.algorithms import Alg

__all__ = ["MAX_LISTING", "parse_listing"]

MAX_LISTING = 64 * 1024 * 1024  # bytes


def parse_listing(data: bytes) -> list[tuple[bytes, Alg, bytes]]:
    """Read ``{"/path": "sha256:…"}``, or a list of digests for a path, of at most 64 MiB. Raises MalformedError."""
    found: list[tuple[bytes, Alg, bytes]] = []
    document = load(data, dict[str, str | tuple[str, ...]], "files", MAX_LISTING)
    for text, digests in document.items():
        for digest in (digests,) if isinstance(digests, str) else digests:
            alg, value = parse_digest("files", json.dumps(text), digest)
            found.append((path_bytes(text), alg, value))
    return found
