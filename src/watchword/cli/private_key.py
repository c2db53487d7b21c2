"""Reading a private key that signs documents from a file."""

from __future__ import annotations

import os
from pathlib import Path

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from watchword.cli.profile import read_bounded
from watchword.crypto import dsse
from watchword.errors import MalformedError, UsageError

__all__ = ["read_private_key", "read_secret"]

_MAX_KEY_FILE = 16 * 1024
_MAX_PASSPHRASE = 1024


def read_private_key(file: Path, passphrase_file: Path | None) -> dsse.PrivateKey:
    """An Ed25519, P-256 or P-384 key in PEM; for an encrypted one see :func:`read_secret`.

    Raises UsageError (``key-file``, ``key-passphrase``), MalformedError (``key-file``).
    """
    data = read_bounded(file, _MAX_KEY_FILE)
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError:  # it is encrypted
        secret = read_secret(passphrase_file, f"passphrase of {file.name}").encode()
        try:
            key = load_pem_private_key(data, password=secret)
        except ValueError:
            raise UsageError("key-passphrase", f"the passphrase does not open {file.name}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(
            "key-file", f"{file.name} is not a private key in PEM", hint="openssl genpkey -algorithm ed25519"
        ) from None
    if not isinstance(key, Ed25519PrivateKey | EllipticCurvePrivateKey):
        raise MalformedError(f"{file.name}: signing needs an Ed25519, P-256 or P-384 key", code="key-file")
    return key


def read_secret(file: Path | None, what: str, *, twice: bool = False) -> str:
    """From a file, or asked for on the terminal, ``twice`` for a new one; never from the command line."""
    if file is not None:
        return read_bounded(file, _MAX_PASSPHRASE).rstrip(b"\r\n").decode("utf-8", "surrogateescape")
    given = os.environ.get("WATCHWORD_KEY_PASSPHRASE")
    return given if given is not None else str(click.prompt(what, hide_input=True, err=True, confirmation_prompt=twice))
