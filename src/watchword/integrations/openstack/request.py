"""What nova asks its vendor-data service for each config drive, and what a server asks for by its metadata.

Source: nova ``nova/api/metadata/vendordata_dynamic.py``; Nova administrator guide, "Vendordata".
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any

from watchword.errors import MalformedError
from watchword.wire.share import METADATA_KEYS

__all__ = ["MAX_REQUEST", "VendordataRequest"]

MAX_REQUEST = 1 << 20  # bytes: 64 KiB of user-data and 128 items of metadata, with room
_MAX_USER_DATA = 65_535  # base64 characters, nova's own limit
_MAX_ID = 64


@dataclass(frozen=True, slots=True)
class VendordataRequest:
    """``instance`` and ``image`` are nova's ids ("" for a server without an image), ``user_data`` its decoded bytes.

    ``token`` is the launch token, or all tokens and the launch set, each on a line; None when the server asks for
    nothing.
    """

    instance: str
    image: str
    user_data: bytes | None
    token: str | None = field(repr=False)

    @classmethod
    def parse(cls, data: bytes) -> VendordataRequest:
        """Read the body of nova's POST, at most 1 MiB. Raises :class:`MalformedError`."""
        if len(data) > MAX_REQUEST:
            raise MalformedError(f"vendor-data request: more than {MAX_REQUEST} bytes")
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            raise MalformedError("vendor-data request: is not JSON") from None
        if not isinstance(document, dict):
            raise MalformedError("vendor-data request: is not a JSON object")
        metadata = document.get("metadata")
        metadata = {} if metadata is None else metadata
        if not isinstance(metadata, dict):
            raise MalformedError("vendor-data request: the metadata is not an object")
        token = _tokens(metadata)
        return cls(
            instance=_text(document, "instance-id").lower(),
            image=_text(document, "image-id"),
            user_data=_user_data(document.get("user-data")),
            token=token,
        )


def _tokens(metadata: dict[str, Any]) -> str | None:
    found = [metadata[key] for key in METADATA_KEYS if key in metadata]
    if not all(isinstance(value, str) for value in found):
        raise MalformedError("vendor-data request: a token or the launch set is not a text")
    return "\n".join(found) if found else None


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    value = "" if value is None else value
    if not isinstance(value, str) or len(value) > _MAX_ID:
        raise MalformedError(f"vendor-data request: {name} is not an id")
    return value


def _user_data(value: object) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > _MAX_USER_DATA:
        raise MalformedError("vendor-data request: the user-data is not a text of at most 65535 characters")
    try:
        return base64.b64decode(value.encode(), validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError("vendor-data request: the user-data is not base64") from None
