"""Keys that the kernel measured when they were loaded onto a keyring (IMA's KEY_CHECK, in ima-buf entries).

The name of such an entry is that of the keyring (".ima", ".builtin_trusted_keys", …), the buffer the certificate in
DER. Nothing of the certificate is checked or believed: what counts is which key it is, and that is the host's word
only as far as the entry leads to the quoted PCR. Source: Linux, security/integrity/ima/ima_asymmetric_keys.c.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from watchword.errors import MalformedError
from watchword.verify.der import BOOLEAN, SEQUENCE, Der, explicit, whole_sequence
from watchword.wire.der_chain import MAX_CERTIFICATE

__all__ = ["LoadedKey", "read_loaded_key"]

_WHAT: Final = "certificate of a loaded key"
_SUBJECT_KEY_ID: Final = "2.5.29.14"
_MAX_EXTENSIONS: Final = 32
_MAX_KEY_ID: Final = 64  # bytes


@dataclass(frozen=True, slots=True)
class LoadedKey:
    """``fingerprint`` is the SHA-256 of the SubjectPublicKeyInfo, empty when the buffer is no certificate that can be
    read; ``subject_key_id`` what the certificate says, empty when it says nothing."""

    keyring: bytes
    fingerprint: bytes
    subject_key_id: bytes


def read_loaded_key(name: bytes, buffer: bytes) -> LoadedKey | None:
    """The key in a measured buffer with this name; None when the buffer is something else.

    What bears the name of a keyring of the kernel (".…") is a key whatever is in it.
    """
    try:
        return _read(name, buffer)
    except MalformedError:
        return LoadedKey(name, b"", b"") if name.startswith(b".") else None


def _read(keyring: bytes, data: bytes) -> LoadedKey:
    if len(data) > MAX_CERTIFICATE:
        raise MalformedError(f"{_WHAT}: {len(data)} bytes, {MAX_CERTIFICATE} allowed")
    outer = whole_sequence(data, _WHAT, "malformed")
    body = outer.inside(SEQUENCE)
    outer.inside(SEQUENCE)
    outer.whole_bytes()
    outer.finish()
    body.take(explicit(0))  # without a version it has no extensions, and is none that the kernel takes
    body.integer()
    for _ in ("signature algorithm", "issuer", "validity", "subject"):
        body.take(SEQUENCE)
    key = body.take_whole(SEQUENCE)
    key_id = _subject_key_id(body.inside(explicit(3))) if body.more else b""
    body.finish()
    return LoadedKey(keyring, hashlib.sha256(key).digest(), key_id)


def _subject_key_id(wrapper: Der) -> bytes:
    listed, found = wrapper.inside(SEQUENCE), b""
    wrapper.finish()
    for _ in range(_MAX_EXTENSIONS):
        if not listed.more:
            return found
        extension = listed.inside(SEQUENCE)
        name = extension.identifier()
        if extension.next_is(BOOLEAN):
            extension.boolean()
        value = extension.of(extension.octets())
        extension.finish()
        if name == _SUBJECT_KEY_ID:
            found = value.octets()
            value.finish()
            if len(found) > _MAX_KEY_ID:
                raise listed.fail("its key identifier is too long")
    raise listed.fail(f"more than {_MAX_EXTENSIONS} extensions")
