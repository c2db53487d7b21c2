"""The OpenAPI description is valid, and has the routes, methods, parameters and problems of the service, no others."""

from __future__ import annotations

import inspect
import json
import re
import socket
from typing import Any

import httpx2
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from watchword import __version__
from watchword.authority.app import Services, create_app
from watchword.authority.description.openapi import ANYWHERE, URN
from watchword.authority.description.public_api import OPERATIONS
from watchword.authority.serving.problems import PROBLEMS

from .conftest import Service


@pytest.fixture
def document(service: Service) -> dict[str, Any]:
    with service.client() as client:
        answer = client.get("/v1/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture
def routes(service: Service) -> list[Route]:
    app = create_app(Services(service.answers, service.store, lambda: service.ring))
    return [route for route in app.routes if isinstance(route, Route)]


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_the_document_is_openapi(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["version"] == __version__


def test_every_route_is_described_and_nothing_else(document: dict[str, Any], routes: list[Route]) -> None:
    served = {
        (method, re.sub(r":[a-z]+}", "}", route.path))
        for route in routes
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert set(operations(document)) == served == set(OPERATIONS)


def test_every_parameter_is_described_and_nothing_else(document: dict[str, Any], routes: list[Route]) -> None:
    """Those in the path are the route's; those in the query are the ones that its function reads."""
    for route in routes:
        if route.path.startswith("/v1/admin/"):
            continue  # their parameters are derived from types
        source = inspect.getsource(route.endpoint)
        read = {("query", name) for name in re.findall(r'sequence\(request, "([a-z_]+)"\)', source)}
        read |= {("path", name) for name in route.param_convertors}
        for method in (route.methods or set()) - {"HEAD"}:
            described = operations(document)[method, re.sub(r":[a-z]+}", "}", route.path)].get("parameters", [])
            assert {(each["in"], each["name"]) for each in described} == read
            assert all("pattern" in each["schema"] or "maximum" in each["schema"] for each in described)


def test_every_problem_belongs_to_an_operation(document: dict[str, Any]) -> None:
    described = set(ANYWHERE)
    for operation in operations(document).values():
        for status, answer in operation["responses"].items():
            content = answer["content"].get("application/problem+json")
            assert (content is None) == (int(status) < 400)
            if content is None:
                continue
            schema = content["schema"]
            schema = schema["anyOf"][0] if "anyOf" in schema else schema  # the other one is a refusal
            if "$ref" in schema:
                continue
            codes = [urn.removeprefix(URN) for urn in schema["properties"]["type"]["enum"]]
            assert {PROBLEMS[code][0] for code in codes} == {int(status)}
            described |= set(codes)
    assert described == set(PROBLEMS)
    everything = document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]
    assert everything == [URN + code for code in PROBLEMS]


@pytest.mark.parametrize(
    "body",
    [
        b'{"hosts": ["%s"], "hosts": ["%s"]}' % (b"a" * 64, b"b" * 64),
        b'{"hosts": ["%s\\n"]}' % (b"a" * 64),
        b'{"hosts": ["%s"]}' % (b"A" * 64),
        b'{"hosts": []}',
        b'{"hosts": ["%s"], "profile": "ab"}' % (b"a" * 64),
        b'{"hosts": ["%s"], "profil": null}' % (b"a" * 64),
        b'{"hosts": ["%s"]} {}' % (b"a" * 64),
        b"[" * 10_000,
        json.dumps({"hosts": ["a" * 64] * 1001}).encode(),
    ],
)
def test_a_question_that_is_none_is_refused(service: Service, body: bytes) -> None:
    with httpx2.Client(base_url=service.address.url, verify=service.context) as client:
        answer = client.post("/v1/host-states", content=body, headers={"Content-Type": "application/json"})
    assert answer.json()["type"] in (URN + "body-malformed", URN + "body-too-large")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_a_method_that_is_not_described_is_a_problem(service: Service, method: str) -> None:
    """Every path with every method: one that it has is never 405, any other always is, and says which it has."""
    with service.client() as client:
        for path in {path for _, path in OPERATIONS}:
            allowed = {each for each, other in OPERATIONS if other == path}
            answer = client.request(method, path)
            if method in allowed or (method == "HEAD" and "GET" in allowed):
                assert answer.status_code != 405
                continue
            assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")
            assert set(answer.headers["allow"].split(", ")) - {"HEAD"} == allowed
            assert method == "HEAD" or answer.json()["type"] == URN + "method-not-allowed"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET https://elsewhere.example/v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n",
        b"NONSENSE /v1/keys HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/nothing HTTP/1.0\r\n\r\n",
        b"GET /v1/keys HTTP/3.7\r\nHost: x\r\n\r\n",
        b"GET /v1/keys\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v1/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/nothing?%ff=%zz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
        b"GET /v1/nothing HTTP/1.1\r\nHost x\r\n\r\n",
    ],
)
def test_whatever_is_no_request_of_ours_is_a_problem(service: Service, request_bytes: bytes) -> None:
    """What the parser, uvicorn and Starlette answer by themselves has the form of our own answers."""
    with (
        socket.create_connection((service.address.host, service.address.port), 10) as plain,
        service.context.wrap_socket(plain, server_hostname=service.address.host) as stream,
    ):
        stream.sendall(request_bytes)
        received = b""
        while b"}" not in received:
            part = stream.recv(65536)
            assert part, received
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    document = json.loads(body[: body.index(b"}") + 1])
    assert b"application/problem+json" in head
    assert document["type"].removeprefix(URN) in PROBLEMS
    assert head.split()[1] == b"%d" % document["status"]
    assert document["status"] < 500
