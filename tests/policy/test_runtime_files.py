"""Clause D5 on runtime logs made up entry by entry: what counts as a file that the stack allows."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from watchword.errors import Finding
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
