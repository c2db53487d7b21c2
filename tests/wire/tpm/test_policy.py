"""Policy digests against files made with a TPM simulator."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchword.wire.tpm.algorithms import Alg, hash_name
from watchword.wire.tpm.pcr import PcrSelection, pcr_digest
from watchword.wire.tpm.policy import (
    RH_ENDORSEMENT,
    Operation,
    policy_auth_value,
    policy_authorize,
    policy_command_code,
    policy_counter_timer,
    policy_nv,
    policy_or,
    policy_pcr,
    policy_secret,
    policy_signed,
    start,
)
from watchword.wire.tpm.templates import EkKind, ek_policy

ENDORSEMENT = RH_ENDORSEMENT.to_bytes(4, "big")


@pytest.fixture
def folder(corpus: Path) -> Path:
    return corpus / "kgoldman+ibmtss/policy"


@pytest.mark.parametrize(
    ("name", "command"), [("sign", 0x15D), ("quote", 0x158), ("certify", 0x148), ("activate", 0x147)]
)
def test_command_code(folder: Path, name: str, command: int) -> None:
    expected = (folder / f"policycc{name}.bin").read_bytes()
    assert policy_command_code(start(), command) == expected


def test_auth_value_after_command_code(folder: Path) -> None:
    expected = (folder / "policyccsign-auth.bin").read_bytes()
    assert policy_auth_value(policy_command_code(start(), 0x15D)) == expected


@pytest.mark.parametrize("alg", [Alg.SHA1, Alg.SHA256, Alg.SHA384, Alg.SHA512])
def test_pcr_16_extended_once(folder: Path, alg: Alg) -> None:
    name, selection = hash_name(alg), (PcrSelection(alg, (16,)),)
    value = (folder / f"{name}extaaa0.bin").read_bytes()
    quoted = pcr_digest(alg, selection, {alg: {16: value}})
    expected = (folder / f"policypcr16aaa{name}.bin").read_bytes()
    assert policy_pcr(start(alg), selection, quoted, alg) == expected


def test_counter_timer(folder: Path) -> None:
    expected = (folder / "policycountertimer.bin").read_bytes()
    assert policy_counter_timer(start(), bytes(8), 0, Operation.SIGNED_GT) == expected


def test_endorsement_key_policies(folder: Path) -> None:
    policy_a = policy_secret(start(), ENDORSEMENT)
    assert policy_a == ek_policy(EkKind.RSA2048) == ek_policy(EkKind.P256)
    for kind, alg in ((EkKind.P256_H, Alg.SHA256), (EkKind.P384, Alg.SHA384)):
        name = "sha256" if alg is Alg.SHA256 else "sha384"
        policy_c = (folder / f"policyiwgekc{name}.bin").read_bytes()
        first = policy_secret(start(alg), ENDORSEMENT, b"", alg)
        assert policy_or([first, policy_c], alg) == ek_policy(kind)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_or_takes_two_to_eight(count: int) -> None:
    with pytest.raises(ValueError):
        policy_or([bytes(32)] * count)


def test_every_argument_counts() -> None:
    selection = (PcrSelection(Alg.SHA256, (0,)),)
    name = b"\x00\x0b" + bytes(32)
    variants = [
        policy_pcr(start(), selection, bytes(32)),
        policy_pcr(start(), (PcrSelection(Alg.SHA256, (1,)),), bytes(32)),
        policy_pcr(start(), selection, bytes(31) + b"1"),
        policy_pcr(bytes(31) + b"1", selection, bytes(32)),
        policy_counter_timer(start(), bytes(8), 8, Operation.EQ),
        policy_counter_timer(start(), bytes(8), 16, Operation.EQ),
        policy_counter_timer(start(), bytes(8), 8, Operation.UNSIGNED_LT),
        policy_nv(start(), bytes(8), 0, Operation.UNSIGNED_LE, name),
        policy_nv(start(), bytes(8), 0, Operation.UNSIGNED_LE, name[:-1] + b"1"),
        policy_secret(start(), name),
        policy_secret(start(), name, b"ref"),
        policy_signed(start(), name),
        policy_authorize(name),
        policy_authorize(name, b"ref"),
    ]
    assert len(set(variants)) == len(variants)
