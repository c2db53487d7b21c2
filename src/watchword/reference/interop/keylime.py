"""Keylime's runtime policies: which files, keyrings and signing keys a host may measure.

Source: Keylime documentation, "Runtime Integrity Monitoring", runtime policy versions 1; the older JSON allowlist has
``hashes`` where a policy has ``digests``.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from watchword.errors import MalformedError
from watchword.policy.document import fail, load
from watchword.policy.signer import compile_signers
from watchword.reference.interop.draft import Draft
from watchword.reference.interop.manifest import Tally, strong_digest

__all__ = ["MAX_POLICY", "read_policy"]

MAX_POLICY = 64 * 1024 * 1024  # bytes
_WHAT = "runtime policy"
_MAX_SIGNERS = 64

Digests = dict[str, Annotated[tuple[str, ...], Meta(max_length=64)]]


class _Ima(msgspec.Struct, frozen=True):
    ignored_keyrings: tuple[str, ...] = ()
    dm_policy: Any = None


class _Policy(msgspec.Struct, frozen=True, rename={"ima_buf": "ima-buf", "keys": "verification-keys"}):
    digests: Digests | None = None
    hashes: Digests | None = None
    excludes: tuple[str, ...] | None = None
    keyrings: Digests | None = None
    ima: _Ima | None = None
    ima_buf: Digests | None = None
    keys: str | dict[str, Any] | None = None


class _Keyring(msgspec.Struct, frozen=True):
    pubkeys: tuple[str, ...] = ()


def read_policy(data: bytes) -> Draft:
    """The files and signing keys of a runtime policy of at most 64 MiB.

    Excludes, keyrings, buffers and device mapper policies have no counterpart and are left out: a host that measures
    what they allow is refused. Raises MalformedError with the place that is wrong.
    """
    policy = load(data, _Policy, _WHAT, MAX_POLICY)
    listed = policy.digests if policy.digests is not None else policy.hashes
    if listed is None:
        fail(_WHAT, "", "has neither digests nor hashes: it is no runtime policy")
    tally = Tally()
    files: dict[bytes, frozenset[tuple[Any, bytes]]] = {}
    for path, texts in listed.items():
        found = _file(path, texts, tally)
        if found:
            files[path.encode()] = found
    signers = _signers(policy.keys, tally)
    return Draft(files=files, signers=signers, left_out=(*tally.sentences(), *_not_carried(policy)))


def _file(path: str, texts: Sequence[str], tally: Tally) -> frozenset[tuple[Any, bytes]]:
    if path == "boot_aggregate":
        tally.add("boot aggregate, which is judged against the quote", path)
        return frozenset()
    if not path.startswith("/"):
        tally.add("path that is not absolute", path)
        return frozenset()
    found = set()
    for text in texts:
        name, _, digits = text.rpartition(":")
        digest = strong_digest(name, digits)
        if digest is None:
            tally.add("digest that is too weak or of no known kind", path)
        else:
            found.add(digest)
    return frozenset(found)


def _not_carried(policy: _Policy) -> list[str]:
    told = []
    if policy.excludes:
        told.append(
            f"{len(policy.excludes)} excludes are patterns, and a stack has exact paths: files that match "
            f"{policy.excludes[0]!a} are refused when a host measures them"
        )
    told += [f"keyring {name!a}: a stack cannot list keyrings" for name in policy.keyrings or ()]
    told += [f"buffer {name!a}: a stack cannot list measured buffers" for name in policy.ima_buf or ()]
    if policy.ima is not None and policy.ima.ignored_keyrings:
        told.append("ignored keyrings: a stack ignores nothing")
    if policy.ima is not None and policy.ima.dm_policy:
        told.append("the device mapper policy: a stack cannot judge those entries")
    return told


def _signers(keys: str | Mapping[str, Any] | None, tally: Tally) -> tuple[str, ...]:
    if not keys:
        return ()
    ring = load((keys if isinstance(keys, str) else json.dumps(keys)).encode(), _Keyring, _WHAT, MAX_POLICY)
    found: dict[str, None] = {}
    for i, text in enumerate(ring.pubkeys):
        try:
            key = base64.b64encode(base64.b64decode(text, validate=True)).decode()
            compile_signers(_WHAT, "verification-keys", [key])
        except (MalformedError, binascii.Error, ValueError):
            tally.add("verification key that is no RSA (2048 bits or more) or NIST curve key", f"pubkeys[{i}]")
        else:
            found[key] = None
    if len(found) > _MAX_SIGNERS:
        fail(_WHAT, "verification-keys", f"more than {_MAX_SIGNERS} keys")
    return tuple(found)
