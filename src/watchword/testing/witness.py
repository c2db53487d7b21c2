"""A witness of logs, as C2SP tlog-witness describes it: real proofs, real signatures, one log, on loopback."""

from __future__ import annotations

import base64
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from watchword.crypto.keylist import KeyList
from watchword.crypto.note import COSIGNS, cosign, note_key
from watchword.errors import MalformedError, Rejected
from watchword.verify.log import VerifiedCheckpoint, check_consistency, verify_checkpoint

__all__ = ["Witness"]


class Witness:
    """Cosigns the log of the authority with these ``keys`` while used as a context manager.

    ``seen`` is the newest checkpoint that it signed; ``refused`` has why it did not sign others.
    """

    def __init__(self, name: str, keys: KeyList) -> None:
        self.name = name
        self.key = Ed25519PrivateKey.generate()
        self.keys = keys
        self.seen: VerifiedCheckpoint | None = None
        self.refused: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def verifier_key(self) -> str:
        """What is passed on to those who rely on this witness."""
        return note_key(self.name, self.key.public_key(), COSIGNS).encode()

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add_checkpoint(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to one request."""
        head, _, note = body.partition(b"\n\n")
        first, *proof = head.decode().split("\n")
        old = int(first.removeprefix("old "))
        try:
            given = verify_checkpoint(note, self.keys)
            size = self.seen.size if self.seen else 0
            if old != size:
                return 409, f"{size}\n".encode()
            if self.seen is not None:
                check_consistency(self.seen.checkpoint, given.checkpoint, [base64.b64decode(each) for each in proof])
        except (MalformedError, Rejected) as error:
            self.refused.append(error.code)
            return 422 if error.code != "checkpoint-signature" else 403, b""
        self.seen = given
        return 200, cosign(given.note.text, self.name, self.key, int(time.time())).encode().encode()


def _handler(owner: Witness) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = owner.add_checkpoint(body) if self.path == "/add-checkpoint" else (404, b"")
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
