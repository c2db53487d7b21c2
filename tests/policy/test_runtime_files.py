"""Clause D5 on runtime logs made up entry by entry: what counts as a file that the stack allows."""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from watchword.errors import Finding, MalformedError
from watchword.policy.runtime import runtime_findings
from watchword.policy.stack import CompiledStack, path_text
from watchword.testing.documents import STACK, encode
from watchword.testing.recorded import RecordedHost
from watchword.testing.soft_tpm import SoftTpm
from watchword.verify.ima_log import VerifiedRuntimeLog

CONTENT = hashlib.sha256(b"content").digest()
Log = Callable[..., VerifiedRuntimeLog]


def entry(template: str, *fields: bytes) -> bytes:
    data = b"".join(struct.pack("<I", len(field)) + field for field in fields)
    name = template.encode()
    return (
        struct.pack("<I20sI", 10, hashlib.sha1(data).digest(), len(name)) + name + struct.pack("<I", len(data)) + data
    )


def ng(path: bytes, digest: bytes = CONTENT, alg: bytes = b"sha256") -> bytes:
    return entry("ima-ng", alg + b":\0" + digest, path + b"\0")


@pytest.fixture
def log(boots: Path, tpm: SoftTpm) -> Log:
    """A verified runtime log with these entries after a boot_aggregate that agrees with the recording "good"."""

    def make(*entries: bytes) -> VerifiedRuntimeLog:
        values = RecordedHost(boots / "good", tpm).values
        aggregate = hashlib.sha256(b"".join(values[pcr] for pcr in range(10))).digest()
        ima = ng(b"boot_aggregate", aggregate) + b"".join(entries)
        runtime = RecordedHost(boots / "good", tpm, ima_log=ima).verify().runtime
        assert runtime is not None
        return runtime

    return make


def stack(**runtime: Any) -> CompiledStack:
    return CompiledStack.parse(encode({**STACK, "runtime": runtime}))


LISTED = stack(files={"/bin/sh": ["sha256:" + CONTENT.hex()]})
ANYWHERE = stack(any_path=["sha256:" + CONTENT.hex()])


def only(findings: tuple[Finding, ...]) -> Finding:
    (finding,) = findings
    assert (finding.clause, finding.code, finding.fatal) == ("D5", "runtime-file", True)
    return finding


def test_a_listed_file(log: Log) -> None:
    assert runtime_findings(log(ng(b"/bin/sh")), LISTED) == ()
    assert runtime_findings(log(ng(b"/bin/sh"), ng(b"/other")), ANYWHERE) == ()


def test_another_content(log: Log) -> None:
    finding = only(runtime_findings(log(ng(b"/bin/sh", bytes(32))), LISTED))
    assert (finding.expected, finding.actual) == (f"sha256:{CONTENT.hex()}", f"sha256:{bytes(32).hex()}")


def test_the_algorithm_is_part_of_the_digest(log: Log) -> None:
    assert only(runtime_findings(log(ng(b"/bin/sh", CONTENT, b"sm3-256")), LISTED)).actual.startswith("sm3_256:")
    assert only(runtime_findings(log(ng(b"/bin/sh", CONTENT[:20], b"sha1")), LISTED)).actual.startswith("sha1:")


@pytest.mark.parametrize("path", [b"/bin/sh\n", b"/bin/sh ", b"/BIN/SH", b"bin/sh", b"/bin//sh", b"/bin/sh\xff", b""])
def test_paths_compare_exactly(log: Log, path: bytes) -> None:
    finding = only(runtime_findings(log(ng(path)), LISTED))
    assert finding.subject == f"file {path_text(path)}"
    assert finding.subject.isprintable()


def test_a_file_name_with_a_newline_can_be_listed(log: Log) -> None:
    path = b"/tmp/a\n10 forged"
    listed = stack(files={path_text(path): ["sha256:" + CONTENT.hex()]})
    assert runtime_findings(log(ng(path)), listed) == ()


def test_the_digest_of_a_hash_tree_is_not_that_of_a_file(log: Log) -> None:
    verity = entry("ima-ngv2", b"verity:sha256:\0" + CONTENT, b"/bin/sh\0")
    assert only(runtime_findings(log(verity), LISTED)).actual.startswith("verity:sha256:")
    only(runtime_findings(log(verity), ANYWHERE))
    plain = entry("ima-ngv2", b"ima:sha256:\0" + CONTENT, b"/bin/sh\0")
    assert runtime_findings(log(plain), LISTED) == ()


def test_an_entry_that_nobody_understands(log: Log) -> None:
    (finding,) = runtime_findings(log(entry("mystery", b"?")), LISTED)
    assert finding.clause == "D1"
    assert finding.fatal


def test_a_measured_buffer_must_be_listed_too(log: Log) -> None:
    buffer = entry("ima-buf", b"sha256:\0" + hashlib.sha256(b"x").digest(), b"kexec-cmdline\0", b"x")
    assert only(runtime_findings(log(buffer), LISTED)).subject == "file kexec-cmdline"
    listed = stack(files={"kexec-cmdline": ["sha256:" + hashlib.sha256(b"x").hexdigest()]})
    assert runtime_findings(log(buffer), listed) == ()


def test_a_signed_file(log: Log) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    signers = stack(
        signers=[base64.b64encode(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()]
    )
    key_id = hashlib.sha1(public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)).digest()[-4:]

    def signed(over: bytes) -> bytes:
        blob = key.sign(over, ec.ECDSA(Prehashed(hashes.SHA256())))
        signature = struct.pack(">BBB4sH", 3, 2, 4, key_id, len(blob)) + blob
        return entry("ima-sig", b"sha256:\0" + CONTENT, b"/anywhere\0", signature)

    assert runtime_findings(log(signed(CONTENT)), signers) == ()
    only(runtime_findings(log(signed(bytes(32))), signers))
    only(runtime_findings(log(signed(CONTENT)), LISTED))
    only(runtime_findings(log(ng(b"/anywhere")), signers))


def test_a_log_that_was_not_quoted() -> None:
    assert only(runtime_findings(None, LISTED)).message == "there is no verified runtime log"


def certificate(key: ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, START, START + timedelta(1))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


START = datetime(2026, 1, 1, tzinfo=UTC)
LOADED = ec.generate_private_key(ec.SECP256R1())
PUBLIC = LOADED.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
FINGERPRINT = "sha256:" + hashlib.sha256(PUBLIC).hexdigest()
CERTIFICATE = certificate(LOADED)
CERTIFICATE_DIGEST = "sha256:" + hashlib.sha256(CERTIFICATE).hexdigest()


def loaded(keyring: bytes, data: bytes) -> bytes:
    return entry("ima-buf", b"sha256:\0" + hashlib.sha256(data).digest(), keyring + b"\0", data)


def key_finding(findings: tuple[Finding, ...]) -> Finding:
    (finding,) = findings
    assert (finding.clause, finding.code, finding.fatal) == ("D5", "runtime-key", True)
    return finding


def test_a_key_that_the_stack_lists_for_the_keyring(log: Log) -> None:
    assert runtime_findings(log(loaded(b".ima", CERTIFICATE)), stack(keyrings={".ima": [FINGERPRINT]})) == ()
    own = stack(keyrings={"my ring": [FINGERPRINT]})
    assert runtime_findings(log(loaded(b"my ring", CERTIFICATE)), own) == ()


def test_the_exact_certificate_may_be_listed_as_what_was_measured(log: Log) -> None:
    assert runtime_findings(log(loaded(b".ima", CERTIFICATE)), stack(files={".ima": [CERTIFICATE_DIGEST]})) == ()


@pytest.mark.parametrize(
    "runtime",
    [
        {},
        {"keyrings": {}},
        {"keyrings": {".ima": []}},
        {"keyrings": {".machine": [FINGERPRINT]}},
        {"keyrings": {".ima": ["sha256:" + "0" * 64]}},
        {"keyrings": {".ima": [CERTIFICATE_DIGEST]}},
        {"any_path": [CERTIFICATE_DIGEST]},  # the file of a certificate is no reason to load it
        {"signers": [base64.b64encode(PUBLIC).decode()]},
        {"files": {"/etc/keys/x509_ima.der": [CERTIFICATE_DIGEST]}},
    ],
)
def test_a_key_that_the_stack_does_not_list_for_the_keyring(log: Log, runtime: dict[str, Any]) -> None:
    finding = key_finding(runtime_findings(log(loaded(b".ima", CERTIFICATE)), stack(**runtime)))
    assert finding.subject == "keyring .ima"
    assert finding.actual.startswith(FINGERPRINT)


def test_a_key_that_cannot_be_read_is_not_listed(log: Log) -> None:
    listed = stack(keyrings={".ima": [FINGERPRINT]})
    found = key_finding(runtime_findings(log(loaded(b".ima", b"?")), listed))
    assert found.actual == "not a certificate that can be read"


def test_a_key_that_was_loaded_signs_nothing(log: Log) -> None:
    """The host's kernel accepts its signatures now. A stack does only when it lists the key as a signer itself."""
    key_id = hashlib.sha1(LOADED.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)).digest()[-4:]
    blob = LOADED.sign(CONTENT, ec.ECDSA(Prehashed(hashes.SHA256())))
    signature = struct.pack(">BBB4sH", 3, 2, 4, key_id, len(blob)) + blob
    signed = entry("ima-sig", b"sha256:\0" + CONTENT, b"/bin/own\0", signature)
    made = log(loaded(b".ima", CERTIFICATE), signed)
    only(runtime_findings(made, stack(keyrings={".ima": [FINGERPRINT]})))
    both = stack(keyrings={".ima": [FINGERPRINT]}, signers=[base64.b64encode(PUBLIC).decode()])
    assert runtime_findings(made, both) == ()


def test_a_buffer_is_not_listed_by_the_digest_of_a_file(log: Log) -> None:
    buffer = entry("ima-buf", b"sha256:\0" + hashlib.sha256(b"x").digest(), b"kexec-cmdline\0", b"x")
    only(runtime_findings(log(buffer), stack(any_path=["sha256:" + hashlib.sha256(b"x").hexdigest()])))


@pytest.mark.parametrize(
    ("keyrings", "place"),
    [
        ({".ima": ["sha1:" + "0" * 40]}, "keyrings['.ima']"),
        ({".ima": ["sha512:" + "0" * 128]}, "SubjectPublicKeyInfo"),
        ({"": [FINGERPRINT]}, "keyrings['']"),
        ({"hex:2e": [FINGERPRINT]}, "write this path as '.'"),
    ],
)
def test_keyrings_that_a_stack_cannot_have(keyrings: dict[str, list[str]], place: str) -> None:
    with pytest.raises(MalformedError, match=re.escape(place)):
        stack(keyrings=keyrings)
