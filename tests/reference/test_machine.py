"""What is predicted is what real firmware, boot loaders and kernels measure."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.reference import machines
from tests.reference.machines import Case

from watchword.cli.main import run
from watchword.policy.command_line import known_command_line
from watchword.policy.match import StackMatch, match
from watchword.policy.stack import CompiledStack
from watchword.testing.soft_tpm import SoftTpm
from watchword.verify.boot_log import VerifiedBootLog, verify_boot_log
from watchword.wire.tcg_log import EventLog
from watchword.wire.tpm.algorithms import Alg, digest_size

CASES: dict[str, Callable[[], Case]] = {
    "uki-extras": machines.uki_extras,
    "loader-uki": partial(machines.loader_uki, secure=False),
    "loader-uki-secure": partial(machines.loader_uki, secure=True),
    "loader-entry": machines.loader_entry,
    "shim-grub": machines.shim_grub,
    "direct": partial(machines.direct, 512),
    "direct-3g": partial(machines.direct, 3072),
}


def real_pcrs(text: bytes, bank: str) -> dict[str, str]:
    rows = (line.split() for line in text.decode().splitlines())
    return {path.rpartition("/")[2]: value.lower() for path, value in rows if f"/pcr-{bank}/" in path}


def verified(soft: SoftTpm, log: EventLog, values: dict[str, str], bank: Alg) -> VerifiedBootLog:
    """The log, verified against the quoted values: those that the machine read from its TPM."""
    quoted = {int(pcr): bytes.fromhex(value) for pcr, value in values.items() if int(pcr) <= 14 and int(pcr) != 10}
    return verify_boot_log(log, soft.verified_pcrs(bank, quoted), bank)


@pytest.mark.vm
@pytest.mark.parametrize("name", CASES)
def test_a_real_boot(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = CASES[name]()
    release = case.write(tmp_path)
    release.write_text(release.read_text().replace("serial = 1\n", 'serial = 1\nbanks = ["sha256", "sha384"]\n'))
    evidence = case.boot(tmp_path)
    output = tmp_path / "compute.json"
    assert run(["stack", "measure", str(release), "-o", str(output), "--json"]) == 0
    [prediction] = json.loads(capsys.readouterr().out)["predictions"]
    stack, log = CompiledStack.parse(output.read_bytes()), EventLog.parse(evidence["eventlog.bin"])
    for bank, alg in (("sha256", Alg.SHA256), ("sha384", Alg.SHA384)):
        real = real_pcrs(evidence["pcrs.txt"], bank)
        zero = "0" * 2 * digest_size(alg)
        assert {pcr: prediction["pcrs"][bank].get(str(pcr), zero) for pcr in stack.pcrs} == {
            pcr: real[str(pcr)] for pcr in stack.pcrs
        }
        real_log = verified(SoftTpm.create(), log, real, alg)
        found = match(stack, real_log)
        assert isinstance(found, StackMatch), found
        known = known_command_line(real_log, found)
        assert known is not None, "profile rules about the command line hold for this kind of boot"
        assert set(machines.CMDLINE.split()) <= set(known.kernel)


@pytest.mark.vm
@pytest.mark.parametrize("with_shim", [False, True])
def test_grub_without_secure_boot(with_shim: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It enters the kernel without the EFI stub, and so the kernel has no event log: the values are as predicted."""
    case = machines.without_secure_boot(with_shim=with_shim)
    release = case.write(tmp_path)
    evidence = case.boot(tmp_path)
    assert run(["stack", "measure", str(release), "-o", str(tmp_path / "s.json"), "--json"]) == 0
    [prediction] = json.loads(capsys.readouterr().out)["predictions"]
    real = real_pcrs(evidence["pcrs.txt"], "sha256")
    assert evidence["eventlog.bin"] == b""
    pcrs = ["4", "7", "8", "9", *(["14"] if with_shim else [])]
    assert {pcr: real[pcr] for pcr in pcrs} == prediction["pcrs"]["sha256"]
