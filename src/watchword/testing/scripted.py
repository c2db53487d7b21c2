"""An authority that judges nothing: real keys, real envelopes, real TPM structures, and answers as a test wants them.

For tests of the host's side, which must behave well whatever an authority, a relay or the network does.
"""

from __future__ import annotations

import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from watchword.authority.keys.tls import issue_ca, issue_server, new_key
from watchword.crypto import keylist
from watchword.crypto.envelope import LaunchSecret, open_request, seal_payload, seal_reply
from watchword.crypto.keylist import KeyList
from watchword.crypto.token import sealing_key_id
from watchword.crypto.tpm_seal import boot_policy, make_credential, seal_object
from watchword.wire.evidence import Evidence, binding, enrol_proof
from watchword.wire.messages import (
    NONCE_SIZE,
    Challenge,
    ChallengeRequest,
    EnrolBegin,
    EnrolChallenge,
    EnrolFinish,
    Enrolled,
    Refusal,
    Release,
    ReleaseRequest,
    Reply,
    Request,
    encode_reply,
    parse_request,
)
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.attest import Attest
from watchword.wire.tpm.pcr import PcrSelection, Selections, pcr_digest
from watchword.wire.tpm.public import Public

__all__ = ["GenerousAuthority", "ScriptedAuthority", "serve"]

Answer = Callable[[Request, bytes], Reply]


class ScriptedAuthority:
    """Opens requests and seals whatever ``answer(request, reply_key)`` returns; an ``Exchange`` without a network."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.root = Ed25519PrivateKey.generate()
        self._sealing = X25519PrivateKey.generate()
        self._tls_key = new_key()
        tls_ca = issue_ca(self._tls_key, "scripted", int(time.time()))
        signing = (self.root.public_key(),)
        unsigned = KeyList("scripted", 1, 0, signing[0], signing, (self._sealing.public_key(),), tls_ca)
        self.fingerprint = keylist.root_fingerprint(self.root.public_key())
        self.envelope = keylist.sign(unsigned, [self.root])
        self.keys = keylist.verify_chain([self.envelope], self.fingerprint)

    def send(self, sealed: bytes) -> bytes:
        """Answer one sealed request."""
        plain, reply_key = open_request(sealed, {sealing_key_id(self._sealing.public_key()): self._sealing})
        request = parse_request(plain)
        self.requests.append(request)
        return seal_reply(encode_reply(self.answer(request, reply_key)), reply_key)

    def close(self) -> None:
        """Nothing is open."""

    def tls(self, folder: Path, names: tuple[str, ...] = ("127.0.0.1",)) -> ssl.SSLContext:
        """A server's TLS settings with a certificate of this authority; its files are left in ``folder``."""
        key = new_key()
        chain = issue_server(key, names, self.keys.tls_ca, self._tls_key, int(time.time()))
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "server.pem").write_bytes(pem + chain.encode())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem")
        return context


class GenerousAuthority(ScriptedAuthority):
    """Enrols everybody and releases ``secret`` to whoever asks, sealed to the asking TPM as a real release is.

    ``selections`` are asked for, ``sealed_to`` (default: the same without PCR 10) goes into the policy; ``lease`` in
    milliseconds; ``context`` replaces the payload's context when set.
    """

    def __init__(self, secret: LaunchSecret, selections: Selections) -> None:
        super().__init__(self._reply)
        self.secret = secret
        self.selections = selections
        self.sealed_to = tuple(PcrSelection(s.bank, tuple(p for p in s.pcrs if p != 10)) for s in selections)
        self.lease = 60_000
        self.context: bytes | None = None
        self.host_id = bytes(32)
        self._ek: Public | None = None
        self._proof = b""

    def _reply(self, request: Request, reply_key: bytes) -> Reply:
        match request:
            case EnrolBegin():
                return self._challenge_tpm(request)
            case EnrolFinish() if request.proof == self._proof:
                return Enrolled(self.host_id)
            case ChallengeRequest():
                return Challenge(secrets.token_bytes(NONCE_SIZE), self.selections, int(time.time()) + 60)
            case ReleaseRequest():
                return self._release(request.evidence, reply_key)
        return Refusal("credential-proof", "A4", "the proof is wrong")

    def _challenge_tpm(self, request: EnrolBegin) -> EnrolChallenge:
        self._ek = Public.parse(request.ek_public)
        secret, cookie = secrets.token_bytes(32), secrets.token_bytes(64)
        self._proof = enrol_proof(secret, cookie)
        credential = make_credential(self._ek, Public.parse(request.ak_public).name(), secret)
        return EnrolChallenge(cookie, credential.id_object, credential.encrypted_secret)

    def _release(self, evidence: Evidence, reply_key: bytes) -> Release | Refusal:
        if self._ek is None:
            return Refusal("host-unknown", "A4", "nobody enrolled")
        bound = binding(
            host_id=evidence.host_id,
            nonce=evidence.nonce,
            purpose=evidence.purpose,
            token=evidence.token,
            instance=evidence.instance,
            reply_key=reply_key,
            run=evidence.run,
        )
        attest = Attest.parse(evidence.attest)
        if attest.extra_data != bound:
            return Refusal("quote-binding", "B5", "the quote is not bound to this request")
        clock_limit = attest.clock_info.clock + self.lease
        digest = pcr_digest(Alg.SHA256, self.sealed_to, evidence.pcrs)
        policy = boot_policy(self.sealed_to, digest, attest.clock_info.reset_count, clock_limit)
        data_key = secrets.token_bytes(32)
        sealed = seal_object(self._ek, data_key, policy)
        payload = seal_payload(self.secret, data_key, self.context if self.context is not None else bound)
        return Release(
            public=sealed.public,
            duplicate=sealed.duplicate,
            encrypted_seed=sealed.encrypted_seed,
            selections=self.sealed_to,
            reset_count=attest.clock_info.reset_count,
            clock_limit=clock_limit,
            payload=payload,
        )


@contextmanager
def serve(
    respond: Callable[[str, bytes], tuple[int, bytes] | None], tls: ssl.SSLContext | None = None, *, get: bool = False
) -> Iterator[str]:
    """A small HTTP server on loopback; yields its URL.

    ``respond(path, body)`` gives status and body of the answer, or None to hang up without one; with ``get`` it is
    asked for GET too.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            answer = respond(self.path, body)
            if answer is None:
                return
            status, content = answer
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            if get:
                self.do_POST()
            else:
                self.send_error(501)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients of these tests hang up on purpose."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
