"""Naming a key in a token: PKCS#11 URIs (RFC 7512), the attributes that find a key and where its PIN comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from watchword.errors import UsageError

__all__ = ["Pkcs11Uri"]

_SCHEME: Final = "pkcs11:"
_PATH: Final = ("token", "serial", "manufacturer", "model", "object", "id", "type", "slot-id")
_QUERY: Final = ("module-path", "pin-source", "pin-value")
_USED: Final = ("token", "serial", "object", "id", "type")


@dataclass(frozen=True, slots=True)
class Pkcs11Uri:
    """``token`` and ``serial`` name the token, ``label`` and ``identity`` (bytes) the key; None: any.

    ``module`` is the path of the token's library, ``pin_file`` that of the file with the PIN.
    """

    token: str | None
    serial: str | None
    label: str | None
    identity: bytes | None
    module: str | None
    pin_file: str | None

    @classmethod
    def parse(cls, text: str) -> Pkcs11Uri:
        """Read a URI such as ``pkcs11:token=hsm;object=endorser?module-path=/usr/lib/softhsm/libsofthsm2.so``.

        A PIN inside of it is refused: everybody on the machine reads command lines. Raises :class:`UsageError`
        (``pkcs11-uri``).
        """
        if not text.startswith(_SCHEME):
            raise _wrong("does not begin with pkcs11:")
        path, _, query = text[len(_SCHEME) :].partition("?")
        named = _attributes(path, ";", _PATH)
        asked = _attributes(query, "&", _QUERY)
        if "pin-value" in asked:
            raise _wrong("has a PIN in it, which everybody on this machine can see: use pin-source=file:PATH")
        unused = sorted(set(named) - set(_USED))
        if unused or named.get("type", b"private") != b"private":
            raise _wrong(f"uses {unused[0] if unused else 'type'}, name the key by token, serial, object and id")
        if "object" not in named and "id" not in named:
            raise _wrong("names no key: add object=LABEL or id=%01")
        source = _text(asked.get("pin-source"))
        return cls(
            token=_text(named.get("token")),
            serial=_text(named.get("serial")),
            label=_text(named.get("object")),
            identity=named.get("id"),
            module=_text(asked.get("module-path")),
            pin_file=source.removeprefix("file:").removeprefix("//") if source is not None else None,
        )

    @property
    def text(self) -> str:
        """The URI without its query: which key it is, and not how one gets at it on this machine."""
        named = {"token": self.token, "serial": self.serial, "object": self.label, "id": self.identity}
        return _SCHEME + ";".join(
            f"{name}={quote(value, safe='')}" for name, value in named.items() if value is not None
        )


def _attributes(text: str, separator: str, known: tuple[str, ...]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in filter(None, text.split(separator)):
        name, equals, value = part.partition("=")
        if not equals or name not in known or name in found:
            raise _wrong(f"has {part[:40]!r}, which is not one of {', '.join(known)}, each once")
        found[name] = unquote_to_bytes(value)
    return found


def _text(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise _wrong("is not UTF-8") from None


def _wrong(why: str) -> UsageError:
    return UsageError("pkcs11-uri", f"the PKCS#11 URI {why}", hint="for example pkcs11:token=hsm;object=endorser")
