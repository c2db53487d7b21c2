"""An OpenID provider on loopback: TLS, discovery, a key set, and tokens with real signatures. Nobody logs in."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from watchword.authority.keys.tls import issue_ca, issue_server, new_key

__all__ = ["TestIssuer", "running_issuer", "server_files"]


@dataclass
class TestIssuer:
    """The provider ``url``, whose TLS certificate is below ``ca_file``; ``keys`` are published, by id.

    A test changes ``documents`` (path: body) and ``status`` to make it answer something else; ``asked`` has the paths.
    """

    __test__ = False
    url: str
    ca_file: Path
    keys: dict[str, Key]
    status: int = 200
    documents: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    hang: threading.Event | None = None

    def token(self, *, kid: str = "ec", alg: str = "ES256", head: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token for the audience "watchword", good for five minutes; a claim of None is left out."""
        now = int(time.time())
        usual = {"iss": self.url, "aud": "watchword", "sub": "alice", "iat": now, "exp": now + 300}
        given = {name: value for name, value in (usual | claims).items() if value is not None}
        return jwt.encode({"alg": alg, "kid": kid, **(head or {})}, given, self.keys[kid], [alg])

    def answer(self, path: str) -> bytes | None:
        if path in self.documents:
            return self.documents[path]
        if path == "/.well-known/openid-configuration":
            return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode()
        if path == "/keys":
            keys = [key.as_dict(private=False) | {"kid": kid} for kid, key in self.keys.items()]
            return json.dumps({"keys": keys}).encode()
        return None


@contextmanager
def running_issuer(directory: Path) -> Iterator[TestIssuer]:
    """A provider with an EC, an RSA and an Ed25519 key ("ec", "rsa", "ed")."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    ca_file = _secure(server, directory)
    keys: dict[str, Key] = {
        "ec": ECKey.generate_key("P-256", {"kid": "ec"}),
        "rsa": RSAKey.generate_key(2048, {"kid": "rsa"}),
        "ed": OKPKey.generate_key("Ed25519", {"kid": "ed"}),
    }
    issuer = TestIssuer(f"https://127.0.0.1:{server.server_port}", ca_file, keys)
    server.issuer = issuer  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def server_files(directory: Path) -> tuple[Path, Path]:
    """Files for TLS on loopback: certificate chain with its key, and the certificate authority to believe."""
    now, ca_key, key = int(time.time()), new_key(), new_key()
    ca = issue_ca(ca_key, "provider", now)
    chain, ca_file = directory / "provider.pem", directory / "provider-ca.pem"
    ca_file.write_text(ca)
    chain.touch(0o600)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain.write_bytes(issue_server(key, ["127.0.0.1", "localhost"], ca, ca_key, now).encode() + private)
    return chain, ca_file


def _secure(server: ThreadingHTTPServer, directory: Path) -> Path:
    chain, ca_file = server_files(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return ca_file


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        issuer: TestIssuer = self.server.issuer  # type: ignore[attr-defined]
        issuer.asked.append(self.path)
        if issuer.hang is not None:
            issuer.hang.wait(20)
        body = issuer.answer(self.path)
        self.send_response(issuer.status if body is not None else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        """Says nothing."""
