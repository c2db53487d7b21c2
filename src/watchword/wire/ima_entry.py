"""One entry of the kernel's runtime log: its template, its fields, the file that it is about.

Source: Linux, security/integrity/ima: ima_template.c, ima_template_lib.c. Nothing here is verified.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from watchword.errors import MalformedError
from watchword.wire.tpm.algorithms import Alg, digest, digest_size

__all__ = ["TEMPLATES", "AppendedSignature", "ImaEntry", "MeasuredFile", "PortableSignature", "template_digest"]

_LE32 = struct.Struct("<I")

#: The fields of each template that the kernel defines. Any other name may be a list of fields, "d-ng|n-ng|sig".
TEMPLATES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ima": ("d", "n"),
        "ima-ng": ("d-ng", "n-ng"),
        "ima-ngv2": ("d-ngv2", "n-ng"),
        "ima-sig": ("d-ng", "n-ng", "sig"),
        "ima-sigv2": ("d-ngv2", "n-ng", "sig"),
        "ima-buf": ("d-ng", "n-ng", "buf"),
        "ima-modsig": ("d-ng", "n-ng", "sig", "d-modsig", "modsig"),
        "evm-sig": (
            "d-ng", "n-ng", "evmsig", "xattrnames", "xattrlengths", "xattrvalues", "iuid", "igid", "imode",
        ),
    }
)  # fmt: skip
_FIELDS = frozenset(name for fields in TEMPLATES.values() for name in fields)
_PORTABLE = TEMPLATES["evm-sig"][2:]
_HASH_SIZES = {
    b"md5": 16, b"sha1": 20, b"rmd160": 20, b"sha224": 28, b"sha256": 32, b"sha384": 48, b"sha512": 64,
    b"wp256": 32, b"wp384": 48, b"wp512": 64, b"tgr128": 16, b"tgr160": 20, b"tgr192": 24, b"sm3": 32,
    b"sm3-256": 32, b"sm3_256": 32, b"streebog256": 32, b"streebog512": 64,
    b"sha3-256": 32, b"sha3-384": 48, b"sha3-512": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AppendedSignature:
    """A PKCS#7 message at the end of a file, and the digest of what stands before it, by the kernel's name."""

    algorithm: str
    digest: bytes
    message: bytes


@dataclass(frozen=True, slots=True)
class PortableSignature:
    """The ``security.evm`` attribute, and all that it signs, each field as it was logged."""

    attribute: bytes
    names: bytes
    lengths: bytes
    values: bytes
    uid: bytes
    gid: bytes
    mode: bytes


@dataclass(frozen=True, slots=True)
class MeasuredFile:
    """What one entry says about a file or a buffer.

    ``path`` is whatever the host wrote: any bytes but NUL, control characters included. ``algorithm`` is the kernel's
    name ("sha256"), ``kind`` "ima" or "verity" in the v2 templates, ``signature`` and ``buffer`` are None when absent.
    ``others`` are signatures that are not over the digest itself.
    """

    path: bytes
    algorithm: str
    digest: bytes
    kind: str = "ima"
    signature: bytes | None = None
    buffer: bytes | None = None
    others: tuple[AppendedSignature | PortableSignature, ...] = ()


class ImaEntry(NamedTuple):
    """One measurement. A named tuple, since logs have a hundred thousand of them and this is four times cheaper.

    ``number`` counts from 0; ``data`` is exactly what the template digest covers, in the old "ima" template with
    the name padded.
    """

    number: int
    pcr: int
    digest: bytes
    template: str
    data: bytes

    @property
    def violation(self) -> bool:
        """True for an entry that is extended as all-ones because its measurement could not be trusted."""
        return not any(self.digest)

    def fields(self) -> dict[str, bytes]:
        """The template's fields by name, raw.

        Raises MalformedError when the template is not known or the data does not consist of exactly its fields.
        """
        names = TEMPLATES.get(self.template)
        if names is None:
            names = tuple(self.template.split("|"))
            if not _FIELDS.issuperset(names) or len(set(names)) != len(names):
                raise MalformedError(f"IMA entry {self.number}: unknown template {self.template!r}")
        if self.template == "ima":
            return {"d": self.data[:20], "n": self.data[20:].rstrip(b"\0")}
        data, pos, values = self.data, 0, {}
        for name in names:
            start = pos + 4
            if start > len(data):
                raise MalformedError(f"IMA entry {self.number}: field {name!r} is missing")
            pos = start + _LE32.unpack_from(data, pos)[0]
            if pos > len(data):
                raise MalformedError(f"IMA entry {self.number}: field {name!r} is cut short")
            values[name] = data[start:pos]
        if pos != len(data):
            raise MalformedError(f"IMA entry {self.number}: bytes after the last field")
        return values

    def file(self) -> MeasuredFile:
        """The measured file: path, digest with its algorithm, signature. Raises MalformedError like :meth:`fields`."""
        values = self.fields()
        path = values.get("n-ng", values.get("n", b"\0")).removesuffix(b"\0")
        if b"\0" in path:
            raise MalformedError(f"IMA entry {self.number}: the path has a NUL in it or is missing")
        kind, algorithm, digest = self._digest_field(values)
        signature = values.get("sig") or values.get("evmsig") or None
        return MeasuredFile(path, algorithm, digest, kind, signature, values.get("buf"), self._others(values))

    def _digest_field(self, values: Mapping[str, bytes]) -> tuple[str, str, bytes]:
        """Kind, algorithm and digest out of d ("…"), d-ng ("alg:\\0…") or d-ngv2 ("kind:alg:\\0…")."""
        if "d" in values:
            old = values["d"]
            if len(old) not in (16, 20):
                raise MalformedError(f"IMA entry {self.number}: a digest of {len(old)} bytes")
            return "ima", "sha1" if len(old) == 20 else "md5", old
        return self._labelled(values.get("d-ngv2", values.get("d-ng", b"")), kinds="d-ngv2" in values)

    def _labelled(self, field: bytes, *, kinds: bool) -> tuple[str, str, bytes]:
        label, _, digest = field.partition(b":\0")
        kind, colon, algorithm = label.rpartition(b":")
        if kinds != bool(colon) or kind not in (b"", b"ima", b"verity"):
            raise MalformedError(f"IMA entry {self.number}: not a digest field of its template")
        if _HASH_SIZES.get(algorithm) != len(digest):  # without a colon and a NUL there is no digest
            raise MalformedError(f"IMA entry {self.number}: digest and algorithm do not fit together")
        return kind.decode() or "ima", algorithm.decode(), digest

    def _others(self, values: Mapping[str, bytes]) -> tuple[AppendedSignature | PortableSignature, ...]:
        """Nothing for a violation: its digests are zeros of another size, and no signature could make it good."""
        others: list[AppendedSignature | PortableSignature] = []
        if values.get("modsig") and values.get("d-modsig") and not self.violation:
            _, algorithm, digest = self._labelled(values["d-modsig"], kinds=False)
            others.append(AppendedSignature(algorithm, digest, values["modsig"]))
        if values.get("evmsig") and values.keys() >= set(_PORTABLE) and not self.violation:
            others.append(PortableSignature(*(values[name] for name in _PORTABLE)))
        return tuple(others)


def template_digest(entry: ImaEntry, bank: Alg) -> bytes:
    """What the kernel extends for this entry: ``bank``'s hash of the template data, or all-ones for a violation."""
    if entry.violation:
        return b"\xff" * digest_size(bank)
    return digest(bank, entry.data)
