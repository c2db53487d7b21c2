"""Key templates."""

from __future__ import annotations

import pytest

from watchword.errors import MalformedError
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.public import Attributes, Public
from watchword.wire.tpm.schemes import EccPoint
from watchword.wire.tpm.templates import AK_TEMPLATE, EkKind, ek_template, nv_certificate_index

LOW_RSA = (
    "0001 000b 000300b2 0020 837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"
    "0006 0080 0043 0010 0800 00000000 0100" + "00" * 256
)


def test_rsa_template_is_that_of_the_profile() -> None:
    assert ek_template(EkKind.RSA2048).encode() == bytes.fromhex(LOW_RSA)


@pytest.mark.parametrize("kind", EkKind)
def test_every_kind_has_its_own_template_and_index(kind: EkKind) -> None:
    template = ek_template(kind)
    assert Public.parse(template.encode()) == template
    assert Attributes.RESTRICTED | Attributes.DECRYPT in template.attributes
    assert Attributes.SIGN not in template.attributes
    assert len({nv_certificate_index(other) for other in EkKind}) == len(EkKind)
    unique = bytes(256) if template.type is Alg.RSA else EccPoint(b"x" * 32, b"y" * 32)
    assert ek_template(kind, unique).unique == unique
    with pytest.raises(MalformedError):
        ek_template(kind, EccPoint(b"", b"") if template.type is Alg.RSA else b"")


def test_attestation_key_signs_and_does_not_decrypt() -> None:
    assert Attributes.SIGN | Attributes.RESTRICTED in AK_TEMPLATE.attributes
    assert Attributes.DECRYPT not in AK_TEMPLATE.attributes
