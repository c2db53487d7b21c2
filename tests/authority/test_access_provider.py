"""Tokens of an OpenID provider that somebody else wrote, from a login to an act."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from watchword.authority.access import Access, Role
from watchword.authority.serving.problems import Problem
from watchword.testing.issuer import server_files
from watchword.testing.people import access_file

CLIENT = "watchword-cli"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Its address, and the certificate authority of its TLS."""
    chain, ca_file = server_files(tmp_path_factory.mktemp("provider"))
    command = [sys.executable, str(Path(__file__).with_name("oidc_provider.py")), str(chain)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        assert child.stdout is not None
        port = child.stdout.readline().strip()
        assert port, "the provider did not start"
        yield f"https://localhost:{port}", ca_file
        child.kill()


def log_in(url: str, ca_file: Path, subject: str) -> str:
    """The authorization code flow as a browser goes through it (OpenID Connect Core 1.0 section 3.1)."""
    asked = {"client_id": CLIENT, "redirect_uri": "http://localhost/", "response_type": "code", "scope": "openid"}
    with httpx2.Client(base_url=url, verify=ssl.create_default_context(cafile=ca_file)) as client:
        sent = client.post("/oauth2/authorize", params=asked, data={"sub": subject})
        code = parse_qs(urlsplit(sent.headers["Location"]).query)["code"][0]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": "http://localhost/"}
        answer = client.post("/oauth2/token", data=form, auth=(CLIENT, "secret"))
    token: str = answer.json()["id_token"]
    return token


def access_to(provider: tuple[str, Path], directory: Path, audience: str = CLIENT) -> Access:
    url, ca_file = provider
    lines = {"url": url, "ca_file": str(ca_file), "audience": audience}
    text = "\n".join(f"{name} = {json.dumps(value)}" for name, value in lines.items())
    access_file(directory / "access.toml", {}, f'[issuer]\n{text}\n[issuer.roles]\nwg-auditor = ["auditor"]')
    return Access(directory / "access.toml")


def test_from_a_login_to_a_role(provider: tuple[str, Path], tmp_path: Path) -> None:
    caller = access_to(provider, tmp_path).by_token(log_in(*provider, "alice"), None)
    assert (caller.actor, caller.roles) == ("token:alice", {Role.AUDITOR})


def test_somebody_without_a_group(provider: tuple[str, Path], tmp_path: Path) -> None:
    caller = access_to(provider, tmp_path).by_token(log_in(*provider, "bob"), None)
    assert (caller.actor, caller.roles) == ("token:bob", frozenset())


def test_a_token_for_another_application(provider: tuple[str, Path], tmp_path: Path) -> None:
    with pytest.raises(Problem) as caught:
        access_to(provider, tmp_path, "another").by_token(log_in(*provider, "alice"), None)
    assert caught.value.code == "unauthenticated"
