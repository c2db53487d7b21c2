"""How much a log with many signatures may cost."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from watchword.policy import appraise as appraise_module
from watchword.policy.appraise import appraise
from watchword.policy.file_signature import Work
from watchword.policy.profile import Profile
from watchword.policy.release import StackRelease
from watchword.policy.runtime import judge_runtime
from watchword.policy.signer import MAX_VERIFICATIONS
from watchword.policy.stack import CompiledStack
from watchword.testing.documents import STACK, encode
from watchword.testing.logs import boot_aggregate, ima_entry, ima_log, measured
from watchword.testing.recorded import RecordedHost
from watchword.testing.soft_tpm import SoftTpm
from watchword.testing.world import profile_document, stack_from_recording
from watchword.verify.host import VerifiedHost
from watchword.wire.ima_log import ImaEntry

KEYS = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]


def public(key: ec.EllipticCurvePrivateKey) -> str:
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def signed(name: bytes, key: ec.EllipticCurvePrivateKey = KEYS[0]) -> ImaEntry:
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    blob = key.sign(hashlib.sha256(name).digest(), ec.ECDSA(Prehashed(hashes.SHA256())))
    header = struct.pack(">BBB4sH", 3, 2, 4, hashlib.sha1(point).digest()[-4:], len(blob))
    return measured(b"/bin/" + name, name, signature=header + blob)


@pytest.fixture(scope="module")
def tpm() -> SoftTpm:
    return SoftTpm.create()


def host(boots: Path, tpm: SoftTpm, entries: list[ImaEntry]) -> VerifiedHost:
    first = boot_aggregate(RecordedHost(boots / "good", tpm).values)
    log = ima_log([first, *entries]).encode()
    return RecordedHost(boots / "good", tpm, ima_log=log, pcrs=tuple(range(12))).verify()


def test_what_is_too_much_work_is_a_finding(boots: Path, tpm: SoftTpm) -> None:
    found = host(boots, tpm, [signed(b"%d" % n) for n in range(5)]).runtime
    stack = CompiledStack.parse(encode({**STACK, "runtime": {"signers": [public(KEYS[0])]}}))
    assert judge_runtime(found, stack, work=Work(5)).findings == ()
    (finding,) = judge_runtime(found, stack, work=Work(3)).findings
    assert (finding.clause, finding.code, finding.fatal) == ("D5", "runtime-signatures", True)
    assert (finding.expected, finding.actual) == (f"at most {MAX_VERIFICATIONS}", "2 more files")


def test_what_was_not_looked_at_is_kept_and_judged_the_next_time(boots: Path, tpm: SoftTpm) -> None:
    found = host(boots, tpm, [signed(b"%d" % n) for n in range(5)]).runtime
    stack = CompiledStack.parse(encode({**STACK, "runtime": {"signers": [public(KEYS[0])]}}))
    state = judge_runtime(found, stack, work=Work(3)).state
    assert state is not None
    assert [number for number, _ in state.kept] == [4, 5]


def test_files_that_are_listed_and_keys_that_are_not_named_cost_nothing(boots: Path, tpm: SoftTpm) -> None:
    listed = {f"/bin/{n}": [f"sha256:{hashlib.sha256(b'%d' % n).hexdigest()}"] for n in range(3)}
    found = host(boots, tpm, [signed(b"%d" % n) for n in range(3)]).runtime
    runtime = {"files": listed, "signers": [public(KEYS[0])]}
    assert judge_runtime(found, CompiledStack.parse(encode({**STACK, "runtime": runtime})), work=Work(0)).findings == ()
    others = CompiledStack.parse(encode({**STACK, "runtime": {"signers": [public(KEYS[1])]}}))
    assert {f.code for f in judge_runtime(found, others, work=Work(0)).findings} == {"runtime-file"}


def test_an_appended_signature_costs_an_operation_for_each_signer(boots: Path, tpm: SoftTpm) -> None:
    """Every key of the type has to be tried on a message that is whole but for its signature."""
    data = hostile_message()
    digest = b"sha256:\0" + hashlib.sha256(b"m").digest()
    entry = ima_entry("ima-modsig", digest, b"/m.ko\0", b"", digest, data)
    stack = CompiledStack.parse(encode({**STACK, "runtime": {"signers": [public(key) for key in KEYS]}}))
    found = host(boots, tpm, [entry]).runtime
    assert {f.code for f in judge_runtime(found, stack, work=Work(3)).findings} == {"runtime-file"}
    assert {f.code for f in judge_runtime(found, stack, work=Work(2)).findings} == {"runtime-signatures"}


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    assert len(content) < 128
    return bytes((tag, len(content))) + content


def hostile_message() -> bytes:
    sha256 = der(0x30, bytes.fromhex("0609608648016503040201"))
    ecdsa = der(0x30, bytes.fromhex("06082a8648ce3d040302"))
    signer = der(0x30, b"\2\1\1", der(0x30), sha256, ecdsa, der(4, b"\0"))
    kind = der(0x30, bytes.fromhex("06092a864886f70d010701"))
    data = der(0x30, b"\2\1\1", der(0x31, sha256), kind, der(0x31, signer))
    return der(0x30, bytes.fromhex("06092a864886f70d010702"), der(0xA0, data))


def test_one_bound_for_all_stacks_that_match(boots: Path, tpm: SoftTpm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appraise_module, "Work", lambda: Work(5))
    profile = Profile.parse(profile_document())
    releases = []
    for serial in (1, 2):
        document = json.loads(stack_from_recording(boots / "good", serial=serial))
        document["runtime"] = {"signers": [public(KEYS[0])]}
        stack = CompiledStack.parse(json.dumps(document).encode())
        releases.append(StackRelease(stack, stack.digest, frozenset()))
    made = host(boots, tpm, [signed(b"%d" % n) for n in range(4)])

    def level(of: list[StackRelease]) -> str | None:
        return appraise(made, profile, of, 1_800_000_000, challenged_at=1_800_000_000).level

    assert level(releases[:1]) == level(releases[1:]) == "full"
    assert level(releases) == "full"  # the first of them
    monkeypatch.setattr(appraise_module, "Work", lambda: Work(3))
    found = appraise(made, profile, releases, 1_800_000_000, challenged_at=1_800_000_000)
    assert found.level == "boot"
    skipped = [f.actual for f in found.findings if f.code == "runtime-signatures"]
    assert skipped == ["4 more files"]  # of the newer one, which came second
