"""What stands in neutron's place: the only part of the cloud that is not real.

It answers nova about one flat network: ports with an address each, bound to hosts as interfaces of type ``tap``, the
type that nova plugs by itself (it makes the device; the network's agent on the host does the rest). It checks nothing.
Run as ``python -m e2e.openstack.neutron ADDRESS PORT PREFIX``; ``… agent BRIDGE`` is the agent, one on each host.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

NETWORK = "7a1c2f60-0d5e-4a86-9a0c-5f1f6f3b9d01"
SUBNET = "7a1c2f60-0d5e-4a86-9a0c-5f1f6f3b9d02"
_FIRST = 100  # last part of the first machine's address
_EXTENSIONS = ("binding", "binding-extended", "provider")
Document = dict[str, Any]


class Network:
    """One network and its ports, in memory."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.ports: dict[str, Document] = {}
        self.lock = threading.Lock()

    def list(self, kind: str) -> list[Document]:
        """All things of ``kind``: the plural in the address."""
        if kind == "ports":
            return list(self.ports.values())
        if kind == "networks":
            return [{
                "id": NETWORK, "name": "tenant", "status": "ACTIVE", "shared": True, "mtu": 1400,
                "admin_state_up": True,
                "tenant_id": "", "project_id": "", "subnets": [SUBNET], "port_security_enabled": False,
                "provider:network_type": "flat", "provider:physical_network": "phys", "router:external": False,
            }]  # fmt: skip
        if kind == "subnets":
            return [{
                "id": SUBNET, "name": "tenant", "network_id": NETWORK, "ip_version": 4, "enable_dhcp": False,
                "cidr": f"{self.prefix}.0/24", "gateway_ip": None, "dns_nameservers": [], "host_routes": [],
            }]  # fmt: skip
        if kind == "extensions":
            return [{"alias": alias, "name": alias} for alias in _EXTENSIONS]
        return []

    def create(self, wanted: Document) -> Document:
        used = {port["fixed_ips"][0]["ip_address"] for port in self.ports.values()}
        address = next(a for n in range(_FIRST, 250) if (a := f"{self.prefix}.{n}") not in used)
        name = str(uuid.uuid4())
        tail = ":".join(re.findall("..", name.replace("-", "")[:6]))
        port = {
            "id": name, "name": "", "network_id": NETWORK, "status": "ACTIVE", "admin_state_up": True,
            "mac_address": f"fa:16:3e:{tail}", "fixed_ips": [{"subnet_id": SUBNET, "ip_address": address}],
            "security_groups": [], "device_id": "", "device_owner": "", "binding:vnic_type": "normal",
            "binding:profile": {}, "bindings": {}, "allowed_address_pairs": [], "resource_request": None,
        }  # fmt: skip
        self.ports[name] = port
        return self.update(name, wanted)

    def update(self, name: str, wanted: Document) -> Document:
        port = self.ports[name]
        port.update({key: value for key, value in wanted.items() if key not in ("fixed_ips", "mac_address")})
        host = port.get("binding:host_id") or ""
        port["binding:vif_type"] = "tap" if host else "unbound"
        port["binding:vif_details"] = {"port_filter": False, "connectivity": "l2"} if host else {}
        return port

    def bind(self, name: str, wanted: Document) -> Document:
        """A further binding, as a live migration makes for its target."""
        binding = {
            "host": wanted["host"], "vif_type": "tap", "vif_details": {"port_filter": False, "connectivity": "l2"},
            "vnic_type": wanted.get("vnic_type", "normal"), "profile": wanted.get("profile") or {},
            "status": "INACTIVE",
        }  # fmt: skip
        self.ports[name]["bindings"][binding["host"]] = binding
        return binding

    def activate(self, name: str, host: str) -> Document:
        binding = self.ports[name]["bindings"][host]
        binding["status"] = "ACTIVE"
        self.update(name, {"binding:host_id": host})
        return binding

    def bindings(self, name: str) -> list[Document]:
        port = self.ports[name]
        active = port.get("binding:host_id")
        first = {
            "host": active,
            "vif_type": "tap",
            "vif_details": {},
            "vnic_type": "normal",
            "profile": {},
            "status": "ACTIVE",
        }
        others = [binding for host, binding in port["bindings"].items() if host != active]
        return ([first] if active else []) + others


class Handler(BaseHTTPRequestHandler):
    """The addresses that nova uses."""

    protocol_version = "HTTP/1.1"
    network: Network

    def do_GET(self) -> None:
        parts, query = self._address()
        if len(parts) < 2:
            link = {"rel": "self", "href": f"http://{self.headers['Host']}/v2.0/"}
            return self._say(200, {"versions": [{"id": "v2.0", "status": "CURRENT", "links": [link]}]})
        kind = parts[1].removesuffix(".json")
        if len(parts) == 2:
            found = [thing for thing in self.network.list(kind) if _fits(thing, query)]
            return self._say(200, {kind.replace("-", "_"): found})
        if kind == "quotas":
            return self._say(200, {"quota": {"port": -1, "network": -1, "security_group": -1}})
        if len(parts) >= 4 and parts[3] == "bindings":
            found = self.network.bindings(parts[2])
            if len(parts) == 4:
                return self._say(200, {"bindings": found})
            return self._one("binding", [binding for binding in found if binding["host"] == parts[4]])
        return self._one(kind[:-1].replace("-", "_"), [t for t in self.network.list(kind) if t.get("id") == parts[2]])

    def do_POST(self) -> None:
        parts, _ = self._address()
        body = self._body()
        with self.network.lock:
            if parts[1:] == ["ports"]:
                return self._say(201, {"port": self.network.create(body["port"])})
            if parts[1] == "ports" and parts[3] == "bindings":
                return self._say(201, {"binding": self.network.bind(parts[2], body["binding"])})
        return self._say(404, {})

    def do_PUT(self) -> None:
        parts, _ = self._address()
        body = self._body()
        with self.network.lock:
            if parts[1] != "ports" or parts[2] not in self.network.ports:
                return self._say(404, {"NeutronError": {"type": "PortNotFound", "message": "no such port"}})
            if parts[-1] == "activate":
                return self._say(200, {"binding": self.network.activate(parts[2], parts[4])})
            return self._say(200, {"port": self.network.update(parts[2], body["port"])})

    def do_DELETE(self) -> None:
        parts, _ = self._address()
        with self.network.lock:
            if len(parts) > 4:
                self.network.ports.get(parts[2], {}).get("bindings", {}).pop(parts[4], None)
            else:
                self.network.ports.pop(parts[2], None)
        self._say(204, None)

    def _address(self) -> tuple[list[str], dict[str, list[str]]]:
        split = urlsplit(self.path)
        return [part for part in split.path.split("/") if part], parse_qs(split.query)

    def _body(self) -> Document:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        document: Document = json.loads(content or b"{}")
        return document

    def _one(self, name: str, found: list[Document]) -> None:
        if not found:
            return self._say(404, {"NeutronError": {"type": "NotFound", "message": "no such thing"}})
        return self._say(200, {name: found[0]})

    def _say(self, status: int, document: Document | None) -> None:
        content = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _fits(thing: Document, query: dict[str, list[str]]) -> bool:
    """Does every filter that names a field of ``thing`` allow its value?"""
    return all(
        str(thing[key]) in values
        for key, values in query.items()
        if key in thing and key not in ("fields", "shared", "tenant_id", "project_id")
    )


def agent(bridge: str) -> None:
    """Put every tap device that appears on this host into ``bridge``."""
    with subprocess.Popen(["ip", "-oneline", "monitor", "link"], stdout=subprocess.PIPE, text=True) as monitor:
        assert monitor.stdout is not None
        for line in monitor.stdout:
            found = re.match(r"\d+: (tap[0-9a-f-]+)[:@]", line)
            if found and f"master {bridge}" not in line:
                subprocess.run(["ip", "link", "set", found[1], "master", bridge, "up"], check=False)


def main(arguments: list[str]) -> None:
    if arguments[0] == "agent":
        agent(arguments[1])
        return
    Handler.network = Network(arguments[2])
    ThreadingHTTPServer((arguments[0], int(arguments[1])), Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
