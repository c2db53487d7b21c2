"""How old each key is, from the signed key lists, and when the certificates of the service end."""

from __future__ import annotations

from cryptography import x509

from watchword.authority.keys.keyring import Keyring
from watchword.crypto import keylist

__all__ = ["certificate_ends", "key_ages"]


def key_ages(ring: Keyring) -> dict[str, int]:
    """When the root, signing, log and sealing key in force were put in force (Unix seconds).

    It is when the first list was issued that names the key: lists are signed, files have no date that anybody signed.
    """
    since: dict[str, int] = {}
    now: dict[str, bytes] = {}
    current: keylist.KeyList | None = None
    for envelope in ring.chain:
        if current is None:
            current = keylist.verify_chain([envelope], ring.fingerprint)
        else:
            current = keylist.follow(current, envelope)
        for kind, key in _in_force(current).items():
            if now.get(kind) != key:
                now[kind], since[kind] = key, current.issued
    return since


def _in_force(named: keylist.KeyList) -> dict[str, bytes]:
    found = {
        "root": named.root.public_bytes_raw(),
        "signing": named.signing[0].public_bytes_raw(),
        "sealing": named.sealing[0].public_bytes_raw(),
    }
    if named.log:
        found["log"] = named.log[0].public_bytes_raw()
    return found


def certificate_ends(ring: Keyring) -> dict[str, int]:
    """When the server's certificate and that of its certificate authority end (Unix seconds)."""
    server, *_ = x509.load_pem_x509_certificates(ring.tls_files[0].read_bytes())
    authority = x509.load_pem_x509_certificate(ring.key_list.tls_ca.encode())
    return {
        "server": int(server.not_valid_after_utc.timestamp()),
        "authority": int(authority.not_valid_after_utc.timestamp()),
    }
