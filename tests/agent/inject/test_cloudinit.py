"""The vendor data is YAML that means exactly one thing."""

from __future__ import annotations

import json
import subprocess

from watchword.agent.inject.cloudinit import vendor_data, vendor_data_json
from watchword.crypto.ssh_key import SshHostKey


def test_the_document_is_indented_so_that_the_key_is_one_block(host_key: SshHostKey) -> None:
    lines = vendor_data(host_key).splitlines()
    start = lines.index("  ed25519_private: |")
    block = [line for line in lines[start + 1 :] if line.startswith("    ")]
    assert "\n".join(line[4:] for line in block) + "\n" == host_key.private_openssh.decode()
    assert lines[start + 1 + len(block)] == f'  ed25519_public: "{host_key.public_openssh}"'
    assert lines[:2] == ["#cloud-config", "ssh_deletekeys: true"]
    assert len(lines) == start + len(block) + 2


def test_the_json_form_holds_the_text(host_key: SshHostKey) -> None:
    assert json.loads(vendor_data_json(host_key)) == {"cloud-init": vendor_data(host_key)}


def test_ssh_keygen_reads_both_halves(host_key: SshHostKey, tmp_path: object) -> None:
    path = f"{tmp_path}/key"
    with open(path, "wb") as file:
        file.write(host_key.private_openssh)
    subprocess.run(["chmod", "600", path], check=True)
    found = subprocess.run(["ssh-keygen", "-y", "-f", path], check=True, capture_output=True, text=True)
    assert found.stdout.split()[:2] == host_key.public_openssh.split()[:2]
