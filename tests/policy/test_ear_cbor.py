"""Attestation results in CBOR: the same claims under numbers."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from watchword.cli.main import run
from watchword.crypto.cbor import Tag, dump, load
from watchword.crypto.cose import sign
from watchword.errors import MalformedError
from watchword.policy.ear_cbor import parse_unverified
from watchword.policy.ear_claims import PROFILE, VerifierId
from watchword.policy.trustworthiness import Claim, Tier

MODULE: dict[Any, Any] = {1000: 96, 1001: {0: 2, 2: 96, 7: -1}, 1003: ["https://example.com/p"], 10: b"\xff" * 8}
RESULT: dict[Any, Any] = {265: PROFILE, 6: 100, 4: 200, 1004: {0: "me", 1: "1"}, 1002: b"raw", 266: {"host": MODULE}}


def test_the_claims_have_their_names() -> None:
    found = parse_unverified(dump({**RESULT, 1000: 96}))
    assert (found.issued, found.expires, found.verifier, found.profile) == (100, 200, VerifierId("me", "1"), PROFILE)
    assert (found.raw_evidence, found.status) == (b"raw", Tier.CONTRAINDICATED)
    module = found.submodules["host"]
    assert module.vector == {Claim.INSTANCE_IDENTITY: 2, Claim.EXECUTABLES: 96, Claim.SOURCED_DATA: -1}
    assert (module.status, module.policy_ids) == (Tier.CONTRAINDICATED, ("https://example.com/p",))
    assert module.nonces == ("__________8",)


def test_other_claims_are_kept_under_their_numbers() -> None:
    module = {**MODULE, 65000: {1: b"\0", "a": [1, Tag(111, b"\1")]}}
    found = parse_unverified(dump({**RESULT, 266: {"host": module}, -5: 1}))
    assert found.extensions == {"-5": 1}
    assert found.submodules["host"].extensions == {"65000": {"1": "AA", "a": [1, {"tag 111": "AQ"}]}}


@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: dump(Tag(61, load(data, "x", 10_000)))])
def test_signed_results_are_opened(wrap: Any) -> None:
    signed = sign(dump(RESULT), {}, Ed25519PrivateKey.generate())
    assert parse_unverified(wrap(signed)) == parse_unverified(dump(RESULT))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({1000: 3}, "'3'"),
        ({1000: -(2**64)}, "ear_status"),
        ({1000: {}}, "ear_status"),
        ({265: "another"}, "not a profile"),
        ({1004: 5}, "ear_verifier_id: is not a map"),
        ({266: []}, "submods: is not a map"),
        ({266: {"host": 5}}, "'host'.: is not a map"),
        ({266: {"host": {**MODULE, 1001: []}}}, "vector: is not a map"),
        ({266: {"host": {**MODULE, 1001: {8: 2}}}}, "Invalid"),
        ({266: {"host": {**MODULE, 1000: 2}}}, "promises more"),
        ({266: {"host": {**MODULE, "ear_status": 96}}}, "under its number and its name"),
        ({"iat": 5}, "under its number and its name"),
        ({-9: {1: 2, "1": 3}}, "one name twice"),
        ({-9: 1.5}, "not an integer"),
    ],
)
def test_refused(changed: dict[Any, Any], why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        parse_unverified(dump({**RESULT, **changed}))


@pytest.mark.parametrize("data", [b"\xa0", b"\xa1\x01", dump(Tag(61, 5)), dump(Tag(18, [])), dump([1])])
def test_refused_bytes(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_unverified(data)


def test_show_says_that_nothing_was_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ear.cbor"
    file.write_bytes(dump(RESULT))
    assert run(["ear", "show", str(file), "--json"]) == 0
    told = capsys.readouterr()
    assert "nothing was verified" in told.err
    assert json.loads(told.out)["verified"] is False
    program = "import sys; sys.modules['cbor2'] = None; from watchword.cli.main import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "ear", "show", str(file), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (1, "extra-missing")


def diagnostic(text: str) -> Any:
    """The diagnostic notation of the draft's examples, which is Python's but for byte strings."""
    return ast.literal_eval(re.sub(r"h'([0-9A-Fa-f]*)'", lambda m: repr(bytes.fromhex(m[1])), text))


@pytest.mark.parametrize(
    ("name", "submodule", "status"),
    [
        ("ear-cbor-1", "PSA", Tier.CONTRAINDICATED),
        ("ext-teep-cbor-1", "PSA", Tier.NONE),
        ("ext-veraison-cbor-1", "PSA_IOT", Tier.NONE),
    ],
)
def test_the_drafts_examples(corpus: Path, name: str, submodule: str, status: Tier) -> None:
    text = (corpus / "ietf-rats-wg+draft-ietf-rats-ear" / "ear" / f"{name}.diag").read_text()
    found = parse_unverified(dump(diagnostic(text)))
    assert found.submodules[submodule].status is status
    assert found.submodules[submodule].policy_ids == ("https://veraison.example/policy/1/60a0068d",)
    assert found.raw_evidence == b"lifeboatman"
