"""The authorities that a tenant trusts: pinned once by the fingerprint of a root key, followed from list to list.

What is kept is the whole chain of signed key lists and the fingerprint, never a conclusion: every use verifies the
chain again from the pin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from watchword.crypto.keylist import KeyList, follow, verify_chain
from watchword.errors import Finding, Rejected, UsageError
from watchword.tenant.client import AuthorityClient, authority_url, fetch_key_lists
from watchword.tenant.files import authorities_folder, check_name, listed, read_bounded, write_private
from watchword.tenant.http import pinned_context

__all__ = ["Authority", "add", "check_fingerprint", "follow_chain", "load", "load_all", "remove", "update"]

_FORMAT = "watchword-authority/1"
_MAX_FILE = 16 << 20  # bytes
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}\Z")


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    url: str
    fingerprint: str
    keys: list[msgspec.Raw]


@dataclass(frozen=True, slots=True)
class Authority:
    """One pinned authority: the local ``name``, its ``url``, the pin, and its newest verified ``keys``."""

    name: str
    url: str
    fingerprint: str
    keys: KeyList
    chain: tuple[bytes, ...]

    def client(self) -> AuthorityClient:
        """A client that believes this authority's TLS certificate authority and no other."""
        return AuthorityClient(self.url, self.keys)

    def _save(self, *, replace: bool) -> None:
        document = _Document(_FORMAT, self.url, self.fingerprint, [msgspec.Raw(item) for item in self.chain])
        try:
            write_private(_path(self.name), msgspec.json.encode(document), replace=replace)
        except FileExistsError:
            raise UsageError(
                "authority-exists",
                f"an authority named {self.name!r} is pinned already",
                hint="choose another --name, or remove it first: watchword trust remove",
            ) from None


def check_fingerprint(text: str) -> str:
    """``text`` if it is a fingerprint; raises :class:`UsageError` (``bad-fingerprint``)."""
    if not _FINGERPRINT.match(text):
        raise UsageError(
            "bad-fingerprint",
            f"{text[:80]!r} is not a fingerprint",
            hint="it is SHA256: and 43 characters; the authority prints it with 'watchword authority keys show'",
        )
    return text


def add(url: str, fingerprint: str, name: str | None = None) -> Authority:
    """Pin the authority at ``url`` by the ``fingerprint`` of its root key, and store it under ``name``.

    The first connection believes nobody: the key lists prove themselves. They name the TLS certificate authority,
    and a second connection, held to it, must show the same lists. Nothing is stored unless all of this holds.
    """
    url = authority_url(url)
    check_fingerprint(fingerprint)
    name = check_name(name or (urlsplit(url).hostname or "").replace(":", "-"), "an authority")
    if _path(name).exists():
        raise UsageError("authority-exists", f"an authority named {name!r} is pinned already", hint="use --name")
    authority = _fetch(name, url, fingerprint)
    authority._save(replace=False)
    return authority


def update(name: str) -> Authority:
    """Follow an authority's chain of key lists to its newest; never back, and never onto another branch.

    Raises :class:`Rejected` (``keylist-rollback``, ``keylist-fork``) and leaves what is stored as it was.
    """
    stored = load(name)
    fresh = _fetch(name, stored.url, stored.fingerprint)
    if fresh.keys.version < stored.keys.version:
        raise Rejected(
            Finding(
                "K4",
                "keylist-rollback",
                "the authority offers an older key list than the one it gave before",
                expected=f"version {stored.keys.version} or later",
                actual=f"version {fresh.keys.version}",
            ),
            hint="somebody may be replaying old lists; the newer one was kept",
        )
    again = [keys for keys in follow_chain(fresh.chain, fresh.fingerprint) if keys.version == stored.keys.version]
    if not again or again[0].encode() != stored.keys.encode():
        raise Rejected(
            Finding("K5", "keylist-fork", "the authority's key lists do not continue the one it gave before"),
            hint="its root key signed two different lists: ask the authority what happened",
        )
    fresh._save(replace=True)
    return fresh


def remove(name: str) -> None:
    """Forget an authority. Raises :class:`UsageError` (``authority-unknown``)."""
    try:
        _path(name).unlink()
    except FileNotFoundError:
        raise _unknown(name) from None


def load(name: str) -> Authority:
    """The pinned authority ``name``, its chain verified anew. Raises :class:`UsageError` (``authority-unknown``)."""
    path = _path(name)
    if not path.exists():
        raise _unknown(name)
    try:
        document = msgspec.json.decode(read_bounded(path, _MAX_FILE, "the pinned authority"), type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = None
    if document is None or document.format != _FORMAT:
        raise UsageError(
            "authority-file", f"{path} is damaged", hint="remove it and pin the authority again: watchword trust add"
        )
    chain = tuple(bytes(envelope) for envelope in document.keys)
    keys = follow_chain(chain, document.fingerprint)[-1]
    return Authority(name, authority_url(document.url), document.fingerprint, keys, chain)


def load_all() -> Iterator[Authority]:
    """Every pinned authority, by name."""
    for name in listed(authorities_folder()):
        yield load(name)


def follow_chain(envelopes: Sequence[bytes], fingerprint: str) -> list[KeyList]:
    """Every list from the first that the pinned root signed, oldest first, each verified.

    The pin may be a later root than the authority's first: lists before it are passed over.
    Raises :class:`MalformedError`, :class:`Rejected` as :func:`watchword.crypto.keylist.verify_chain` does.
    """
    refusal: Rejected | None = None
    for start, envelope in enumerate(envelopes):
        try:
            lists = [verify_chain([envelope], fingerprint)]
        except Rejected as error:
            if error.code != "keylist-fingerprint":
                raise
            refusal = refusal or error
            continue
        for following in envelopes[start + 1 :]:
            lists.append(follow(lists[-1], following))
        return lists
    if refusal is None:
        verify_chain([], fingerprint)  # raises: an empty chain is malformed
        raise AssertionError
    raise refusal


def _fetch(name: str, url: str, fingerprint: str) -> Authority:
    claimed = follow_chain(fetch_key_lists(url), fingerprint)[-1]
    chain = fetch_key_lists(url, pinned_context(claimed.tls_ca))
    keys = follow_chain(chain, fingerprint)[-1]
    if keys.encode() != claimed.encode():
        raise Rejected(
            Finding("K3", "keylist-changed", "two connections in a row showed two different newest key lists"),
            hint="try again; if it stays so, somebody is in between",
        )
    return Authority(name, url, fingerprint, keys, tuple(chain))


def _path(name: str) -> Path:
    return authorities_folder() / f"{check_name(name, 'an authority')}.json"


def _unknown(name: str) -> UsageError:
    return UsageError(
        "authority-unknown",
        f"no authority named {name!r} is pinned",
        hint="pin it: watchword trust add URL --fingerprint SHA256:...; see: watchword trust list",
    )
