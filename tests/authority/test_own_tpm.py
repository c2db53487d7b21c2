"""The passphrase of the keys, sealed by systemd to the TPM of the authority's own machine."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.conftest import ROOT

from watchword.cli.main import run
from watchword.testing.farm import Farm, SwTpm

PASSPHRASE = b"a passphrase that nobody remembers\n"


def creds(tpm: SwTpm, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = ["systemd-creds", *arguments[:1], "--name=passphrase", f"--tpm2-device={tpm.tcti}", *arguments[1:]]
    return subprocess.run(command, input=given, capture_output=True, timeout=60, check=False)


@pytest.mark.skipif(shutil.which("systemd-creds") is None, reason="systemd-creds is not installed")
def test_keys_open_with_what_this_tpm_unseals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sealed, plain, data = tmp_path / "passphrase.cred", tmp_path / "passphrase", tmp_path / "data"
    with Farm(2) as farm:
        tpm, other = farm.tpms
        made = creds(tpm, "encrypt", "--with-key=tpm2", "-", str(sealed), given=PASSPHRASE)
        if made.returncode != 0 and b"TPM2 support" in made.stderr:
            pytest.skip("this systemd-creds has no TPM support")
        assert made.returncode == 0, made.stderr
        assert PASSPHRASE.strip() not in sealed.read_bytes()
        elsewhere = creds(other, "decrypt", str(sealed), "-")
        assert elsewhere.returncode != 0
        assert PASSPHRASE not in elsewhere.stdout
        opened = creds(tpm, "decrypt", str(sealed), "-")
        assert opened.stdout == PASSPHRASE
        plain.write_bytes(opened.stdout)
    monkeypatch.setenv("WATCHWORD_PASSPHRASE_FILE", str(plain))
    assert run(["authority", "create", "--data", str(data), "--json"]) == 0
    keys = [file for path in (data / "keyring").glob("*.pem") if b"PRIVATE KEY" in (file := path.read_bytes())]
    assert len(keys) >= 7
    assert all(b"ENCRYPTED" in key for key in keys)
    assert run(["authority", "keys", "show", "--data", str(data), "--json"]) == 0
    capsys.readouterr()
    monkeypatch.delenv("WATCHWORD_PASSPHRASE_FILE")
    assert run(["authority", "keys", "show", "--data", str(data), "--json"]) != 0
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "key-passphrase"


def test_the_unit_reads_the_credential() -> None:
    lines = (ROOT / "packaging" / "watchword-authority-tpm.conf").read_text().splitlines()
    assert "LoadCredentialEncrypted=passphrase:/etc/watchword/passphrase.cred" in lines
    assert "Environment=WATCHWORD_PASSPHRASE_FILE=%d/passphrase" in lines
