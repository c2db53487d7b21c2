"""Settings: what is wrong in them is said, nothing is guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from watchword.agent.config import Config, Enrolment, load
from watchword.agent.transport import HttpsExchange, RelayExchange
from watchword.errors import MalformedError, Rejected, UsageError
from watchword.testing.scripted import ScriptedAuthority
from watchword.wire.messages import Enrolled
from watchword.wire.tpm.templates import EkKind

WHOLE = """
[authority]
trust = "/etc/watchword/authority.json"
url = "https://authority.example:8443"
keys = "/etc/watchword/keys.json"
fingerprint = "SHA256:abc"
relay = "http://relay.example:8444"
[tpm]
address = "unix:/run/tpm"
event_log = "/run/event.log"
runtime_log = "/run/ima.log"
intermediates = ["/etc/one.der", "/etc/two.der"]
[host]
state = "/var/lib/agent"
"""


@pytest.fixture(scope="module")
def authority() -> ScriptedAuthority:
    return ScriptedAuthority(lambda *_: Enrolled(bytes(32)))


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def pinned(authority: ScriptedAuthority, path: Path) -> Config:
    path.write_text(json.dumps({"keys": [json.loads(authority.envelope)]}))
    return Config(keys=path, fingerprint=authority.fingerprint)


def test_every_setting_is_read(tmp_path: Path) -> None:
    assert load(write(tmp_path / "agent.toml", WHOLE)) == Config(
        trust=Path("/etc/watchword/authority.json"),
        url="https://authority.example:8443",
        keys=Path("/etc/watchword/keys.json"),
        fingerprint="SHA256:abc",
        relay="http://relay.example:8444",
        tpm="unix:/run/tpm",
        event_log=Path("/run/event.log"),
        runtime_log=Path("/run/ima.log"),
        intermediates=(Path("/etc/one.der"), Path("/etc/two.der")),
        state=Path("/var/lib/agent"),
    )


def test_flags_replace_settings_and_absent_ones_do_not() -> None:
    config = Config(url="https://one", relay="http://relay").with_flags(url="https://two", relay=None)
    assert (config.url, config.relay) == ("https://two", "http://relay")


@pytest.mark.parametrize(
    "text",
    [
        "[authorities]\nurl = 'x'",
        "[authority]\nurl = 1",
        "[authority]\nurl = ''",
        "[authority]\nunknown = 'x'",
        "authority = 'x'",
        "[tpm]\nintermediates = 'one.der'",
        "[tpm]\nintermediates = [1]",
        "[authority",
        "a = " + "[" * 3000,
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError) as refused:
        load(write(tmp_path / "agent.toml", text))
    assert refused.value.code == "config"


def test_a_missing_or_endless_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(UsageError):
            load(path)


def test_pinned_keys_are_verified(authority: ScriptedAuthority, tmp_path: Path) -> None:
    config = pinned(authority, tmp_path / "keys")
    assert config.authority_keys().authority == "scripted"


def trust(authority: ScriptedAuthority) -> str:
    document = {
        "format": "watchword-authority/1",
        "url": "https://authority.example",
        "fingerprint": authority.fingerprint,
        "keys": [json.loads(authority.envelope)],
    }
    return json.dumps(document)


def test_a_trust_file_names_everything(authority: ScriptedAuthority, tmp_path: Path) -> None:
    config = Config(trust=write(tmp_path / "trust", trust(authority)))
    keys = config.authority_keys()
    assert keys.authority == "scripted"
    config.exchange(keys).close()
    other = ScriptedAuthority(lambda *_: Enrolled(bytes(32)))
    with pytest.raises(Rejected):
        config.with_flags(fingerprint=other.fingerprint).authority_keys()


def test_what_an_authority_says_about_its_fingerprint_does_not_count(
    authority: ScriptedAuthority, tmp_path: Path
) -> None:
    config = Config(keys=write(tmp_path / "keys", trust(authority)))
    with pytest.raises(UsageError) as refused:
        config.authority_keys()
    assert refused.value.code == "authority-unset"


@pytest.mark.parametrize("text", ["{}", '{"keys": [], "format": "other", "url": "", "fingerprint": ""}', "[]"])
def test_a_file_that_is_no_trust_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError) as refused:
        Config(trust=write(tmp_path / "trust", text)).authority_keys()
    assert refused.value.code == "keys-file"


def test_keys_of_another_authority_are_refused(authority: ScriptedAuthority, tmp_path: Path) -> None:
    other = ScriptedAuthority(lambda *_: Enrolled(bytes(32)))
    config = pinned(authority, tmp_path / "keys").with_flags(fingerprint=other.fingerprint)
    with pytest.raises(Rejected) as refused:
        config.authority_keys()
    assert refused.value.code == "keylist-fingerprint"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": {}}', '{"keys": "x"}', "\xff"])
def test_a_file_that_is_no_list_of_keys_is_refused(tmp_path: Path, text: str) -> None:
    config = Config(keys=write(tmp_path / "keys", text), fingerprint="SHA256:x")
    with pytest.raises(UsageError) as refused:
        config.authority_keys()
    assert refused.value.code == "keys-file"


@pytest.mark.parametrize("text", ['{"keys": []}', '{"keys": [1]}', '{"keys": [{}]}'])
def test_an_empty_or_strange_chain_is_malformed(tmp_path: Path, text: str) -> None:
    config = Config(keys=write(tmp_path / "keys", text), fingerprint="SHA256:x")
    with pytest.raises(MalformedError):
        config.authority_keys()


def test_without_a_pin_there_is_a_hint() -> None:
    for config in (Config(), Config(keys=Path("/dev/null"))):
        with pytest.raises(UsageError) as refused:
            config.authority_keys()
        assert refused.value.code == "authority-unset"
        assert "fingerprint" in refused.value.hint


def test_a_relay_goes_before_the_direct_way(authority: ScriptedAuthority) -> None:
    direct = Config(url="https://authority").exchange(authority.keys)
    relayed = Config(url="https://authority", relay="http://relay").exchange(authority.keys)
    assert (type(direct), type(relayed)) == (HttpsExchange, RelayExchange)
    direct.close()
    relayed.close()
    with pytest.raises(UsageError):
        Config().exchange(authority.keys)


def test_intermediate_certificates_are_read_and_bounded(tmp_path: Path) -> None:
    path = tmp_path / "one.der"
    path.write_bytes(b"certificate")
    assert Config(intermediates=(path,)).intermediate_certificates() == (b"certificate",)
    path.write_bytes(bytes(8193))
    with pytest.raises(UsageError) as refused:
        Config(intermediates=(path,)).intermediate_certificates()
    assert refused.value.code == "file-size"


def test_an_enrolment_is_remembered(tmp_path: Path) -> None:
    state = tmp_path / "state" / "agent"
    assert Enrolment.read(state) is None
    Enrolment(bytes(range(32)), EkKind.P384).save(state)
    assert Enrolment.read(state) == Enrolment(bytes(range(32)), EkKind.P384)
    assert [path.name for path in state.iterdir()] == ["enrolment.json"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"host_id": "00", "ek_kind": "P256"}', '{"host_id": 1, "ek_kind": "P256"}']
)
def test_a_damaged_enrolment_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path / "enrolment.json", text)
    with pytest.raises(UsageError) as refused:
        Enrolment.read(tmp_path)
    assert refused.value.code == "enrolment-file"
