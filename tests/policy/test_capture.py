from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from watchword.cli.inspect_logs import describe_ima_log, ima_log_text
from watchword.errors import MalformedError, UsageError
from watchword.policy.capture import CapturedEvent, capture_stack, captured_events, captured_files, captured_keys
from watchword.policy.stack import CompiledStack
from watchword.testing.logs import boot_aggregate, ima_entry, ima_log
from watchword.wire.ima_log import ImaLog
from watchword.wire.tcg_log import EventLog
from watchword.wire.tpm.algorithms import Alg, digest

DIGEST = hashlib.sha256(b"x").digest()
EVENTS: list[CapturedEvent] = [(0, {Alg.SHA256: DIGEST}, "firmware"), (4, {Alg.SHA256: DIGEST}, "a\nkernel")]


def capture(**changes: object) -> CompiledStack:
    arguments: dict[str, object] = {"name": "n", "version": "1", "serial": 1, "events": EVENTS, "files": None}
    return CompiledStack.parse(capture_stack(**{**arguments, **changes}))  # type: ignore[arg-type]


def test_a_recorded_boot(boots: Path) -> None:
    events = captured_events(EventLog.parse((boots / "good/eventlog.bin").read_bytes()))
    files = captured_files(ImaLog.parse((boots / "good/ima.bin").read_bytes()))
    stack = capture(events=events, files=files)
    assert stack.origin == "captured"
    assert Alg.SHA256 in stack.banks
    assert Alg.SHA1 not in stack.banks
    assert {e.pcr for c in stack.components for v in c.variants for e in v.events} >= {0, 2, 3, 4, 7, 9, 11}
    # What ran is what the image contains.
    image = json.loads((boots / "good/files.json").read_text())
    assert stack.files
    assert b"boot_aggregate" not in stack.files
    known = [path for path in stack.files if path.decode() in image]
    assert known
    for path in known:
        assert {f"sha256:{digest.hex()}" for _, digest in stack.files[path]} == {image[path.decode()]}


def test_empty_pcrs_are_covered_too() -> None:
    assert 12 in capture().pcrs


def test_notes_are_printable_and_origin_is_said() -> None:
    stack = capture()
    assert stack.components[2].variants[0].events[0].note == "a kernel"
    assert stack.origin == "captured"
    assert not stack.runtime


def test_own_components() -> None:
    stack = capture(components={"all": (0, 4)})
    assert [c.name for c in stack.components] == ["all"]
    assert len(stack.components[0].variants[0].events) == 2


@pytest.mark.parametrize("components", [{"a": (0, 4), "b": (4,)}, {"a": (10,)}, {"a": (16,)}, {"a": (24,)}])
def test_components_that_cannot_be(components: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(UsageError) as caught:
        capture(components=components)
    assert caught.value.code == "capture-components"


def test_a_log_of_sha1_alone_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        capture(events=[(0, {Alg.SHA1: bytes(20)}, "")])
    assert caught.value.code == "capture-bank"


def test_a_bad_name_is_refused() -> None:
    with pytest.raises(MalformedError, match="name"):
        capture(name="two words")


def test_keys_are_captured_for_their_keyrings_and_not_as_files() -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")])
    key, start = ec.generate_private_key(ec.SECP256R1()), datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(1))
    data = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    loaded = ima_entry("ima-buf", b"sha256:\0" + digest(Alg.SHA256, data), b".ima\0", data)
    log = ima_log([boot_aggregate({}), loaded, ima_entry("ima-buf", b"sha256:\0" + bytes(32), b".machine\0", b"?")])
    assert captured_files(log) == []
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    stack = capture(files=[], keys=captured_keys(log))
    assert stack.keyrings == {b".ima": frozenset({digest(Alg.SHA256, public)})}
    shown = describe_ima_log(log.encode())
    assert [(key["keyring"], key["tied"]) for key in shown["keys"]] == [(".ima", True), (".machine", False)]
    assert "keyring .machine got a key that cannot be read" in ima_log_text(shown)
    assert "NOT what was measured" in ima_log_text(shown)
