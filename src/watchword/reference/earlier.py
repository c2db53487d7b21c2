"""Earlier releases that a release file names by their stack documents, so that nobody copies digests by hand."""

from __future__ import annotations

import hashlib

from watchword.crypto import dsse
from watchword.errors import MalformedError, UsageError
from watchword.policy.document import fail
from watchword.policy.stack import MAX_STACK_SIZE, PAYLOAD_TYPE, CompiledStack
from watchword.reference.boots import Artifacts
from watchword.reference.release_file import Release

__all__ = ["earlier_releases", "stack_bytes"]

_DIGEST = "sha256:"
_MAX_ENVELOPE = 2 * MAX_STACK_SIZE


def earlier_releases(release: Release, artifacts: Artifacts) -> tuple[str, ...]:
    """The digests, ``sha256:`` and hex, of what ``release`` supersedes, in its order.

    Raises MalformedError with the name of the file that is no stack, UsageError (``release-supersedes``) when it is
    not an earlier release of the same name, pool and channel.
    """
    found = [text if text.startswith(_DIGEST) else _of_file(release, text, artifacts) for text in release.supersedes]
    for i, text in enumerate(found):
        if text in found[:i]:
            fail("release file", f"supersedes[{i}]", "is the same release as one before it")
    return tuple(found)


def _of_file(release: Release, name: str, artifacts: Artifacts) -> str:
    document = artifacts.named(name, stack_bytes, limit=_MAX_ENVELOPE)
    stack = artifacts.named(name, lambda _: CompiledStack.parse(document), limit=_MAX_ENVELOPE)
    same = (stack.name, stack.pool, stack.channel) == (release.name, release.pool, release.channel)
    if not same or stack.serial >= release.serial:
        raise UsageError(
            "release-supersedes",
            f"{name}: {stack.label}, serial {stack.serial}, is no earlier release of {release.name} in this place",
            hint="a release supersedes lower serials of its own name, pool and channel",
        )
    return _DIGEST + hashlib.sha256(document).hexdigest()


def stack_bytes(data: bytes) -> bytes:
    """The stack document in ``data``, which may be endorsed; signatures are not looked at. Raises MalformedError."""
    try:
        CompiledStack.parse(data)
    except MalformedError as error:
        try:
            kind, payload, _ = dsse.open_unverified(data, max_size=_MAX_ENVELOPE)
        except MalformedError:
            raise error from None
        if kind != PAYLOAD_TYPE:
            raise MalformedError(f"is a signed {kind[:80]!a}, not a stack") from None
        return payload
    return data
