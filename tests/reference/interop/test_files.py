"""File lists of other tools: what is taken, what is left out and named, what is refused with its place."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from watchword.errors import MalformedError, UsageError
from watchword.policy.stack import CompiledStack
from watchword.reference.interop.draft import Heading, build
from watchword.reference.interop.keylime import read_policy
from watchword.reference.interop.manifest import read_manifest
from watchword.testing.documents import STACK, encode, sha
from watchword.wire.tpm.algorithms import Alg

DIGEST = bytes.fromhex(sha("a"))
paths = st.binary(min_size=1, max_size=40).filter(lambda p: b"\0" not in p).map(lambda p: b"/" + p)


@given(st.dictionaries(paths, st.binary(min_size=32, max_size=32), max_size=5))
def test_what_sha256sum_writes_is_read(files: dict[bytes, bytes]) -> None:
    lines = []
    for path, digest in files.items():
        escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
        lines.append((b"\\" if escaped != path else b"") + digest.hex().encode() + b"  " + escaped + b"\n")
    # A blank or an asterisk at the beginning of a path is taken for part of the separator; ours begin with a slash.
    assert read_manifest(b"".join(lines)).files == {p: frozenset({(Alg.SHA256, d)}) for p, d in files.items()}


def test_the_real_sha256sum(tmp_path: Path) -> None:
    names = ["plain", "with blank", "back\\slash", "line\nbreak"]
    for name in names:
        (tmp_path / name).write_text(name)
    for tool, alg in (("sha256sum", Alg.SHA256), ("sha384sum", Alg.SHA384), ("sha512sum", Alg.SHA512)):
        done = subprocess.run([tool, *(str(tmp_path / name) for name in names)], capture_output=True, check=True)
        found = read_manifest(done.stdout).files
        assert found is not None
        for name in names:
            digest = hashlib.new(alg.name, name.encode()).digest()
            assert found[bytes(tmp_path / name)] == {(alg, digest)}


@given(st.binary(max_size=200))
def test_any_manifest_is_read_or_refused(data: bytes) -> None:
    with suppress(MalformedError):
        assert read_manifest(data).files is not None


def test_weak_and_relative_lines_are_named() -> None:
    text = f"{'a' * 40}  /x\n{'b' * 32}  /y\n{sha('a')}  relative\n{sha('a')} *%keyring:.ima\nsha1:{'c' * 40}  /z\n"
    draft = read_manifest(text.encode())
    assert draft.files == {}
    assert draft.left_out == (
        "3 × digest that is too weak or of no known kind, for example '/x'",
        "path that is not absolute: 'relative'",
        "keyring, which a stack cannot list: '%keyring:.ima'",
    )


@pytest.mark.parametrize("line", ["nothing", "00  /x", f"\\{'a' * 64}  /x\\q"])
def test_a_bad_line_is_named(line: str) -> None:
    with pytest.raises(MalformedError, match=r"^manifest: line 2: "):
        read_manifest(f"# comment\n{line}\n".encode())


def policy(**more: object) -> bytes:
    return json.dumps({"digests": {"/bin/sh": [sha("sh")]}, **more}).encode()


def test_a_policy_with_everything() -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    der = base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
    odd = ec.generate_private_key(ec.SECP256K1()).public_key()
    odd_der = base64.b64encode(odd.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
    draft = read_policy(
        policy(
            excludes=["/tmp/.*"],
            keyrings={".ima": [sha("k")]},
            ima={"ignored_keyrings": ["*"], "log_hash_alg": "sha1", "dm_policy": {"a": 1}},
            **{"ima-buf": {"dm": [sha("b")]}, "verification-keys": json.dumps({"pubkeys": [der, odd_der]})},
        )
    )
    assert draft.files == {b"/bin/sh": {(Alg.SHA256, bytes.fromhex(sha("sh")))}}
    assert draft.signers == (der,)
    told = "\n".join(draft.left_out)
    for word in ("verification key", "1 excludes are patterns", "'/tmp/.*'", "keyring '.ima'", "buffer 'dm'",
                 "ignored keyrings", "device mapper"):  # fmt: skip
        assert word in told


def test_an_exclude_never_widens() -> None:
    """What a pattern would have let through is in no list of the stack."""
    draft = read_policy(policy(excludes=[".*"]))
    stack = CompiledStack.parse(build(draft, Heading("compute", "2", 6), encode(STACK)))
    assert set(stack.files) == {b"/bin/sh"}
    assert stack.any_path == CompiledStack.parse(encode(STACK)).any_path


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"{}", "neither digests nor hashes"),
        (b'{"digests": {"/a": ["x"], "/a": ["y"]}}', "appears twice"),
        (b'{"digests": {"/a": 1}}', r"digests"),
        (b'{"digests": {}, "verification-keys": "x"}', "line 1"),
        (b"[" * 100_000, "nested too deeply|line 1"),
    ],
)
def test_bad_policies(data: bytes, place: str) -> None:
    with pytest.raises(MalformedError, match=f"^runtime policy: .*{place}"):
        read_policy(data)


def test_files_alone_are_no_stack() -> None:
    with pytest.raises(UsageError) as caught:
        build(read_policy(policy()), Heading("compute", "2", 6))
    assert caught.value.code == "import-empty"


def test_what_is_built_on_a_captured_stack_is_captured() -> None:
    captured = encode({**STACK, "origin": "captured"})
    for base, origin, expected in (
        (captured, "computed", "captured"),
        (captured, "captured", "captured"),
        (encode(STACK), "captured", "captured"),
        (encode(STACK), "computed", "computed"),
    ):
        document = build(read_policy(policy()), Heading("compute", "2", 6, origin), base)
        assert CompiledStack.parse(document).origin == expected


def test_other_peoples_policies(corpus: Path) -> None:
    folder = corpus / "keylime+keylime" / "policies"
    for name in ("sha256", "sha384", "sha512"):
        found = read_policy((folder / f"policy-{name}").read_bytes())
        assert [len(digests) for digests in (found.files or {}).values()] == [1], name
        assert read_manifest((folder / f"allowlist-{name}").read_bytes()).left_out, "a relative path"
    for name in ("sha1", "unknown"):
        found = read_policy((folder / f"policy-{name}").read_bytes())
        assert found.files == {}
        assert "too weak or of no known kind" in found.left_out[0]
    test = read_policy((folder / "runtime-policy-test.json").read_bytes())
    assert test.files == {}
    assert any("keyring '.ima'" in sentence for sentence in test.left_out)
    assert any("too weak" in sentence for sentence in test.left_out)
    assert len(read_policy((folder / "runtime-policy.json").read_bytes()).files or ()) == 7
    short = read_manifest((folder / "ima-allowlist-short.txt").read_bytes())
    assert short.files == {}
    assert any("keyring" in sentence for sentence in short.left_out)
    for name in ("runtime-policy-test-signed.json", "example_reference_state.json"):
        with pytest.raises(MalformedError, match="no runtime policy"):
            read_policy((folder / name).read_bytes())
    with pytest.raises(MalformedError, match="line 1"):
        read_manifest((folder / "rust-keylime_kernel-ima-policy").read_bytes()[20:])


def test_a_policy_path_that_is_not_absolute_or_a_boot_aggregate_is_left_out() -> None:
    draft = read_policy(json.dumps({"digests": {"data": [sha("a")], "boot_aggregate": [sha("b")]}}).encode())
    assert draft.files == {}
    assert draft.left_out == (
        "path that is not absolute: 'data'",
        "boot aggregate, which is judged against the quote: 'boot_aggregate'",
    )
