"""Private keys as files: PKCS #8 PEM, mode 0600, optionally encrypted, never half written."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from watchword.errors import UsageError

__all__ = [
    "PrivateKey",
    "encode_key",
    "make_private_directory",
    "read_ed25519",
    "read_p256",
    "read_x25519",
    "write_file",
    "write_key",
]

PrivateKey = Ed25519PrivateKey | X25519PrivateKey | EllipticCurvePrivateKey
_MAX_PEM: Final = 16 * 1024  # bytes
_SHOWN = 16  # hex digits of a key's digest in its file name


def make_private_directory(path: Path) -> None:
    """Make ``path`` (and what is above it) if missing. Raises :class:`UsageError` when others may look into it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise UsageError(
            "directory-open",
            f"{path} is open to other users (mode {mode:04o})",
            hint=f"chmod 700 {path}",
        )


def write_file(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` with mode 0600, durably: whatever happens, it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_key(directory: Path, kind: str, key: PrivateKey, passphrase: bytes | None) -> str:
    """Write ``key`` as a new file ``<kind>-<digest>.pem`` and return that name."""
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    name = f"{kind}-{hashlib.sha256(public).hexdigest()[:_SHOWN]}.pem"
    write_file(directory / name, encode_key(key, passphrase))
    return name


def encode_key(key: PrivateKey, passphrase: bytes | None) -> bytes:
    """``key`` as a PEM file has it, encrypted when there is a ``passphrase``."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, _encryption(passphrase))


def _encryption(passphrase: bytes | None) -> KeySerializationEncryption:
    return BestAvailableEncryption(passphrase) if passphrase else NoEncryption()


def read_ed25519(path: Path, passphrase: bytes | None) -> Ed25519PrivateKey:
    """The Ed25519 key in the file ``path``. Raises as :func:`_read` does."""
    key = _read(path, passphrase)
    if not isinstance(key, Ed25519PrivateKey):
        raise _wrong_kind(path)
    return key


def read_x25519(path: Path, passphrase: bytes | None) -> X25519PrivateKey:
    """The X25519 key in the file ``path``. Raises as :func:`_read` does."""
    key = _read(path, passphrase)
    if not isinstance(key, X25519PrivateKey):
        raise _wrong_kind(path)
    return key


def read_p256(path: Path, passphrase: bytes | None) -> EllipticCurvePrivateKey:
    """The elliptic curve key in the file ``path``. Raises as :func:`_read` does."""
    key = _read(path, passphrase)
    if not isinstance(key, EllipticCurvePrivateKey):
        raise _wrong_kind(path)
    return key


def _read(path: Path, passphrase: bytes | None) -> object:
    """Read a private key.

    Raises :class:`UsageError`: ``key-open`` (others may read the file), ``key-passphrase`` (missing or wrong),
    ``key-format``; FileNotFoundError when there is no such file.
    """
    with open(path, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise UsageError(
                "key-open", f"{path} is readable by other users (mode {mode:04o})", hint=f"chmod 600 {path}"
            )
        pem = file.read(_MAX_PEM)
    return _parse(pem, path, passphrase if b"ENCRYPTED" in pem else None)


def _parse(pem: bytes, path: Path, passphrase: bytes | None) -> object:
    try:
        return load_pem_private_key(pem, passphrase)
    except TypeError:
        raise UsageError(
            "key-passphrase",
            f"{path} is encrypted and no passphrase was given",
            hint="set WATCHWORD_PASSPHRASE or use --passphrase-file",
        ) from None
    except ValueError:
        if passphrase is not None:
            raise UsageError("key-passphrase", f"the passphrase does not open {path}") from None
        raise UsageError("key-format", f"{path} is not a private key in PEM form") from None
    except UnsupportedAlgorithm:
        raise _wrong_kind(path) from None


def _wrong_kind(path: Path) -> UsageError:
    return UsageError("key-format", f"{path} does not hold the kind of key that belongs there")
