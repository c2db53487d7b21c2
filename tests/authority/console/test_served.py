"""The console as an operator gets it: one option of one command, with an access file beside the store."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from watchword.authority.keys.keyring import Keyring
from watchword.testing.people import ClientFiles, PeopleCa, access_file


@contextmanager
def served(folder: Path, *options: str) -> Iterator[tuple[str, Path]]:
    """The address of a running service, and its directory."""
    ready, data = folder / "ready.json", folder / "data"
    arguments = ["authority", "serve", "--listen", "127.0.0.1:0", "--data", str(data), "--ready-file", str(ready)]
    program = "from watchword.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        yield json.loads(ready.read_text())["url"], data
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        ready.unlink(missing_ok=True)


def get(url: str, data: Path, person: ClientFiles) -> httpx2.Response:
    context = ssl.create_default_context(cadata=Keyring.load(data / "keyring").key_list.tls_ca)
    context.load_cert_chain(person.certificate, person.key)
    with httpx2.Client(verify=context, timeout=30) as client:
        return client.get(f"{url}/console")


def test_the_console_is_there_when_it_is_asked_for(tmp_path: Path) -> None:
    people = PeopleCa.make(tmp_path)
    ada, client_ca = people.issue("ada"), ("--client-ca", str(people.file))
    with served(tmp_path, *client_ca) as (url, data):
        assert get(url, data, ada).status_code == 404
    with served(tmp_path, *client_ca, "--console") as (url, data):
        assert get(url, data, ada).status_code == 401  # a certificate alone makes nobody anybody
        access_file(data / "access.toml", {"ada": ("auditor",)})
        answer = get(url, data, ada)
        assert answer.status_code == 200
        assert "Hosts are judged by no profile yet" in answer.text
        assert "script-src 'none'" in answer.headers["content-security-policy"]
