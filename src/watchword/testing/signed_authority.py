"""The tenant's view of an authority: a real HTTPS server with genuinely signed key lists and receipts.

There is no appraisal behind it: a test says what was decided, and may then alter, withhold or misplace any answer.
"""

from __future__ import annotations

import dataclasses
import json
import ssl
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from watchword.authority.keys import tls
from watchword.crypto import keylist
from watchword.crypto.keylist import KeyList
from watchword.errors import MalformedError, Unavailable
from watchword.launch.receipt import Decision, FindingRecord, ShareRecord, StackRecord, launch_key
from watchword.testing.memory_log import MemoryLog
from watchword.wire.tile import Tile

__all__ = ["SignedAuthority"]

NAME = "auditor"


class SignedAuthority:
    """Listens on loopback at ``url`` while used as a context manager; ``fingerprint`` pins its first root.

    ``answers`` maps a path to a (status, body) that is given instead of the genuine one; ``requests`` are the paths
    asked for.
    """

    def __init__(self, name: str = NAME) -> None:
        self.name = name
        self.root = Ed25519PrivateKey.generate()
        self.signing = Ed25519PrivateKey.generate()
        self.sealing = X25519PrivateKey.generate()
        self.profiles: dict[str, bytes] = {}
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.requests: list[str] = []
        self._entries: list[tuple[str, bytes]] = []  # launch key, receipt
        self.log = MemoryLog(name)
        self._tls_key = tls.new_key()
        self.tls_ca = tls.issue_ca(self._tls_key, name, int(time.time()))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.use_certificate_of(self.tls_ca, self._tls_key)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"https://127.0.0.1:{self._server.server_port}"
        self.fingerprint = keylist.root_fingerprint(self.root.public_key())
        self.keys = self._list(1)
        self.chain = [keylist.sign(self.keys, [self.root])]

    def __enter__(self) -> SignedAuthority:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def use_certificate_of(self, ca_pem: str, ca_key: Any, names: tuple[str, ...] = ("127.0.0.1",)) -> None:
        """Answer from now on with a server certificate that this certificate authority issued."""
        key = tls.new_key()
        chain = tls.issue_server(key, names, ca_pem, ca_key, int(time.time()))
        with tempfile.TemporaryDirectory() as folder:
            chain_file, key_file = Path(folder, "chain.pem"), Path(folder, "key.pem")
            chain_file.write_text(chain)
            key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            self.context = tls.server_context(chain_file, key_file, None)

    def rotate(self, *, new_root: bool = False) -> None:
        """Append a key list with a new signing key and, if asked, a new root."""
        roots = [self.root]
        if new_root:
            self.root = Ed25519PrivateKey.generate()
            roots.append(self.root)
        retired = (*self.keys.retired_signing, self.signing.public_key())
        self.signing = Ed25519PrivateKey.generate()
        self.keys = dataclasses.replace(self._list(self.keys.version + 1), retired_signing=retired)
        self.chain.append(keylist.sign(self.keys, roots))

    def decide(self, record: Any, outcome: str = "released", **changes: Any) -> bytes:
        """Record a decision about a tenant's launch record and serve its receipt, which is returned.

        ``changes`` replace fields of the decision: what a test wants to be wrong.
        """
        released = [1 for key, _ in self._entries if key == _key(record)]
        fields: dict[str, Any] = {
            "outcome": outcome,
            "time": record.created,
            "launch": _key(record),
            "token": record.token,
            "instance": "instance-1",
            "profile": record.profile,
            "inputs": record.inputs,
            "level": record.level if outcome == "released" else "",
            "rank": record.rank if outcome == "released" else 0,
            "required": record.rank,
            "stack": StackRecord("compute", "1", "ab" * 32) if outcome == "released" else None,
            "host": "cd" * 16,
            "releases": len(released) + 1 if outcome == "released" else len(released),
            "allowed": record.releases,
            "lease": 120,
            "evidence": "ef" * 32,
        }
        if record.share:
            fields["share"] = ShareRecord(record.share, record.threshold, len(record.shares), "0a" * 16)
        return self.append(Decision(**{**fields, **changes}), file_under=_key(record))

    def refuse(self, record: Any, *findings: FindingRecord) -> bytes:
        """Record a refusal with these findings."""
        return self.decide(record, "refused", findings=findings)

    def append(self, decision: Decision, *, file_under: str) -> bytes:
        """Sign ``decision`` as the next entry of the log and serve it for the launch key ``file_under``."""
        receipt = self.log.receipt(decision.encode(), bytes.fromhex(decision.launch), self.signing)
        self._entries.append((file_under, receipt))
        return receipt

    def key_document(self) -> bytes:
        """What ``GET /v1/keys`` answers."""
        return json.dumps({"authority": self.name, "keys": [json.loads(envelope) for envelope in self.chain]}).encode()

    def answer(self, path: str) -> tuple[int, bytes]:
        """Status and body for a path."""
        self.requests.append(path)
        if path in self.answers:
            return self.answers[path]
        if path == "/checkpoint":
            return 200, self.log.checkpoint()
        if path.startswith("/tile/"):
            return self._tile(path.removeprefix("/tile/"))
        kind, _, rest = path.removeprefix("/v1/").partition("/")
        if kind == "keys":
            return 200, self.key_document()
        if kind == "profiles" and rest in self.profiles:
            return 200, self.profiles[rest]
        if kind == "launches":
            wanted = launch_key(bytes.fromhex(rest)).hex()
            found = [json.loads(receipt) for key, receipt in self._entries if key == wanted]
            if found:
                return 200, json.dumps({"decisions": found, "next": None}).encode()
            return 404, _problem("launch-unknown")
        return 404, _problem("profile-unknown" if kind == "profiles" else "not-found")

    def _tile(self, path: str) -> tuple[int, bytes]:
        try:
            return 200, self.log.tile(Tile.parse(path))
        except (MalformedError, Unavailable):
            return 404, _problem("tile-unknown")

    def _list(self, version: int) -> KeyList:
        return KeyList(
            authority=self.name,
            version=version,
            issued=int(time.time()),
            root=self.root.public_key(),
            signing=(self.signing.public_key(),),
            sealing=(self.sealing.public_key(),),
            tls_ca=self.tls_ca,
            log=(self.log.key.public_key(),),
        )


def _key(record: Any) -> str:
    return launch_key(bytes.fromhex(record.launch_id)).hex()


def _problem(code: str) -> bytes:
    return json.dumps({"type": f"urn:watchword:problem:{code}", "title": "There is nothing here"}).encode()


def _handler(owner: SignedAuthority) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def setup(self) -> None:
            # Per connection and in its own thread: a client that refuses our certificate harms nobody else.
            self.request.settimeout(self.timeout)
            self.request = owner.context.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
            super().setup()

        def handle(self) -> None:
            try:
                self.request.do_handshake()
                super().handle()
            except (ssl.SSLError, OSError):
                self.close_connection = True

        def finish(self) -> None:
            try:
                super().finish()
            except (ssl.SSLError, OSError):
                self.close_connection = True
            self.request.close()

        def do_GET(self) -> None:
            status, body = owner.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    return Handler
