"""Pinning an authority: by fingerprint, over TLS that the list itself vouches for, never back."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path

import pytest

from watchword.authority.keys import tls
from watchword.errors import MalformedError, Rejected, Unavailable, UsageError
from watchword.tenant import trust
from watchword.testing.signed_authority import SignedAuthority


def _stored(home: Path) -> Path:
    return home / "config" / "watchword" / "authorities" / "a.json"


def test_add_pins_and_load_reads_it_back(authority: SignedAuthority, home: Path) -> None:
    added = trust.add(authority.url, authority.fingerprint, "a")
    assert trust.load("a") == added
    assert added.keys.sealing_key_id() == authority.keys.sealing_key_id()
    assert stat.S_IMODE(_stored(home).stat().st_mode) == 0o600
    assert stat.S_IMODE(_stored(home).parent.stat().st_mode) == 0o700
    assert [item.name for item in trust.load_all()] == ["a"]
    assert [path.name for path in _stored(home).parent.iterdir()] == ["a.json"]


def test_the_name_is_the_host_name_unless_given(authority: SignedAuthority) -> None:
    assert trust.add(authority.url, authority.fingerprint).name == "127.0.0.1"


def test_a_wrong_fingerprint_stores_nothing(authority: SignedAuthority, home: Path) -> None:
    with SignedAuthority() as other, pytest.raises(Rejected) as caught:
        trust.add(authority.url, other.fingerprint, "a")
    assert caught.value.code == "keylist-fingerprint"
    assert not _stored(home).exists()


def test_a_server_in_between_that_passes_the_list_on_is_refused(authority: SignedAuthority, home: Path) -> None:
    """The list is genuine, the TLS peer is not one that the list names."""
    key = tls.new_key()
    authority.use_certificate_of(tls.issue_ca(key, "evil", int(time.time())), key)
    with pytest.raises(Rejected) as caught:
        trust.add(authority.url, authority.fingerprint, "a")
    assert caught.value.code == "tls-untrusted"
    assert not _stored(home).exists()


def test_a_certificate_for_another_host_is_refused(authority: SignedAuthority) -> None:
    authority.use_certificate_of(authority.tls_ca, authority._tls_key, ("elsewhere.example",))
    with pytest.raises(Rejected) as caught:
        trust.add(authority.url, authority.fingerprint, "a")
    assert caught.value.code == "tls-untrusted"


def test_a_name_is_not_pinned_twice(authority: SignedAuthority) -> None:
    trust.add(authority.url, authority.fingerprint, "a")
    with pytest.raises(UsageError) as caught:
        trust.add(authority.url, authority.fingerprint, "a")
    assert caught.value.code == "authority-exists"


def test_update_follows_new_keys_and_new_roots(authority: SignedAuthority) -> None:
    trust.add(authority.url, authority.fingerprint, "a")
    authority.rotate()
    authority.rotate(new_root=True)
    assert trust.update("a").keys.version == 3
    assert trust.load("a").keys.version == 3
    authority.rotate()
    assert trust.update("a").keys.version == 4


def test_a_later_root_can_be_the_pin(authority: SignedAuthority) -> None:
    from watchword.crypto.keylist import root_fingerprint

    authority.rotate(new_root=True)
    authority.rotate()
    added = trust.add(authority.url, root_fingerprint(authority.root.public_key()), "a")
    assert added.keys.version == 3


def test_an_older_list_is_refused_and_the_newer_kept(authority: SignedAuthority) -> None:
    authority.rotate()
    trust.add(authority.url, authority.fingerprint, "a")
    del authority.chain[-1]
    with pytest.raises(Rejected) as caught:
        trust.update("a")
    assert caught.value.code == "keylist-rollback"
    assert trust.load("a").keys.version == 2


def test_another_branch_of_the_chain_is_refused(authority: SignedAuthority) -> None:
    first, first_chain = authority.keys, list(authority.chain)
    authority.rotate()
    trust.add(authority.url, authority.fingerprint, "a")
    authority.keys, authority.chain = first, first_chain
    authority.rotate()
    authority.rotate()
    with pytest.raises(Rejected) as caught:
        trust.update("a")
    assert caught.value.code == "keylist-fork"
    assert trust.load("a").keys.version == 2


def test_a_new_root_that_the_old_did_not_sign_is_refused(authority: SignedAuthority) -> None:
    trust.add(authority.url, authority.fingerprint, "a")
    authority.rotate(new_root=True)
    envelope = json.loads(authority.chain[-1])
    envelope["signatures"] = envelope["signatures"][1:]
    authority.chain[-1] = json.dumps(envelope).encode()
    with pytest.raises(Rejected) as caught:
        trust.update("a")
    assert caught.value.code == "document-signers"


def test_lists_that_change_between_the_two_connections_are_refused(authority: SignedAuthority) -> None:
    genuine, calls = authority.key_document, []

    def changing() -> bytes:
        if calls:
            authority.rotate()
        calls.append(1)
        return genuine()

    authority.key_document = changing  # type: ignore[method-assign]
    with pytest.raises(Rejected) as caught:
        trust.add(authority.url, authority.fingerprint, "a")
    assert caught.value.code == "keylist-changed"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys":[]}',
        b'{"keys":{}}',
        b'{"keys":[1]}',
        b'{"keys":[null]}',
        b'{"keys":["' + b"x" * 70_000 + b'"]}',
        b'{"keys":[' + b"1," * 2000 + b"1]}",
        b"[" * 100_000,
        b'{"keys":[{"payloadType":"x","payload":"","signatures":[]}]}',
        b"\xff\xfe",
    ],
)
def test_hostile_key_lists(authority: SignedAuthority, body: bytes, home: Path) -> None:
    authority.answers["/v1/keys"] = (200, body)
    with pytest.raises(MalformedError):
        trust.add(authority.url, authority.fingerprint, "a")
    assert not _stored(home).exists()


def test_an_answer_without_end_is_cut_off(authority: SignedAuthority) -> None:
    authority.answers["/v1/keys"] = (200, b" " * (9 << 20))
    with pytest.raises(Unavailable) as caught:
        trust.add(authority.url, authority.fingerprint, "a")
    assert caught.value.code == "http-too-large"


def test_a_problem_becomes_a_sentence(authority: SignedAuthority) -> None:
    problem = {"type": "urn:watchword:problem:overloaded", "detail": "busy", "status": 503}
    authority.answers["/v1/keys"] = (503, json.dumps(problem).encode())
    with pytest.raises(Unavailable) as caught:
        trust.add(authority.url, authority.fingerprint, "a")
    assert (caught.value.code, caught.value.exit_status) == ("overloaded", 2)
    assert "busy" in caught.value.message


def test_redirects_are_not_followed(authority: SignedAuthority) -> None:
    authority.answers["/v1/keys"] = (302, b"")
    with pytest.raises(Unavailable) as caught:
        trust.add(authority.url, authority.fingerprint, "a")
    assert "302" in caught.value.message


def test_nobody_there() -> None:
    with pytest.raises(Unavailable) as caught:
        trust.add("https://127.0.0.1:1", "SHA256:" + "A" * 43, "a")
    assert caught.value.code == "http-unreachable"


@pytest.mark.parametrize(
    "url", ["http://a", "https://", "a", "https://a/b", "https://u:p@a", "https://a?x", "https://[", "https://a:0"]
)
def test_what_is_not_an_authority(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        trust.add(url, "SHA256:" + "A" * 43, "a")
    assert caught.value.code == "bad-url"


@pytest.mark.parametrize("text", ["", "SHA256:", "A" * 43, "SHA256:" + "A" * 42, "SHA256:" + "A" * 43 + "="])
def test_what_is_not_a_fingerprint(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        trust.add("https://a", text, "a")
    assert caught.value.code == "bad-fingerprint"


@pytest.mark.parametrize("name", ["..", "a/b", "-a", "", "a" * 65, "a\n"])
def test_names_stay_in_their_folder(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        trust.load(name)
    assert caught.value.code == "bad-name"


def test_remove(authority: SignedAuthority) -> None:
    trust.add(authority.url, authority.fingerprint, "a")
    trust.remove("a")
    for gone in (trust.load, trust.remove):
        with pytest.raises(UsageError) as caught:
            gone("a")
        assert caught.value.code == "authority-unknown"


def test_a_stored_chain_is_verified_again_on_every_use(authority: SignedAuthority, home: Path) -> None:
    trust.add(authority.url, authority.fingerprint, "a")
    with SignedAuthority() as other:
        document = json.loads(_stored(home).read_text())
        document["keys"] = [json.loads(envelope) for envelope in other.chain]
        _stored(home).write_text(json.dumps(document))
        with pytest.raises(Rejected) as caught:
            trust.load("a")
    assert caught.value.code == "keylist-fingerprint"


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff"])
def test_a_damaged_file_says_so(home: Path, content: bytes) -> None:
    _stored(home).parent.mkdir(parents=True)
    _stored(home).write_bytes(content)
    with pytest.raises(UsageError) as caught:
        trust.load("a")
    assert caught.value.code == "authority-file"
