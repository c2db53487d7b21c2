"""Finding a key in a token and signing with it: PKCS#11, ECDSA on P-256 and P-384, and Ed25519.

What comes from the package python-pkcs11 is ``Any`` here: it is an extra, imported when a token is used.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from watchword.crypto.dsse import PublicKey, Signer
from watchword.errors import Unavailable, UsageError
from watchword.pkcs11.uri import Pkcs11Uri

__all__ = [
    "ED25519",
    "TokenAbsent",
    "find_keys",
    "find_token",
    "library",
    "load",
    "one_key",
    "pkcs11_signer",
    "public_half",
    "sign",
]

_P256: Final = bytes.fromhex("06082a8648ce3d030107")  # DER of the curve's object identifier
_P384: Final = bytes.fromhex("06052b81040022")
ED25519: Final = (bytes.fromhex("06032b6570"), b"\x13\x0cedwards25519")


class TokenAbsent(UsageError):
    """No token fits the URI: it is another's, or it is not plugged in."""


@contextmanager
def pkcs11_signer(uri: Pkcs11Uri, ask: Callable[[], str]) -> Iterator[Signer]:
    """The key that ``uri`` names, while the token's session is open; ``ask`` gives the PIN.

    Raises :class:`UsageError` (``extra-missing``, ``pkcs11-module``, ``pkcs11-key``), :class:`Unavailable`
    (``pkcs11-token``).
    """
    p11 = library()
    try:
        with find_token(load(p11, uri.module), uri).open(user_pin=ask()) as session:
            private = one_key(session, p11, uri, p11.ObjectClass.PRIVATE_KEY)
            public = public_half(one_key(session, p11, uri, p11.ObjectClass.PUBLIC_KEY), p11)
            yield Signer(public, lambda message: sign(p11, private, public, message))
    except p11.exceptions.PKCS11Error as error:
        raise Unavailable(
            "pkcs11-token", f"the token refused: {type(error).__name__}", hint="check PIN and URI"
        ) from None


def library() -> Any:
    """The package python-pkcs11. Raises :class:`UsageError` (``extra-missing``)."""
    try:
        return importlib.import_module("pkcs11")
    except ModuleNotFoundError:
        raise UsageError(
            "extra-missing",
            "signing with a PKCS#11 token needs the package python-pkcs11, which is not installed",
            hint="install the Debian package watchword-auditor, or: pip install 'watchword[pkcs11]'",
        ) from None


def load(p11: Any, module: str | None = None) -> Any:
    """The token's library at the path ``module``, or at WATCHWORD_PKCS11_MODULE.

    Raises :class:`UsageError` (``pkcs11-module``), PKCS11Error when the library does not start.
    """
    module = module or os.environ.get("WATCHWORD_PKCS11_MODULE")
    if not module:
        raise UsageError(
            "pkcs11-module",
            "nothing says which library the token has",
            hint="add ?module-path=PATH to the URI, or set WATCHWORD_PKCS11_MODULE",
        )
    try:
        return p11.lib(module)
    except (RuntimeError, OSError) as error:
        if isinstance(error, p11.exceptions.PKCS11Error) and type(error) is not p11.exceptions.PKCS11Error:
            raise  # it was loaded, and has a reason of its own
        raise UsageError("pkcs11-module", f"{module} cannot be loaded as a PKCS#11 library") from None


def find_token(module: Any, uri: Pkcs11Uri) -> Any:
    """The one token that ``uri`` names. Raises :class:`UsageError` (``pkcs11-key``), :class:`TokenAbsent` for none."""
    serial = uri.serial.encode() if uri.serial is not None else None
    found = list(module.get_tokens(token_label=uri.token, token_serial=serial))
    if len(found) != 1:
        kind = UsageError if found else TokenAbsent
        raise kind("pkcs11-key", f"{len(found)} tokens fit the URI, one must", hint="name it: token=LABEL")
    return found[0]


def find_keys(session: Any, p11: Any, uri: Pkcs11Uri, kind: Any) -> list[Any]:
    """The objects of class ``kind`` that ``uri`` names."""
    wanted = {p11.Attribute.CLASS: kind}
    if uri.label is not None:
        wanted[p11.Attribute.LABEL] = uri.label
    if uri.identity is not None:
        wanted[p11.Attribute.ID] = uri.identity
    return list(session.get_objects(wanted))


def one_key(session: Any, p11: Any, uri: Pkcs11Uri, kind: Any) -> Any:
    """The only one of them. Raises :class:`UsageError` (``pkcs11-key``)."""
    found = find_keys(session, p11, uri, kind)
    if len(found) != 1:
        text = f"{len(found)} objects of class {kind.name} fit the URI, one must"
        raise UsageError("pkcs11-key", text, hint="the token holds both halves of the key, with the same label and id")
    return found[0]


def public_half(key: Any, p11: Any) -> PublicKey:
    """The key that the public object ``key`` holds. Raises :class:`UsageError` (``pkcs11-key``)."""
    curve, point = key[p11.Attribute.EC_PARAMS], key[p11.Attribute.EC_POINT]
    # Tokens give the point inside an OCTET STRING or as it is: it is the last bytes in both.
    try:
        if curve in ED25519:
            return Ed25519PublicKey.from_public_bytes(point[-32:])
        if curve == _P256:
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point[-65:])
        if curve == _P384:
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), point[-97:])
    except ValueError:
        pass
    raise UsageError("pkcs11-key", "the key is not an Ed25519, P-256 or P-384 key")


def sign(p11: Any, private: Any, public: PublicKey, message: bytes) -> bytes:
    """The token hashes for Ed25519; for ECDSA it gets the hash, and returns r and s side by side."""
    if isinstance(public, Ed25519PublicKey):
        return bytes(private.sign(message, mechanism=p11.Mechanism.EDDSA))
    digest = hashlib.sha256(message) if public.key_size == 256 else hashlib.sha384(message)
    raw = bytes(private.sign(digest.digest(), mechanism=p11.Mechanism.ECDSA))
    half = len(raw) // 2
    return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))
