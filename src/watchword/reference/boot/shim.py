"""PCR 7 and 14: shim.

Source: shim 16.1, mok.c, sbat.c, shim.c and tpm.c; only that version was compared with real boots. What is predicted
is a machine without keys of its owner (MokList) and with a variable store that shim has not written to before, or
that it wrote to with the same revocations.
"""

from __future__ import annotations

import re
import struct
import uuid
from dataclasses import dataclass

from watchword.errors import MalformedError, UsageError
from watchword.reference.boot.authenticode import read_signatures, vouching_path
from watchword.reference.boot.events import Measure, Predicted
from watchword.reference.boot.secureboot import authority
from watchword.wire.pe import PeImage

__all__ = ["Shim"]

SHIM_LOCK = uuid.UUID("605dab50-e046-4300-abb6-3dd810dd8b23")
_X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
_SHA256 = uuid.UUID("c1c41626-504c-4092-aca9-41f936934328")
_VERSION = "16.1"
_IDENT = re.compile(rb"\$Version: ([^ $]+) \$")
_ORIGINAL_LEVEL = b"sbat,1,2021030218\n"  # what shim sets SbatLevel back to without Secure Boot


def _list(kind: uuid.UUID, content: bytes) -> bytes:
    """An EFI signature list with one entry, owned by shim."""
    size = 16 + len(content)
    return kind.bytes_le + struct.pack("<III", 28 + size, 0, size) + SHIM_LOCK.bytes_le + content


@dataclass(frozen=True, slots=True)
class Shim:
    """A shim: the certificate of its vendor (DER), the vendor's revocations (signature lists), and its SBAT level."""

    certificate: bytes
    revoked: bytes
    level: bytes

    @classmethod
    def read(cls, image: PeImage) -> Shim:
        """Raises MalformedError when ``image`` is no shim, UsageError for one that is not understood."""
        ident = _IDENT.search(_content(image, ".data.ident"))
        if ident is None:
            raise MalformedError("not shim: it does not say its version")
        if ident[1] != _VERSION.encode():
            raise UsageError(
                "boot-unknown",
                f"what shim {ident[1].decode('ascii', 'replace')} measures is not known here, only that of {_VERSION}",
                hint="capture this component from a host, and please tell us",
            )
        certificate, revoked = _vendor(_content(image, ".vendor_cert"))
        return cls(certificate, revoked, _level(_content(image, ".sbatlevel")))

    def start(self, measure: Measure, *, secure_boot: bool) -> list[Predicted]:
        """What shim measures before it loads the next program: PCR 14 and its SBAT level."""
        owned = _list(_X509, self.certificate) if self.certificate else _list(_SHA256, bytes(32))
        revoked = self.revoked or _list(_SHA256, bytes(32))
        level = self.level if secure_boot else _ORIGINAL_LEVEL
        return [
            measure.data(14, owned, "MokList: the certificate of shim's vendor"),
            measure.data(14, revoked, "MokListX: what shim's vendor revoked"),
            authority(measure, SHIM_LOCK, "SbatLevel", level, f"SbatLevel: {level.decode('ascii').splitlines()[0]}"),
            measure.data(14, b"\1", "MokListTrusted: keys of the owner are trusted"),
        ]

    def vouch(self, measure: Measure) -> Predicted:
        """The first time that the vendor's certificate lets a program run."""
        entry = SHIM_LOCK.bytes_le + self.certificate
        return authority(measure, SHIM_LOCK, "MokListRT", entry, "allowed by the certificate of shim's vendor")

    def check(self, image: PeImage, what: str) -> None:
        """Raise UsageError unless the vendor's certificate vouches for ``image``."""
        if not any(vouching_path(signed, self.certificate) for signed in read_signatures(image)):
            raise UsageError("secure-boot", f"{what}: the certificate of shim's vendor does not vouch for it")


def _content(image: PeImage, name: str) -> bytes:
    section = image.section(name)
    if section is None:
        raise MalformedError(f"not shim: it has no section {name}")
    return image.content(section)


def _vendor(table: bytes) -> tuple[bytes, bytes]:
    """cert_table: two sizes, and where the two parts begin in the section (shim, cert.S)."""
    if len(table) < 16:
        raise MalformedError("shim: its vendor table is cut short")
    sizes = struct.unpack_from("<4I", table)
    parts = []
    for size, start in ((sizes[0], sizes[2]), (sizes[1], sizes[3])):
        if start + size > len(table):
            raise MalformedError("shim: its vendor table goes on beyond its section")
        parts.append(table[start : start + size])
    if parts[0] and not parts[0].startswith(b"\x30"):
        raise UsageError("boot-unknown", "a shim with a vendor's database instead of one certificate")
    return parts[0], parts[1]


def _level(section: bytes) -> bytes:
    """The revocations that shim applies by itself: the older of the two that it carries (shim, include/sbat_var.S)."""
    if len(section) < 12:
        raise MalformedError("shim: its SBAT level is cut short")
    version, previous = struct.unpack_from("<II", section)
    if version != 0:
        raise UsageError("boot-unknown", f"an SBAT level section of version {version}")
    text, end, _ = section[4 + previous :].partition(b"\0")
    if not end or not text.startswith(b"sbat,") or not text.isascii():
        raise MalformedError("shim: its SBAT level is not a text")
    return text
