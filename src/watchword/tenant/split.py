"""Splitting a launch secret over several authorities, none of which can release it alone.

The whole secret exists here only while the machine's public key is derived from it and its shares are sealed, each to
one authority. What the tenant keeps is the record of a launch with one entry for each share.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from watchword.crypto import ssh_key
from watchword.crypto.keylist import KeyList
from watchword.crypto.launch_set import LaunchSet, share_digest
from watchword.crypto.shamir import random_size, split
from watchword.crypto.token import seal_token
from watchword.errors import UsageError
from watchword.policy.profile import Profile
from watchword.tenant.files import check_name
from watchword.tenant.launches import FORMAT, SECRET_SIZE, LaunchRecord, Share
from watchword.wire.inputs import format_names, inputs_digest
from watchword.wire.share import MAX_SHARES, Bundle, SharePlace, check_numbers
from watchword.wire.token import TokenBody, token_id

__all__ = ["check_authorities", "create_split", "majority"]


def majority(count: int) -> int:
    """How many of ``count`` authorities must release when the tenant does not say: just more than half."""
    return count // 2 + 1


def check_authorities(authorities: Sequence[tuple[str, KeyList]], threshold: int) -> None:
    """Refuse numbers that make no set, and one authority that would get two shares.

    Raises :class:`UsageError` (``bad-threshold``, ``authority-twice``).
    """
    if problem := check_numbers(threshold, len(authorities)):
        raise UsageError(
            "bad-threshold", f"a secret cannot be split like that: {problem}",
            hint=f"name 2 to {MAX_SHARES} authorities, and a threshold of more than half of them",
        )  # fmt: skip
    for what in (
        [keys.root.public_bytes_raw() for _, keys in authorities],
        [keys.sealing_key().public_bytes_raw() for _, keys in authorities],
        [keys.authority for _, keys in authorities],
    ):
        if len(set(what)) != len(what):
            raise UsageError(
                "authority-twice", "two of the authorities are one and the same, or call themselves the same",
                hint="each share goes to another authority; see watchword trust list",
            )  # fmt: skip


def create_split(
    *,
    name: str | None,
    authorities: Sequence[tuple[str, KeyList]],
    threshold: int,
    profile: Profile,
    rank: int,
    inputs: Mapping[str, bytes],
    now: int,
    lifetime: int,
    releases: int,
    secret: bytes | None = None,
) -> tuple[Bundle, LaunchRecord]:
    """Make the tokens, their launch set, and the record of the launch, as :func:`watchword.tenant.launches.create`.

    ``authorities`` are local names of pinned authorities with their newest key lists; share 1 goes to the first.
    Raises as :func:`check_authorities` does.
    """
    check_authorities(authorities, threshold)
    whole = secrets.token_bytes(SECRET_SIZE) if secret is None else secret
    count, digest = len(authorities), inputs_digest(inputs)
    shares = split(whole, threshold, count, secrets.token_bytes(random_size(len(whole), threshold)))
    launch_set = LaunchSet(threshold, tuple(share_digest(at, each, digest) for at, each in enumerate(shares, 1)))
    launch_id = launch_set.launch_id()
    tokens = tuple(
        seal_token(
            TokenBody(
                share, launch_id, digest, profile.id, now + lifetime, releases, rank,
                place=SharePlace(at, threshold, count),
            ),
            keys.sealing_key(),
        )
        for at, (share, (_, keys)) in enumerate(zip(shares, authorities, strict=True), 1)
    )  # fmt: skip
    host_key = ssh_key.derive(whole, launch_id)
    record = LaunchRecord(
        format=FORMAT,
        name=check_name(name or f"launch-{launch_id.hex()[:8]}", "a launch"),
        authority="",
        launch_id=launch_id.hex(),
        token="",
        ssh_public_key=host_key.public_openssh,
        ssh_fingerprint=host_key.fingerprint,
        profile=profile.id.hex(),
        level=profile.levels[rank - 1].name,
        rank=rank,
        inputs=digest.hex(),
        input_names=format_names(inputs),
        releases=releases,
        created=now,
        expires=now + lifetime,
        threshold=threshold,
        shares=tuple(
            Share(local, token_id(token).hex()) for (local, _), token in zip(authorities, tokens, strict=True)
        ),
    )
    return Bundle(tokens, launch_set.seal().text()), record
