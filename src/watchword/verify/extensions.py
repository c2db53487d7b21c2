"""The extensions of a maker's certificate that decide something (RFC 5280, 4.2; TCG EK Credential Profile, 3.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from watchword.verify.der import BOOLEAN, INTEGER, SEQUENCE, Der, explicit
from watchword.verify.distinguished_name import Attribute, attributes

__all__ = ["EKU_ANY", "EKU_EK_CERTIFICATE", "Extensions", "KeyUsage", "read_extensions", "read_tpm_names"]

EKU_EK_CERTIFICATE: Final = "2.23.133.8.1"  # tcg-kp-EKCertificate
EKU_ANY: Final = "2.5.29.37.0"

_BASIC, _USAGE, _EXTENDED, _ALTERNATIVE = "2.5.29.19", "2.5.29.15", "2.5.29.37", "2.5.29.17"
_CONSTRAINTS: Final = ("2.5.29.30", "2.5.29.36", "2.5.29.54", "2.5.29.33")  # names, policies, any policy, mappings
_MAX_EXTENSIONS: Final = 32
_MAX_PURPOSES: Final = 32
_MAX_PATH: Final = 64
# What may be critical. Policies restrict nothing for who asks for none (RFC 5280, 6.1); the identifiers of keys and the
# alternative name are hints.
_KNOWN: Final = frozenset({_BASIC, _USAGE, _EXTENDED, _ALTERNATIVE, "2.5.29.32", "2.5.29.14", "2.5.29.35"})


class KeyUsage(IntEnum):
    """The bits of the key usage that matter here."""

    KEY_ENCIPHERMENT = 2
    KEY_AGREEMENT = 4
    KEY_CERT_SIGN = 5
    CRL_SIGN = 6


@dataclass(frozen=True, slots=True)
class Extensions:
    """What the extensions say. None: the extension is absent.

    ``path_length`` is the number of authorities that may follow; ``purposes`` the extended key usage;
    ``alternative_name`` the encoded subject alternative name; ``unknown`` the critical ones that are not understood;
    ``constrained`` tells whether names or policies below are constrained.
    """

    is_ca: bool | None = None
    path_length: int | None = None
    usage: frozenset[int] | None = None
    purposes: tuple[str, ...] | None = None
    alternative_name: bytes | None = None
    unknown: tuple[str, ...] = ()
    constrained: bool = False


@dataclass(slots=True)
class _Found:
    values: dict[str, bytes] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def read_extensions(wrapper: Der) -> Extensions:
    """Read the contents of the ``[3]`` of a certificate: each extension once, 32 at most. Raises MalformedError."""
    found = _collect(wrapper)
    values = found.values
    is_ca, path_length = _read_basic(wrapper, values.get(_BASIC))
    if _ALTERNATIVE in values:
        read_tpm_names(wrapper.of(values[_ALTERNATIVE]))
    return Extensions(
        is_ca,
        path_length,
        _read_usage(wrapper, values.get(_USAGE)),
        _read_purposes(wrapper, values.get(_EXTENDED)),
        values.get(_ALTERNATIVE),
        tuple(found.unknown),
        any(oid in values for oid in _CONSTRAINTS),
    )


def _collect(wrapper: Der) -> _Found:
    found, listed = _Found(), wrapper.inside(SEQUENCE)
    wrapper.finish()
    while listed.more:
        inner = listed.inside(SEQUENCE)
        oid = inner.identifier()
        critical = inner.boolean() if inner.next_is(BOOLEAN) else False
        value = inner.octets()
        inner.finish()
        if oid in found.values or len(found.values) == _MAX_EXTENSIONS:
            raise listed.fail(f"extension {oid} is there twice, or there are more than {_MAX_EXTENSIONS}")
        found.values[oid] = value
        if critical and oid not in _KNOWN and oid not in _CONSTRAINTS:
            found.unknown.append(oid)
    return found


def _read_basic(wrapper: Der, value: bytes | None) -> tuple[bool | None, int | None]:
    if value is None:
        return None, None
    outer = wrapper.of(value)
    inner = outer.inside(SEQUENCE)
    is_ca = inner.boolean() if inner.next_is(BOOLEAN) else False
    path_length = inner.integer() if inner.next_is(INTEGER) else None
    inner.finish()
    outer.finish()
    if path_length is not None and (not is_ca or not 0 <= path_length <= _MAX_PATH):
        raise outer.fail("a path length is out of range, or where no authority is")
    return is_ca, path_length


def _read_usage(wrapper: Der, value: bytes | None) -> frozenset[int] | None:
    if value is None:
        return None
    inner = wrapper.of(value)
    bits = inner.named_bits()
    inner.finish()
    return bits


def _read_purposes(wrapper: Der, value: bytes | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    outer = wrapper.of(value)
    inner, purposes = outer.inside(SEQUENCE), list[str]()
    outer.finish()
    while inner.more and len(purposes) < _MAX_PURPOSES:
        purposes.append(inner.identifier())
    inner.finish()
    if not purposes:
        raise outer.fail("an extended key usage without a purpose")
    return tuple(purposes)


def read_tpm_names(outer: Der) -> tuple[Attribute, ...]:
    """The attributes in the directory names of a subject alternative name: the TPM's maker, model and version.

    ``outer`` reads the extension's value. Raises MalformedError.
    """
    names, found = outer.inside(SEQUENCE), list[Attribute]()
    outer.finish()
    while names.more:
        if names.next_is(explicit(4)):
            choice = names.inside(explicit(4))
            found += (each for part in attributes(choice.inside(SEQUENCE)) for each in part)
            choice.finish()
        else:
            names.any()
    return tuple(found)
