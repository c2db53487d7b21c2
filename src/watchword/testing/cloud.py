"""A small cloud over real HTTP: as much of keystone, glance, nova and placement as openstacksdk asks of them here.

It keeps images, servers, compute services and resource providers in memory, and wants a token for everything. Sources:
Identity API v3, Image API v2, Compute API 2.1, Placement API 1.6.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

__all__ = ["FakeCloud"]

USER, PASSWORD = "nova", "correct horse"
_FLAVOR = {"id": "1", "name": "m1.small", "ram": 512, "vcpus": 1, "disk": 1, "links": []}
Reply = tuple[int, dict[str, Any] | None]


class FakeCloud:
    """Listens on loopback while it is used as a context manager. A test reads and changes the attributes.

    ``images`` by id; ``servers`` by id, as nova shows them; ``ordered`` are the bodies of creations; ``build(server)``
    is called for each new one and decides what becomes of it; ``services`` are compute services; ``providers`` map a
    host's name to its traits; ``actions`` are what was done to servers; ``broken`` paths answer 500.
    """

    def __init__(self) -> None:
        self.images: dict[str, dict[str, Any]] = {}
        self.servers: dict[str, dict[str, Any]] = {}
        self.ordered: list[dict[str, Any]] = []
        self.build: Callable[[dict[str, Any]], None] = lambda server: server.update(status="ACTIVE")
        self.services: list[dict[str, Any]] = []
        self.providers: dict[str, set[str]] = {}
        self.traits: set[str] = set()
        self.actions: list[tuple[str, str]] = []
        self.broken: set[str] = set()
        self.status_url = ""  # of a status service in the catalogue
        self.tokens: dict[str, str] = {}
        self._ids: dict[str, str] = {}
        self._generations: dict[str, int] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeCloud:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def environment(self) -> dict[str, str]:
        """The OS_* variables of a user of this cloud."""
        return {
            "OS_AUTH_URL": f"{self.url}/v3", "OS_USERNAME": USER, "OS_PASSWORD": PASSWORD, "OS_PROJECT_NAME": "service",
            "OS_USER_DOMAIN_ID": "default", "OS_PROJECT_DOMAIN_ID": "default", "OS_REGION_NAME": "here",
        }  # fmt: skip

    def issue(self, user: str) -> str:
        """A token of ``user``."""
        token = secrets.token_urlsafe(32)
        self.tokens[token] = user
        return token

    def add_image(self, name: str, **about: Any) -> str:
        """An image with what the service says about it; returns its id."""
        image = {"id": str(uuid.uuid4()), "name": name, "status": "active", **about}
        self.images[image["id"]] = image
        return str(image["id"])

    def add_host(self, name: str) -> dict[str, Any]:
        """A compute host: its service, and its resource provider with a trait of somebody else's."""
        service = {
            "id": str(uuid.uuid4()), "binary": "nova-compute", "host": name, "status": "enabled", "state": "up",
            "zone": "nova", "disabled_reason": None,
        }  # fmt: skip
        self.services.append(service)
        self.providers[name] = {"HW_CPU_X86_AVX2"}
        self.traits.add("HW_CPU_X86_AVX2")
        self._ids[name], self._generations[name] = str(uuid.uuid4()), 1
        return service

    def add_server(self, name: str, host: str = "", **about: Any) -> dict[str, Any]:
        """A server as nova shows it."""
        server = {
            "id": str(uuid.uuid4()), "name": name, "status": "ACTIVE", "addresses": {}, "accessIPv4": "",
            "accessIPv6": "", "OS-EXT-SRV-ATTR:host": host, **about,
        }  # fmt: skip
        self.servers[server["id"]] = server
        return server

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Reply:
        """What the services answer to a request that has a good token."""
        if any(path.startswith(place) for place in self.broken):
            return 500, {"error": {"message": "the cloud is not well"}}
        for wanted, pattern, action in _ROUTES:
            found = re.fullmatch(pattern, path)
            if wanted == method and found:
                return action(self, found.groups(), query, body)
        return 404, {"itemNotFound": {"code": 404, "message": "not found"}}

    def catalogue(self) -> list[dict[str, Any]]:
        """The services' addresses, as in a token of the identity service."""
        places = {
            "identity": f"{self.url}/v3", "image": f"{self.url}/image", "compute": f"{self.url}/compute/v2.1",
            "placement": f"{self.url}/placement", **({"watchword": self.status_url} if self.status_url else {}),
        }  # fmt: skip
        return [
            {
                "type": kind,
                "name": kind,
                "id": kind,
                "endpoints": [{"interface": "public", "region": "here", "region_id": "here", "id": kind, "url": url}],
            }
            for kind, url in places.items()
        ]

    def token_document(self, user: str) -> dict[str, Any]:
        """What the identity service says about a token of ``user``."""
        domain = {"id": "default", "name": "Default"}
        return {
            "token": {
                "methods": ["password"], "user": {"id": user, "name": user, "domain": domain},
                "project": {"id": "p", "name": "service", "domain": domain}, "roles": [{"id": "r", "name": "admin"}],
                "issued_at": "2026-01-01T00:00:00.000000Z", "expires_at": "2099-01-01T00:00:00.000000Z",
                "catalog": self.catalogue(),
            }
        }  # fmt: skip

    # -- routes --

    def _image(self, parts: tuple[str, ...], *_: Any) -> Reply:
        image = self.images.get(parts[0])
        return (200, image) if image else (404, {"message": "no such image"})

    def _images(self, _parts: Any, query: dict[str, str], _body: Any) -> Reply:
        wanted = query.get("name")
        return 200, {"images": [i for i in self.images.values() if wanted in (None, i["name"])]}

    def _flavor(self, parts: tuple[str, ...], *_: Any) -> Reply:
        return (200, {"flavor": _FLAVOR}) if parts[0] == "1" else (404, {"itemNotFound": {"message": "no flavor"}})

    def _flavors(self, *_: Any) -> Reply:
        return 200, {"flavors": [_FLAVOR]}

    def _create(self, _parts: Any, _query: Any, body: Any) -> Reply:
        self.ordered.append(body)
        server = self.add_server(body["server"]["name"], status="BUILD", metadata=body["server"]["metadata"])
        self.build(server)
        return 202, {"server": {"id": server["id"], "links": []}}

    def _get(self, parts: tuple[str, ...], *_: Any) -> Reply:
        server = self.servers.get(parts[0])
        return (200, {"server": server}) if server else (404, {"itemNotFound": {"message": "no such server"}})

    def _servers(self, _parts: Any, query: dict[str, str], _body: Any) -> Reply:
        keys = {"name": "name", "host": "OS-EXT-SRV-ATTR:host", "status": "status"}
        found = [
            s
            for s in self.servers.values()
            if all(s[field] == query[key] for key, field in keys.items() if key in query)
        ]
        return 200, {"servers": found}

    def _metadata(self, parts: tuple[str, ...], _query: Any, body: Any) -> Reply:
        server = self.servers[parts[0]]
        if server["status"] not in ("ACTIVE", "SHUTOFF"):
            return 409, {"conflictingRequest": {"code": 409, "message": "not in this state"}}
        server.setdefault("metadata", {}).update(body["metadata"])
        return 200, {"metadata": server["metadata"]}

    def _action(self, parts: tuple[str, ...], _query: Any, body: Any) -> Reply:
        self.actions += [(parts[0], name) for name in body]
        if "os-stop" in body:
            self.servers[parts[0]]["status"] = "SHUTOFF"
        return 202, None

    def _services(self, _parts: Any, query: dict[str, str], _body: Any) -> Reply:
        found = [s for s in self.services if all(s[key] == query[key] for key in ("host", "binary") if key in query)]
        return 200, {"services": found}

    def _service(self, parts: tuple[str, ...], _query: Any, body: Any) -> Reply:
        service = next(s for s in self.services if s["id"] == parts[0])
        service.update(disabled_reason=body.get("disabled_reason"), status=body["status"])
        return 200, {"service": service}

    def _providers(self, _parts: Any, query: dict[str, str], _body: Any) -> Reply:
        found = [
            {"uuid": self._ids[name], "name": name, "generation": self._generations[name], "links": []}
            for name in self.providers
            if query.get("name") in (None, name)
        ]
        return 200, {"resource_providers": found}

    def _host(self, identity: str) -> str:
        return next(name for name, each in self._ids.items() if each == identity)

    def _traits_of(self, parts: tuple[str, ...], *_: Any) -> Reply:
        name = self._host(parts[0])
        generation = self._generations[name]
        return 200, {"traits": sorted(self.providers[name]), "resource_provider_generation": generation}

    def _put_traits(self, parts: tuple[str, ...], _query: Any, body: Any) -> Reply:
        name = self._host(parts[0])
        if body["resource_provider_generation"] != self._generations[name]:
            return 409, {"errors": [{"status": 409, "detail": "resource provider generation conflict"}]}
        if not set(body["traits"]) <= self.traits:
            return 400, {"errors": [{"status": 400, "detail": "No such trait"}]}
        self.providers[name] = set(body["traits"])
        self._generations[name] += 1
        return self._traits_of(parts)

    def _put_trait(self, parts: tuple[str, ...], *_: Any) -> Reply:
        new = parts[0] not in self.traits
        self.traits.add(parts[0])
        return (201 if new else 204), None


_ROUTES: tuple[tuple[str, str, Callable[..., Reply]], ...] = (
    ("GET", "/image/v2/images/([^/]+)", FakeCloud._image),
    ("GET", "/image/v2/images", FakeCloud._images),
    ("GET", "/compute/v2.1/flavors/((?!detail)[^/]+)", FakeCloud._flavor),
    ("GET", "/compute/v2.1/flavors(?:/detail)?", FakeCloud._flavors),
    ("POST", "/compute/v2.1/servers", FakeCloud._create),
    ("GET", "/compute/v2.1/servers(?:/detail)?", FakeCloud._servers),
    ("GET", "/compute/v2.1/servers/((?!detail)[^/]+)", FakeCloud._get),
    ("POST", "/compute/v2.1/servers/([^/]+)/action", FakeCloud._action),
    ("POST", "/compute/v2.1/servers/([^/]+)/metadata", FakeCloud._metadata),
    ("GET", "/compute/v2.1/os-services", FakeCloud._services),
    ("PUT", "/compute/v2.1/os-services/([^/]+)", FakeCloud._service),
    ("GET", "/placement/resource_providers", FakeCloud._providers),
    ("GET", "/placement/resource_providers/([^/]+)/traits", FakeCloud._traits_of),
    ("PUT", "/placement/resource_providers/([^/]+)/traits", FakeCloud._put_traits),
    ("PUT", "/placement/traits/(CUSTOM_[A-Z0-9_]+)", FakeCloud._put_trait),
)


def _versions(base: str, path: str) -> dict[str, Any] | None:
    """The discovery documents, which need no token."""
    link = [{"rel": "self", "href": f"{base}{path}"}]
    match path:
        case "/v3":
            return {"version": {"id": "v3.14", "status": "stable", "links": link, "media-types": []}}
        case "/image":
            href = [{"rel": "self", "href": f"{base}/image/v2/"}]
            return {"versions": [{"id": "v2.16", "status": "CURRENT", "links": href}]}
        case "/compute/v2.1":
            return {
                "version": {"id": "v2.1", "status": "CURRENT", "version": "2.96", "min_version": "2.1", "links": link}
            }
        case "/placement":
            version = {"id": "v1.0", "status": "CURRENT", "max_version": "1.39", "min_version": "1.0"}
            return {"versions": [{**version, "links": link}]}
    return None


def _handler(cloud: FakeCloud) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            path, _, text = self.path.partition("?")
            path = path.rstrip("/")
            query = dict(part.partition("=")[::2] for part in text.split("&") if part)
            raw = self.rfile.read(int(self.headers.get("content-length", "0")))
            body = json.loads(raw) if raw else None
            if path == "/v3/auth/tokens":
                self._tokens(body)
            elif (document := _versions(cloud.url, path)) is not None:
                self._send(200, document)
            elif self.headers.get("x-auth-token") not in cloud.tokens:
                self._send(401, {"error": {"message": "who are you?"}})
            else:
                self._send(*cloud.answer(self.command, path, query, body))

        do_GET = do_POST = do_PUT = _handle

        def _tokens(self, body: Any) -> None:
            if self.command == "POST":
                user = body["auth"]["identity"]["password"]["user"]
                if (user["name"], user["password"]) != (USER, PASSWORD):
                    self._send(401, {"error": {"message": "wrong password"}})
                    return
                token = cloud.issue(USER)
                self._send(201, cloud.token_document(USER), {"X-Subject-Token": token})
                return
            if self.headers.get("x-auth-token") not in cloud.tokens:
                self._send(401, {"error": {"message": "who are you?"}})
                return
            subject = cloud.tokens.get(self.headers.get("x-subject-token", ""))
            self._send(200, cloud.token_document(subject)) if subject else self._send(404, {"error": {}})

        def _send(self, status: int, document: dict[str, Any] | None, more: dict[str, str] | None = None) -> None:
            content = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            for name, value in {**(more or {}), "Content-Type": "application/json"}.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    return Handler
