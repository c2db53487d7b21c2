"""The key that signs, wherever it lives: a PEM file or a hardware token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from watchword.cli.private_key import read_private_key, read_secret
from watchword.crypto import dsse
from watchword.pkcs11.token import pkcs11_signer
from watchword.pkcs11.uri import Pkcs11Uri

__all__ = ["opened_signer"]


@contextmanager
def opened_signer(text: str, passphrase_file: Path | None) -> Iterator[dsse.Signer]:
    """The private key in the PEM file, or behind the ``pkcs11:`` URI, that ``text`` names.

    The passphrase or PIN comes from ``passphrase_file``, from the URI's file, or is asked for.
    """
    if text.startswith("pkcs11:"):
        uri = Pkcs11Uri.parse(text)
        source = Path(uri.pin_file) if uri.pin_file is not None else passphrase_file
        with pkcs11_signer(uri, lambda: read_secret(source, f"PIN of {uri.token or 'the token'}")) as signer:
            yield signer
        return
    yield dsse.signer(read_private_key(Path(text), passphrase_file))
