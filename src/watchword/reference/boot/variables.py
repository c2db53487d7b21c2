"""Secure Boot variables: from signature lists, ``.auth`` files, certificates, or an OVMF variable store.

Source: UEFI Specification 2.10, sections 8.2.2 (EFI_VARIABLE_AUTHENTICATION_2) and 32.4.1 (EFI_SIGNATURE_LIST);
EDK2, MdeModulePkg/Include/Guid/VariableFormat.h (the store), Platform Initialization 1.8, volume 3 (firmware volume).
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from watchword.errors import MalformedError
from watchword.wire.reader import Reader
from watchword.wire.uefi import DB, GLOBAL_VARIABLE, parse_signatures

__all__ = ["GUIDS", "ORDER", "key_database", "variable_store"]

#: The order in which EDK2 measures them, after SecureBoot; the last two only where there are such variables.
ORDER = ("PK", "KEK", "db", "dbx", "dbt", "dbr")
GUIDS: Mapping[str, uuid.UUID] = {name: GLOBAL_VARIABLE if name in ("PK", "KEK") else DB for name in ORDER}

_X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
_VOLUME = b"_FVH"
_STORE = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792")
_WIN_CERT_UEFI = struct.pack("<HH", 0x0200, 0x0EF1)
_VARIABLE = 0x55AA
_ADDED = 0x3F  # VAR_ADDED; bits are cleared one after the other when a variable is written and deleted
_IN_TRANSITION = 0x3E
_MAX_STORE = 4 << 20
_MAX_DATABASE = 1 << 20


def key_database(parts: Sequence[bytes], owner: uuid.UUID | None) -> bytes:
    """The content of a key database from ``parts``, one after the other. Raises MalformedError.

    A part is an EFI signature list, an ``.auth`` file with one inside, or an X.509 certificate in PEM or DER, which
    becomes a list of its own with ``owner``.
    """
    content = b"".join(_part(part, owner) for part in parts)
    if len(content) > _MAX_DATABASE:
        raise MalformedError(f"key database: {len(content)} bytes, {_MAX_DATABASE} are allowed")
    parse_signatures(content)
    return content


def _part(data: bytes, owner: uuid.UUID | None) -> bytes:
    if data[20:24] == _WIN_CERT_UEFI:
        size = int.from_bytes(data[16:20], "little")
        if size < 24 or 16 + size > len(data):
            raise MalformedError("key database: the authentication header is cut short")
        return data[16 + size :]
    certificate = _certificate(data)
    if certificate is None:
        return data
    if owner is None:
        raise MalformedError("key database: a certificate needs an owner, whose GUID is measured with it")
    size = 16 + len(certificate)
    return _X509.bytes_le + struct.pack("<III", 28 + size, 0, size) + owner.bytes_le + certificate


def _certificate(data: bytes) -> bytes | None:
    """The DER of a certificate in PEM or DER; None when the data begins like neither."""
    try:
        if data.startswith(b"-----BEGIN CERTIFICATE-----"):
            return x509.load_pem_x509_certificate(data).public_bytes(Encoding.DER)
        if data.startswith(b"\x30\x82"):
            return x509.load_der_x509_certificate(data).public_bytes(Encoding.DER)
    except ValueError as error:
        raise MalformedError(f"key database: not a certificate: {error}") from error
    return None


def variable_store(data: bytes) -> dict[str, bytes]:
    """The Secure Boot variables in an OVMF variable store (``OVMF_VARS.fd``), by name. Raises MalformedError."""
    if len(data) > _MAX_STORE:
        raise MalformedError(f"variable store: {len(data)} bytes, {_MAX_STORE} are allowed")
    if data[40:44] != _VOLUME:
        raise MalformedError("variable store: it does not begin with a firmware volume")
    start = int.from_bytes(data[48:50], "little")
    if uuid.UUID(bytes_le=data[start : start + 16].ljust(16, b"\0")) != _STORE:
        raise MalformedError("variable store: the volume does not hold authenticated variables")
    header = Reader(data[start + 16 :], "variable store")
    size, form, state = header.le32(), header.u8(), header.u8()
    if size < 28 or start + size > len(data) or (form, state) != (0x5A, 0xFE):
        raise MalformedError("variable store: its header is not that of a healthy store")
    return _variables(Reader(data[start + 28 : start + size], "variable store"))


def _variables(reader: Reader) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    while reader.left >= 60:
        mark = reader.le16()
        if mark == 0xFFFF:  # erased flash: here the variables end
            break
        if mark != _VARIABLE:
            raise reader.fail("a variable does not begin with its mark")
        state = reader.u8()
        reader.take(1 + 4 + 8 + 16 + 4)
        name_size, data_size = reader.le32(), reader.le32()
        guid = uuid.UUID(bytes_le=reader.take(16))
        name, content = reader.take(name_size).decode("utf-16-le", "replace").rstrip("\0"), reader.take(data_size)
        reader.take(min(-reader.pos % 4, reader.left))
        if state == _IN_TRANSITION and GUIDS.get(name) == guid:
            raise MalformedError(f"variable store: {name} is being written: the firmware did not finish")
        if state == _ADDED and GUIDS.get(name) == guid:
            if name in found:
                raise MalformedError(f"variable store: {name} is there twice")
            found[name] = content
    return found
