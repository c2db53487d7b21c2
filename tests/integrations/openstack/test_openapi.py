"""Agent and status service say what they are: the description is OpenAPI, and what is described is what is answered."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from tests.conftest import ROOT

from watchword import __version__
from watchword.integrations.openstack.refusals import Refusal
from watchword.integrations.openstack.service import AgentService
from watchword.integrations.openstack.status_service import StatusConfig, Statuses, StatusServer

HOST, SERVER = "ab" * 32, str(UUID(int=7))
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "X")
# A word that fits its schema may still be nobody's server, token or base64 of this host's; a host that fails says 503.
CONFIG = """
request-timeout = 30.0
warnings = false
suppress-health-check = ["all"]
[cache]
enabled = false
[phases.stateful]
enabled = false
[checks.negative_data_rejection]
expected-statuses = [400, 404, 405, 411, 413]
"""
HOST_FAILS = """
[[operations]]
include-operation-id = "postVendordata"
[operations.checks.not_a_server_error]
enabled = false
"""


@dataclass
class Described:
    """A running service, and what fuzzing it need not hold."""

    url: str
    exceptions: str
    example: str = ""

    def document(self) -> dict[str, Any]:
        answer = httpx2.get(f"{self.url}/v1/openapi.json")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        found: dict[str, Any] = answer.json()
        return found

    def operations(self) -> set[tuple[str, str]]:
        return {(m.upper(), path) for path, methods in self.document()["paths"].items() for m in methods}


@pytest.fixture
def status() -> Iterator[Described]:
    """One host whose state has changed more often than the numbers are large that a fuzzer likes."""
    ranks = iter(range(1, 60))

    def ask(_question: Any) -> dict[str, Any]:
        return {HOST: {"state": "trusted", "rank": next(ranks), "level": "full", "until": time.time() + 600}}

    statuses = Statuses(StatusConfig("", "", ("boot", "full"), {HOST: "cmp1"}), ask)
    for _ in range(57):
        statuses.refresh()
    with StatusServer("127.0.0.1", 0, statuses) as server:
        server.refusals.add(Refusal(SERVER, "stack-none", "[E2] stack-none: a test"))
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield Described(server.url, "", f'[parameters]\nserver = "{SERVER}"\n')
        server.shutdown()
        thread.join()


@pytest.fixture(params=["agent", "status"])
def described(request: pytest.FixtureRequest) -> Described:
    """Both; the agent is a real one, whose host has a TPM, an authority and a libvirt."""
    if request.param == "status":
        found: Described = request.getfixturevalue("status")
        return found
    agent: AgentService = request.getfixturevalue("agent")
    return Described(agent.url, HOST_FAILS)


def test_the_document_is_openapi(described: Described) -> None:
    document = described.document()
    OpenAPIV31SpecValidator(document).validate()
    assert document["info"]["version"] == __version__
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names)) >= 3


def test_every_method_that_is_described_is_there_and_no_other(described: Described) -> None:
    operations = described.operations()
    for path in {path for _, path in operations}:
        allowed = {method for method, other in operations if other == path}
        allowed |= {"HEAD"} if "GET" in allowed else set()
        for method in METHODS:
            answer = httpx2.request(method, described.url + path.replace("{server}", SERVER), content=b"x")
            assert (answer.status_code == 405) == (method not in allowed), (method, path)
            assert answer.status_code not in (404, 501)
            if answer.status_code == 405:
                assert set(answer.headers["allow"].split(", ")) == allowed
                assert method == "HEAD" or answer.json()["type"].endswith("-method")


def test_a_head_is_all_that_a_head_gets(described: Described) -> None:
    host, _, port = described.url.removeprefix("http://").rpartition(":")
    for path, status in (("/v1/openapi.json", b"200"), ("/v1/nothing", b"404")):
        with socket.create_connection((host, int(port)), 10) as stream:
            stream.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            received = b"".join(iter(lambda: stream.recv(65536), b""))
        head, _, body = received.partition(b"\r\n\r\n")
        assert (head.split()[1], body) == (status, b"")


def test_what_is_not_described_is_not_there(described: Described) -> None:
    for path in ("/", "/v1", "/v1/openapi.json/", "/v1/nothing", "/v1/refusals/a/b", "/v1/hosts?older=1"):
        answer = httpx2.get(described.url + path)
        assert answer.status_code == 404
        assert answer.json()["type"].rpartition("-")[2] in ("route", "server")


def test_the_reference_lists_every_operation() -> None:
    from watchword.integrations.openstack import agent_api, status_api

    page = (ROOT / "docs" / "reference" / "openstack.md").read_text()
    for description in (agent_api.DESCRIPTION, status_api.DESCRIPTION):
        for path, methods in description.methods.items():
            shown = path.replace("{server}", "SERVER").replace("/OpenAttestationWebServices/V1.0", "\u2026")
            assert all(f"`{method} {shown}" in page for method in methods), path


@pytest.mark.parametrize("mode", ["all", "positive"])
def test_what_is_described_is_what_is_answered(described: Described, mode: str, tmp_path: Path) -> None:
    """A short, repeatable run of schemathesis; ids of the service's own in the second."""
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG + (described.example if mode == "positive" else "") + described.exceptions)
    program = Path(sys.executable).with_name("schemathesis")
    command = [program, "--config-file", config, "run", f"{described.url}/v1/openapi.json", "--mode", mode,
               "--max-examples", "10", "--seed", "1"]  # fmt: skip
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "", "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path / "examples")}
    found = subprocess.run(
        command, cwd=tmp_path, env=environment, timeout=300, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout
    assert "No issues found" in found.stdout


@pytest.mark.parametrize(
    "body",
    [
        {"hosts": "cmp1"},
        {"hosts": {"cmp1": 1}},
        {"hosts": [1]},
        {"hosts": None},
        {"hosts": ["x"] * 10_001},
        {"host": ["cmp1"]},
        ["hosts"],
    ],
)
def test_a_question_for_hosts_that_is_none(status: Described, body: Any) -> None:
    answer = httpx2.post(f"{status.url}/x/PollHosts", content=json.dumps(body).encode())
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:watchword:problem:malformed")


def test_a_report_says_nothing_else(status: Described) -> None:
    report = {"instance": SERVER, "code": "x", "message": "x"}
    for more, expected in (({}, 200), ({"time": 1}, 400)):
        assert (
            httpx2.post(f"{status.url}/v1/refusals", content=json.dumps(report | more).encode()).status_code == expected
        )


@pytest.mark.parametrize("change", [{"metadata": 0}, {"metadata": []}, {"instance-id": 0}, {"image-id": False}])
def test_nothing_is_null_and_not_another_nothing(agent: AgentService, change: dict[str, Any]) -> None:
    answer = httpx2.post(f"{agent.url}/v1/vendordata", content=json.dumps(change).encode())
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:watchword:problem:malformed")
