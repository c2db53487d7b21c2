"""What a quote is bound to (clause B5), field by field."""

from __future__ import annotations

from typing import Any

import pytest

from watchword.wire.evidence import Purpose, binding

FIELDS: dict[str, Any] = {
    "host_id": b"h" * 32,
    "nonce": b"n" * 48,
    "purpose": Purpose.LAUNCH,
    "token": "WWT1token",
    "instance": "vm-1",
    "reply_key": b"r" * 32,
}
OTHER: dict[str, Any] = {
    "host_id": b"i" * 32,
    "nonce": b"m" * 48,
    "purpose": Purpose.ATTEST,
    "token": "WWT1other",
    "instance": "vm-2",
    "reply_key": b"s" * 32,
}


@pytest.mark.parametrize("field", list(FIELDS))
def test_every_field_counts(field: str) -> None:
    """replayed evidence: no field that the authority relies on can be exchanged under a quote (B5)"""
    assert binding(**FIELDS) != binding(**{**FIELDS, field: OTHER[field]})


def test_fields_cannot_flow_into_each_other() -> None:
    """token on a second instance: the end of the token is not the start of the instance (B5)"""
    assert binding(**{**FIELDS, "token": "WWT1a", "instance": "bc"}) != binding(
        **{**FIELDS, "token": "WWT1ab", "instance": "c"}
    )
