"""A short, repeatable run of ``bin/fuzz api``: a real authority answers anything as its description says."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT


def test_the_service_answers_as_it_is_described() -> None:
    command = [sys.executable, ROOT / "fuzz" / "api.py", "--examples", "6", "--seed", "1", "--public"]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout
    assert run.stdout.count("No issues found") == 2
