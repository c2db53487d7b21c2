"""Launches as the tenant remembers them: what was demanded, and which machine to expect. Never the secret.

The secret is drawn, sealed into the token, turned into the machine's public key, and gone. What stays can be read by
anybody who reads the tenant's files without harm to the launch, except for one thing: the launch id opens the
authority's decisions.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from watchword.crypto import ssh_key
from watchword.crypto.keylist import KeyList
from watchword.crypto.token import seal_token
from watchword.errors import UsageError
from watchword.policy.profile import Profile
from watchword.tenant.files import check_name, launches_folder, listed, read_bounded, write_private
from watchword.wire.inputs import format_names, inputs_digest
from watchword.wire.share import SharePlace, check_numbers
from watchword.wire.token import TokenBody, token_id
from watchword.wire.trace import trace_of_token_id

__all__ = [
    "FORMAT",
    "SECRET_SIZE",
    "LaunchRecord",
    "Share",
    "create",
    "file_digest",
    "load",
    "load_all",
    "profile_rank",
    "read_secret",
    "save",
]

SECRET_SIZE = 32
FORMAT = "watchword-launch/1"
_MAX_FILE = 64 * 1024
_CHUNK = 1 << 20


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A share of a split secret: the local name of its ``authority``, and the id of its ``token``, 32 bytes hex."""

    authority: str
    token: str


class LaunchRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One launch. All digests and ids in hex.

    ``launch_id`` 16 bytes; ``token`` the token's id (a digest), 32 bytes; ``ssh_public_key`` what the machine must
    prove; ``rank`` the lowest acceptable level of ``profile``, from 1, and its name ``level``; ``inputs`` the digest
    over ``input_names``; ``releases`` how many the token allows; ``expires``, ``created`` Unix time; ``address``,
    ``port`` and ``server`` as the provider told, if it did. Of a split secret ``authority`` and ``token`` are empty:
    there are ``shares``, the first share first, of which ``threshold`` are needed. ``share`` is 0 in every record that
    is stored; :meth:`parts` sets it.
    """

    format: str
    name: str
    authority: str
    launch_id: str
    token: str
    ssh_public_key: str
    ssh_fingerprint: str
    profile: str
    level: str
    rank: int
    inputs: str
    input_names: str
    releases: int
    created: int
    expires: int
    provider: str = ""
    server: str = ""
    address: str = ""
    port: int = 0
    threshold: int = 0
    shares: tuple[Share, ...] = ()
    share: int = 0

    @property
    def trace(self) -> str:
        """The trace id of the launch; of a split secret that of its first token."""
        return trace_of_token_id(self.shares[0].token if self.shares and not self.share else self.token)

    def parts(self) -> tuple[LaunchRecord, ...]:
        """The launch as each of its authorities sees it: itself, or one record for each share, numbered from 1."""
        if not self.shares:
            return (self,)
        return tuple(
            msgspec.structs.replace(self, authority=each.authority, token=each.token, share=number)
            for number, each in enumerate(self.shares, 1)
        )

    def place(self) -> str:
        """Which share this record is about, as a receipt has to say; empty for a whole secret."""
        return str(SharePlace(self.share, self.threshold, len(self.shares))) if self.share else ""


def create(
    *,
    name: str | None,
    authority: str,
    keys: KeyList,
    profile: Profile,
    rank: int,
    inputs: Mapping[str, bytes],
    now: int,
    lifetime: int,
    releases: int,
    secret: bytes | None = None,
) -> tuple[str, LaunchRecord]:
    """Make a token and the record of its launch; the secret is in the first only.

    ``authority`` is the local name of the pinned authority and ``keys`` its newest list; ``inputs`` maps names to
    SHA-256 digests; ``lifetime`` is in seconds; ``secret`` 32 bytes, drawn when None; ``name`` is the launch id's
    beginning when None. Nothing is stored: see :func:`save`.
    """
    launch_id = secrets.token_bytes(16)
    body = TokenBody(
        secret=secrets.token_bytes(SECRET_SIZE) if secret is None else secret,
        launch_id=launch_id,
        inputs=inputs_digest(inputs),
        profile=profile.id,
        expires=now + lifetime,
        releases=releases,
        level=rank,
    )
    token = seal_token(body, keys.sealing_key())
    host_key = ssh_key.derive(body.secret, launch_id)
    record = LaunchRecord(
        format=FORMAT,
        name=check_name(name or f"launch-{launch_id.hex()[:8]}", "a launch"),
        authority=authority,
        launch_id=launch_id.hex(),
        token=token_id(token).hex(),
        ssh_public_key=host_key.public_openssh,
        ssh_fingerprint=host_key.fingerprint,
        profile=profile.id.hex(),
        level=profile.levels[rank - 1].name,
        rank=rank,
        inputs=body.inputs.hex(),
        input_names=format_names(inputs),
        releases=releases,
        created=now,
        expires=body.expires,
    )
    return token, record


def save(record: LaunchRecord, *, replace: bool = False) -> None:
    """Store a record. Raises :class:`UsageError` (``launch-exists``) when the name is taken, unless ``replace``."""
    try:
        write_private(_path(record.name), msgspec.json.encode(record), replace=replace)
    except FileExistsError:
        raise UsageError(
            "launch-exists", f"there is a launch named {record.name!r} already", hint="choose another --name"
        ) from None


def load(name: str) -> LaunchRecord:
    """The record ``name``. Raises :class:`UsageError` (``launch-unknown``, ``launch-file``)."""
    path = _path(name)
    if not path.exists():
        raise UsageError(
            "launch-unknown", f"no launch named {name!r} is known here", hint="launches are in " + str(path.parent)
        )
    try:
        record = msgspec.json.decode(read_bounded(path, _MAX_FILE, "the launch record"), type=LaunchRecord)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        record = None
    if record is None or record.format != FORMAT or not _is_sound(record):
        raise UsageError("launch-file", f"{path} is damaged", hint="make a new token and launch again")
    return record


def load_all() -> Iterator[LaunchRecord]:
    """Every launch record, by name."""
    for name in listed(launches_folder()):
        yield load(name)


def _is_sound(record: LaunchRecord) -> bool:
    tokens = [(each.token, 32) for each in record.shares] or [(record.token, 32)]
    sizes = ((record.launch_id, 16), *tokens, (record.profile, 32), (record.inputs, 32))
    try:
        fits = all(len(bytes.fromhex(text)) == size for text, size in sizes)
    except ValueError:
        return False
    split = bool(record.shares or record.threshold)
    if record.share or (split and (record.authority or check_numbers(record.threshold, len(record.shares)))):
        return False
    # A record that demands nothing must never verify anything.
    return fits and record.rank >= 1 and record.releases >= 1 and record.ssh_public_key.startswith("ssh-ed25519 ")


def profile_rank(profile: Profile, level: str | None) -> int:
    """The rank that ``level`` (a name, or a number from 1) has in ``profile``; the highest when None.

    Raises :class:`UsageError` (``bad-level``).
    """
    count = len(profile.levels)
    if level is None:
        return count
    rank = profile.rank_of(level)
    if rank is None and level.isascii() and level.isdigit() and len(level) < 4:
        rank = int(level)
    if rank is None or not 1 <= rank <= count:
        names = ", ".join(entry.name for entry in profile.levels)
        raise UsageError("bad-level", f"the profile has no level {level[:40]!r}", hint=f"its levels are: {names}")
    return rank


def file_digest(path: Path) -> bytes:
    """The SHA-256 of a file, 32 bytes. Raises :class:`UsageError` (``file-unreadable``)."""
    try:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise UsageError("file-unreadable", f"{path} cannot be read: {error.strerror}") from None
    return digest.digest()


def read_secret(path: Path) -> bytes:
    """A tenant's own launch secret from a file: 32 raw bytes or 64 hex digits. Raises :class:`UsageError`."""
    data = read_bounded(path, 128, "the secret file")
    if len(data) == SECRET_SIZE:
        return data
    try:
        secret = bytes.fromhex(data.decode("ascii").strip())
    except ValueError:
        secret = b""
    if len(secret) != SECRET_SIZE:
        raise UsageError(
            "bad-secret", f"{path} does not hold a launch secret", hint="it is 32 random bytes, or their 64 hex digits"
        )
    return secret


def _path(name: str) -> Path:
    return launches_folder() / f"{check_name(name, 'a launch')}.json"
