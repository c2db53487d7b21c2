"""Writes ``fuzz/seeds/``: good inputs of every parser, from our own recordings and an emulated TPM.

.venv/bin/python fuzz/make_seeds.py
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from watchword.agent.unseal import request_release
from watchword.crypto.cbor import Tag, dump
from watchword.crypto.envelope import open_request
from watchword.reference.interop.corim.document import sign_corim
from watchword.reference.interop.corim.own import write_corim
from watchword.testing import documents
from watchword.testing.ek_authority import EkAuthority
from watchword.testing.tpm_keys import TpmKeys
from watchword.testing.world import World, profile_document, stack_from_recording
from watchword.verify.ek import EkClass
from watchword.verify.roots import RootBundle, collect
from watchword.wire.messages import ReleaseRequest, encode_reply, parse_request
from watchword.wire.token import Token
from watchword.wire.tpm.templates import EkKind

# The first byte chooses the target in fuzz_certificate.py.
_PARSE, _JUDGE, _BUNDLE, _NV, _CRL, _PEM, _COLLECT, _LOADED = (bytes([number]) for number in range(8))
NOW = 1_795_392_000
ROOT = Path(__file__).resolve().parent
BOOTS = ROOT.parent / "vectors" / "boots"


def keep(harness: str, data: bytes) -> None:
    folder = ROOT / "seeds" / harness
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def certificates() -> None:
    """EK certificates, intermediates, revocation lists and bundles of each kind that our own authority makes."""
    faults: tuple[dict[str, bool], ...] = ({}, {"usage": False}, {"alternative_name": False}, {"is_ca": True})
    for key_type in ("p256", "rsa"):
        for intermediate in (True, False):
            maker = EkAuthority.create(key_type=key_type, intermediate=intermediate)
            ek = TpmKeys(EkKind.P256).ek
            issued = [maker.issue(ek, **fault) for fault in faults]
            for der in (*issued, maker.root, *maker.intermediates):
                for target in (_PARSE, _JUDGE, _LOADED):
                    keep("fuzz_certificate", target + der)
            for crl in (maker.revocation_list(now=NOW), maker.revocation_list(*issued, now=NOW)):
                keep("fuzz_certificate", _CRL + crl)
            whole = b"".join((issued[0], *maker.intermediates, maker.root))
            keep("fuzz_certificate", _NV + whole + b"\xff" * 64)
            text = b"".join(map(_pem, (maker.root, *maker.intermediates)))
            keep("fuzz_certificate", _PEM + text)
            keep("fuzz_certificate", _COLLECT + b"a maker\n" + text)
            found = collect({"roots.pem": text}, EkClass.HARDWARE, "our own")
            keep("fuzz_certificate", _BUNDLE + RootBundle("own", 1, "our own makers", found.roots).encode())
    for kind in EkKind:
        maker = EkAuthority.create()
        keep("fuzz_certificate", _PARSE + maker.issue(TpmKeys(kind).ek))


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def small_program() -> bytes:
    """A PE32+ program with one section, and a certificate table with one entry."""
    optional = bytearray(240)
    struct.pack_into("<H", optional, 0, 0x20B)
    struct.pack_into("<II", optional, 56, 0x2000, 512)
    struct.pack_into("<I", optional, 108, 16)
    struct.pack_into("<II", optional, 144, 1024, 16)
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40) + b"PE\0\0"
    head += struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, len(optional), 0) + optional
    head += struct.pack("<8sIIII16x", b".text", 512, 0x1000, 512, 512)
    return head.ljust(512, b"\0") + bytes(512) + struct.pack("<IHH8s", 16, 0x0200, 2, b"message.")


def corim_documents(digest: str) -> Iterator[bytes]:
    """A stack of our own, the same signed, and a document of somebody else with files, events and registers."""
    own = write_corim(documents.encode(documents.STACK))
    yield own
    yield sign_corim(own, "seed", Ed25519PrivateKey.from_private_bytes(bytes(32)))
    value = [[1, bytes.fromhex(digest)]]
    measurements = [
        {0: "/bin/sh", 1: {0: {0: "1.0"}, 2: value, 11: "a shell"}},
        {0: "pcr-4/0", 1: {2: value}},
        {0: Tag(37, bytes(16)), 1: {14: {4: value, "name": value}}},
        {0: 1, 1: {1: Tag(552, 1), 4: Tag(560, b"raw")}, 2: [Tag(560, b"key")]},
    ]
    triples = {0: [[{0: {0: Tag(560, b"class"), 1: "v", 2: "kernel/a", 3: 1, 4: 2}}, measurements]], 1: [1]}
    comid = {0: "en", 1: {0: bytes(16), 1: 2}, 3: [{0: "old", 1: 1}], 4: triples}
    yield dump(Tag(501, {0: "id", 1: [Tag(506, dump(comid)), Tag(505, b"")], 4: {0: Tag(1, 1), 1: Tag(1, 2)}}))


def main() -> None:
    certificates()
    keep("fuzz_pe", small_program())
    for name in ("good", "secure-boot-on"):
        keep("fuzz_tcg_log", b"\xff" + (BOOTS / name / "eventlog.bin").read_bytes())
    for name in ("good", "ima-sig", "violation"):
        keep("fuzz_ima_log", (BOOTS / name / "ima.bin").read_bytes())
    keep("fuzz_ima_log", (BOOTS / "good" / "ima.txt").read_bytes())
    keep("fuzz_messages", b"\6" + profile_document())
    keep("fuzz_messages", b"\7" + stack_from_recording(BOOTS / "good"))
    digest = hashlib.sha256(b"seed").hexdigest()
    record = f'{{"pcr": 4, "digests": [{{"hashAlg": "sha256", "digest": "{digest}"}}]}}'
    value = hashlib.sha256(bytes(32) + bytes.fromhex(digest)).hexdigest()
    part = f'{{"name": "EV_IPL", "pcr": 4, "hash": "{digest}", "id": "a"}}'
    for index, text in enumerate(
        (
            f"{digest}  /bin/sh\n",
            f'{{"digests": {{"/bin/sh": ["{digest}"]}}, "excludes": ["/tmp"], "verification-keys": ""}}',
            f"[{record}]",
            f'{{"records": [{record}]}}',
            f'{{"id": 4, "value": "{value}", "events": [{part}]}}',
            f'{{"sha256": [{{"phase": "ready", "pcr": 11, "hash": "{value}"}}]}}',
        )
    ):
        keep("fuzz_interop", bytes([index]) + text.encode())
    for document in corim_documents(digest):
        keep("fuzz_corim", document)
    with World(BOOTS) as world:
        host = world.host()
        token = world.token()
        release, _ = host.use(lambda h: request_release(h, host.host_id, token.text, "vm"))
        for sealed in host.exchange.sent:
            request, _ = open_request(sealed, world.keys.sealing_keys)
            keep("fuzz_messages", b"\0" + request)
            message = parse_request(request)
            if isinstance(message, ReleaseRequest):
                keep("fuzz_messages", b"\2" + message.evidence.encode())
                for index, data in enumerate((message.evidence.attest, b"", message.evidence.signature)):
                    keep("fuzz_tpm", bytes([index]) + data)
        keep("fuzz_messages", b"\1" + encode_reply(release))
        keep("fuzz_messages", b"\3" + token.body.encode())
        keep("fuzz_messages", b"\4" + Token.parse(token.text).text().encode())
        keep("fuzz_messages", b"\5" + world.keys.chain[0])
        row = world.store.host(host.host_id)
        assert row is not None
        for public in (row.ek_public, row.ak_public):
            keep("fuzz_tpm", b"\1" + public)
        certificate = next(iter(host.machine.tpm.certificates.values()))
        keep("fuzz_tpm", b"\x09" + certificate)


if __name__ == "__main__":
    main()
