"""The evidence of one host: each bound and each order of its PCR values, and nothing behind it."""

from __future__ import annotations

import pytest

from watchword.errors import MalformedError
from watchword.wire.evidence import Evidence, Purpose
from watchword.wire.tpm.algorithms import Alg

SHA1, SHA256 = int(Alg.SHA1).to_bytes(2, "big"), int(Alg.SHA256).to_bytes(2, "big")


def with_pcrs(block: bytes) -> bytes:
    """Evidence whose PCR values are ``block``; the rest is in order."""
    parts = {"host_id": b"h" * 32, "nonce": b"n" * 48, "purpose": Purpose.LAUNCH, "token": "WWT1x", "instance": "i"}
    logs = {"event_log": b"log", "ima_from": 0, "ima_log": b"ima"}
    data = Evidence(**parts, attest=b"PLACE", signature=b"HERE", pcrs={}, **logs).encode()  # type: ignore[arg-type]
    assert data.count(b"HERE\0") == 1
    return data.replace(b"HERE\0", b"HERE" + block)


def refused(data: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        Evidence.parse(data)


def bank(number: bytes, *values: int, count: int | None = None) -> bytes:
    size = 20 if number == SHA1 else 32
    listed = b"".join(bytes((index,)) + bytes(size) for index in values)
    return number + bytes((len(values) if count is None else count,)) + listed


def test_good_evidence() -> None:
    data = with_pcrs(b"\2" + bank(SHA1, 0) + bank(SHA256, *range(24)))
    found = Evidence.parse(data)
    assert {alg: sorted(values) for alg, values in found.pcrs.items()} == {Alg.SHA1: [0], Alg.SHA256: [*range(24)]}
    assert found.encode() == data


def test_a_bank_may_have_no_values() -> None:
    assert Evidence.parse(with_pcrs(b"\1" + bank(SHA256))).pcrs == {Alg.SHA256: {}}


def test_only_evidence_for_a_share_names_a_run() -> None:
    data = with_pcrs(b"\0")
    share = data[:80] + b"\3" + b"r" * 16 + data[81:]
    found = Evidence.parse(share)
    assert (found.purpose, found.run, found.encode()) == (Purpose.SHARE, b"r" * 16, share)
    refused(data[:80] + b"\3" + data[81:], "evidence")
    assert Evidence.parse(data).run == b""


def test_nothing_may_follow() -> None:
    refused(with_pcrs(b"\0") + b"\0", "trailing")


def test_banks_have_one_order_and_stand_once() -> None:
    refused(with_pcrs(b"\2" + bank(SHA256, 0) + bank(SHA1, 0)), "banks are not in ascending order")
    refused(with_pcrs(b"\2" + bank(SHA256, 0) + bank(SHA256, 1)), "banks are not in ascending order")


@pytest.mark.parametrize("values", [(24,), (0, 255), (1, 0), (1, 1)])
def test_pcr_numbers(values: tuple[int, ...]) -> None:
    refused(with_pcrs(b"\1" + bank(SHA256, *values)), "PCR numbers are not ascending from 0 to 23")


def test_counts_are_looked_at_before_what_they_count() -> None:
    refused(with_pcrs(b"\xff"), "255 PCR banks, at most")
    refused(with_pcrs(b"\1" + bank(SHA256, count=25)), "25 PCR values, at most 24")


def test_a_bank_that_no_tpm_has() -> None:
    refused(with_pcrs(b"\1\0\1\0"), "0x0001 is not a PCR bank")
