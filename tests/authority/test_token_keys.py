"""An authority whose signing key and log key are in a PKCS#11 token: a real one (SoftHSM), pulled out and put back."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from watchword.authority.app import Services
from watchword.authority.keys.keyring import Keyring, KeyringSource
from watchword.authority.keys.manifest import read_manifest
from watchword.authority.store import Store
from watchword.cli.main import run
from watchword.errors import Unavailable, UsageError
from watchword.launch.receipt import verify_receipt
from watchword.pkcs11.held import TokenKey, Tokens
from watchword.pkcs11.uri import Pkcs11Uri
from watchword.testing.farm import have_swtpm
from watchword.testing.softhsm import SoftHsm
from watchword.testing.world import World
from watchword.verify.log import verify_checkpoint

from .conftest import Command, serving
from .helpers import NOW


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
    if SoftHsm.missing():
        pytest.skip(f"{SoftHsm.missing()} is not installed (Debian: softhsm2, opensc): no token to keep keys in")
    made = SoftHsm.create(tmp_path / "hsm")
    for name in made.environment:
        monkeypatch.setenv(name, "")  # what use_here sets goes with the test
    made.use_here()
    return made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """As for other commands, made now: a client will look at the service's certificate."""
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    Keyring.create(path / "keyring", authority="test", now=int(time.time()))
    Store.open(path / "store.sqlite3").close()
    return path


@pytest.fixture
def tokens(hsm: SoftHsm) -> Tokens:
    return Tokens(lambda: hsm.pin)


@pytest.fixture
def key(hsm: SoftHsm, tokens: Tokens) -> TokenKey:
    return tokens.generate(Pkcs11Uri.parse(hsm.uri("signing")))


@pytest.fixture
def ring(tmp_path: Path, hsm: SoftHsm, tokens: Tokens, key: TokenKey) -> Keyring:
    """Both keys are in the token."""
    log = tokens.generate(Pkcs11Uri.parse(hsm.uri("log")))
    Keyring.create(tmp_path / "keyring", authority="test", now=NOW)
    made = Keyring.load(tmp_path / "keyring", tokens=tokens)
    return made.rotate_signing(NOW + 1, key).rotate_log(NOW + 2, log)


def refused(action: Callable[[], object], kind: type[UsageError | Unavailable]) -> str:
    with pytest.raises(kind) as caught:
        action()
    return caught.value.code


def signs(ring: Keyring) -> None:
    for each in (ring.signing_key, ring.log_key):
        each.public_key().verify(each.sign(b"x"), b"x")


# -- keys ------------------------------------------------------------------------------------------------------------


def test_the_keys_are_in_the_token_and_nowhere_else(ring: Keyring, hsm: SoftHsm) -> None:
    assert isinstance(ring.signing_key, TokenKey)
    assert isinstance(ring.log_key, TokenKey)
    assert not [*ring.directory.glob("signing-*"), *ring.directory.glob("log-*")]
    manifest = read_manifest(ring.directory)
    assert manifest.signing.startswith("pkcs11:token=hsm;object=signing;id=")
    assert hsm.pin not in (ring.directory / "keyring.json").read_text() + repr(ring)
    assert ring.key_list.signing == (ring.signing_key.public_key(),)
    signs(ring)
    shown = hsm.objects()
    assert shown.count("Private Key Object") == 2
    assert shown.count("sensitive, always sensitive, never extractable") == 2


def test_who_signs_nothing_needs_no_token(ring: Keyring, hsm: SoftHsm) -> None:
    hsm.remove()
    loaded = Keyring.load(ring.directory)
    assert loaded.rotate_sealing(NOW + 3).key_list.version == 4
    assert refused(lambda: loaded.signing_key.sign(b"x"), UsageError) == "pkcs11-pin"


def test_back_to_a_file(ring: Keyring) -> None:
    rotated = ring.rotate_signing(NOW + 3)
    assert isinstance(rotated.signing_key, Ed25519PrivateKey)
    assert rotated.key_list.retired_signing[0] == ring.signing_key.public_key()
    assert isinstance(rotated.log_key, TokenKey)


def test_one_key_has_one_duty(ring: Keyring, key: TokenKey) -> None:
    for rotate in (ring.rotate_log, ring.rotate_signing):
        assert refused(lambda rotate=rotate: rotate(NOW + 3, key), UsageError) == "pkcs11-used"  # type: ignore[misc]


def test_a_name_that_is_taken(hsm: SoftHsm, tokens: Tokens, key: TokenKey) -> None:
    uri = Pkcs11Uri.parse(hsm.uri("signing"))
    assert refused(lambda: tokens.generate(uri), UsageError) == "pkcs11-exists"
    assert tokens.existing(uri).public_key() == key.public_key()
    assert refused(lambda: tokens.existing(Pkcs11Uri.parse(hsm.uri("nobody"))), UsageError) == "pkcs11-key"


# -- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_token_that_is_pulled_out_and_put_back(ring: Keyring, hsm: SoftHsm) -> None:
    signs(ring)
    hsm.remove()
    assert refused(lambda: ring.signing_key.sign(b"x"), Unavailable) == "token-gone"
    assert refused(ring.check_tokens, Unavailable) == "token-gone"
    hsm.insert()
    signs(ring)
    ring.check_tokens()


def test_a_library_that_is_started_afresh(ring: Keyring, hsm: SoftHsm) -> None:
    signs(ring)
    hsm.use_here()  # all sessions of this process are gone
    signs(ring)


def test_two_in_one_process(ring: Keyring, hsm: SoftHsm) -> None:
    signs(ring)
    again = Keyring.load(ring.directory, tokens=Tokens(lambda: hsm.pin))
    for each in (again, ring, again, ring):
        signs(each)


def test_a_wrong_pin_is_tried_once(ring: Keyring, hsm: SoftHsm) -> None:
    said = ["00000000"]
    hsm.use_here()
    other = Keyring.load(ring.directory, tokens=Tokens(lambda: said[-1]))
    assert refused(lambda: other.signing_key.sign(b"x"), Unavailable) == "pkcs11-token"
    hsm.change_pin("00000000")
    hsm.use_here()  # SoftHSM reads a PIN of the token once: now this one is right, and would be accepted
    assert refused(lambda: other.log_key.sign(b"x"), Unavailable) == "pkcs11-token"
    hsm.change_pin("11112222")
    hsm.use_here()
    said.append(hsm.pin)
    signs(other)


def test_a_key_that_was_removed(ring: Keyring, hsm: SoftHsm) -> None:
    signs(ring)
    hsm.delete("signing")
    assert refused(lambda: ring.signing_key.sign(b"x"), UsageError) == "pkcs11-key"
    assert refused(ring.check_tokens, UsageError) == "pkcs11-key"
    ring.log_key.sign(b"x")


def test_another_key_under_its_name(ring: Keyring, hsm: SoftHsm, tokens: Tokens) -> None:
    assert isinstance(ring.signing_key, TokenKey)
    hsm.delete("signing")
    tokens.generate(ring.signing_key.uri)
    assert refused(lambda: ring.signing_key.sign(b"x"), UsageError) == "pkcs11-key"
    assert refused(ring.check_tokens, UsageError) == "pkcs11-key"


def test_threads_while_the_token_comes_and_goes(ring: Keyring, hsm: SoftHsm) -> None:
    codes, good, stop = set(), [], threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                signs(ring)
                good.append(1)
            except (Unavailable, UsageError) as error:
                codes.add(error.code)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for change in (hsm.remove, hsm.insert, hsm.remove, hsm.insert):
        time.sleep(0.2)
        change()
    time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert good
    assert codes == {"token-gone"}
    signs(ring)


# -- a whole authority -----------------------------------------------------------------------------------------------


@pytest.fixture
def world(boots: Path, hsm: SoftHsm, tokens: Tokens) -> Iterator[World]:
    if not have_swtpm():
        pytest.skip("swtpm is not installed: launches need real emulated TPMs")
    with World(boots, clock=int(time.time())) as made:
        ring = Keyring.load(made.keys.directory, tokens=tokens)
        ring = ring.rotate_signing(made.now, tokens.generate(Pkcs11Uri.parse(hsm.uri("signing"))))
        ring = ring.rotate_log(made.now, tokens.generate(Pkcs11Uri.parse(hsm.uri("log"))))
        made.keys = ring.with_names(["127.0.0.1"], made.now)
        yield made


def test_receipts_and_checkpoints_verify(world: World, hsm: SoftHsm) -> None:
    host, token = world.host(), world.token(releases=2)
    assert host.obtain(token).secret == token.body.secret
    services = Services(world.launches, world.store, KeyringSource(world.keys), lambda: world.now)
    context = ssl.create_default_context(cadata=world.keys.key_list.tls_ca)
    with (
        serving(services, world.keys) as address,
        httpx2.Client(base_url=address.url, verify=context, timeout=30) as client,
    ):
        answer = client.get(f"/v1/launches/{token.body.launch_id.hex()}").json()
        receipt = verify_receipt(json.dumps(answer["decisions"][0]).encode(), world.keys.key_list)
        assert receipt.decision.outcome == "released"
        assert verify_checkpoint(client.get("/v1/checkpoint").content, world.keys.key_list).size == 2
        assert client.get("/v1/ready").status_code == 200
        hsm.remove()
        time.sleep(1.1)  # the answer of /v1/ready is good for a second
        assert client.get("/v1/ready").status_code == 503
        answered = client.get(f"/v1/launches/{token.body.launch_id.hex()}")
        assert (answered.status_code, answered.json()["type"]) == (503, "urn:watchword:problem:token-gone")


def test_the_doctor_looks_at_the_token(world: World, hsm: SoftHsm) -> None:
    """Reachable, the right PIN; one thing wrong is one trouble. Logins belong to a process: another one each time."""
    command = [sys.executable, "-m", "watchword", "authority", "doctor", "--data", str(world.folder), "--json"]

    def found(pin: str) -> tuple[int, bool, list[str]]:
        done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "WATCHWORD_PIN": pin})
        told = json.loads(done.stdout)
        return done.returncode, "tokens" in told["checked"], [each["code"] for each in told["problems"]]

    assert found(hsm.pin) == (0, True, [])
    assert found("0000") == (2, True, ["pkcs11-token"])
    assert found("") == (2, True, ["pkcs11-pin"])
    hsm.remove()
    assert found(hsm.pin) == (2, True, ["token-gone"])


def test_nothing_is_released_while_the_token_is_gone(world: World, hsm: SoftHsm) -> None:
    host, token = world.host(), world.token(releases=2)
    hsm.remove()
    with pytest.raises(Exception, match="nothing was released"):
        host.obtain(token)
    assert world.decisions(token) == []  # it does not count
    hsm.insert()
    assert host.obtain(token).secret == token.body.secret


# -- commands --------------------------------------------------------------------------------------------------------


@pytest.fixture
def pin_file(hsm: SoftHsm, tmp_path: Path) -> Path:
    path = tmp_path / "pin"
    path.write_text(f"{hsm.pin}\n")
    path.chmod(0o600)
    return path


def test_commands_put_the_keys_in_the_token(
    command: Command, data: Path, hsm: SoftHsm, pin_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, before = command("keys", "show")
    status, after = command("keys", "rotate", "signing", "--pkcs11", hsm.uri("s"), "--pin-file", str(pin_file))
    assert (status, after["version"], after["retired_signing"]) == (0, 2, before["signing"])
    monkeypatch.setenv("WATCHWORD_PIN", hsm.pin)
    assert command("keys", "rotate", "log", "--pkcs11", hsm.uri("l"))[0] == 0
    assert not [*(data / "keyring").glob("signing-*"), *(data / "keyring").glob("log-*")]
    monkeypatch.delenv("WATCHWORD_PIN")
    assert command("keys", "show")[0] == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["sealing", "--pkcs11", "pkcs11:token=hsm;object=x"], "usage"),
        (["signing", "--existing"], "usage"),
        (["signing", "--pkcs11", "pkcs11:token=hsm;object=x?module-path=/lib.so"], "pkcs11-uri"),
        (["signing", "--pkcs11", "pkcs11:token=hsm;object=x", "--existing"], "pkcs11-key"),
        (["signing", "--pkcs11", "pkcs11:token=other;object=x"], "token-gone"),
    ],
)
def test_rotations_that_are_refused_change_nothing(
    command: Command, hsm: SoftHsm, pin_file: Path, words: list[str], code: str
) -> None:
    _, document = command("keys", "rotate", *words, "--pin-file", str(pin_file))
    assert document["error"]["code"] == code
    assert command("keys", "show")[1]["version"] == 1
    assert command("decisions")[1]["head"]["seq"] == 0


def test_a_pin_that_is_open_or_absent(command: Command, hsm: SoftHsm, pin_file: Path) -> None:
    words = ["keys", "rotate", "signing", "--pkcs11", hsm.uri("s")]
    assert command(*words)[1]["error"]["code"] == "pkcs11-pin"
    pin_file.chmod(0o644)
    assert command(*words, "--pin-file", str(pin_file))[1]["error"]["code"] == "pin-open"


def test_serve_from_a_token(command: Command, data: Path, hsm: SoftHsm, pin_file: Path, tmp_path: Path) -> None:
    for kind in ("signing", "log"):
        words = ["keys", "rotate", kind, "--pkcs11", hsm.uri(kind), "--pin-file", str(pin_file)]
        assert command(*words)[0] == 0
    ready = tmp_path / "ready.json"
    service = serve(data, hsm, "--pin-file", str(pin_file), "--ready-file", str(ready))
    try:
        deadline = time.monotonic() + 60
        while not ready.exists() and service.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        named = Keyring.load(data / "keyring").key_list
        context = ssl.create_default_context(cadata=named.tls_ca)
        with httpx2.Client(base_url=json.loads(ready.read_text())["url"], verify=context, timeout=30) as client:
            assert verify_checkpoint(client.get("/v1/checkpoint").content, named).size == 2
            # A rotation by another process, into the token: the running service signs with that key from now on.
            assert command("keys", "rotate", "log", "--pkcs11", hsm.uri("l2"), "--pin-file", str(pin_file))[0] == 0
            named = Keyring.load(data / "keyring").key_list
            assert verify_checkpoint(client.get("/v1/checkpoint").content, named).size == 3
    finally:
        service.terminate()
        service.communicate(timeout=30)
    pin_file.write_text("00000000")
    started = serve(data, hsm, "--pin-file", str(pin_file))
    out, err = started.communicate(timeout=60)
    assert (started.returncode, json.loads(out)["error"]["code"]) == (2, "pkcs11-token")
    assert "00000000" not in out + err


def serve(data: Path, hsm: SoftHsm, *more: str) -> subprocess.Popen[str]:
    words = ["authority", "serve", "--listen", "127.0.0.1:0", "--data", str(data), "--json", *more]
    return subprocess.Popen(
        [sys.executable, "-c", "from watchword.cli.main import main; main()", *words],
        env={**os.environ, **hsm.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_root_that_is_elsewhere_signs_for_a_key_in_a_token(
    data: Path, hsm: SoftHsm, pin_file: Path, tmp_path: Path, capsys: Any
) -> None:
    """The token's key waits with the rest, and is in force once the root has signed."""
    phrase, stick = tmp_path / "phrase", tmp_path / "request.json"
    phrase.write_text("a long one\n")
    root, signed, at = str(tmp_path / "root.pem"), str(tmp_path / "signed.json"), ["--data", str(data), "--json"]
    assert run(["authority", "keys", "export-root", root, "--root-passphrase-file", str(phrase), *at]) == 0
    rotate = ["authority", "keys", "rotate", "signing", "--pkcs11", hsm.uri("s"), "--pin-file", str(pin_file)]
    assert run([*rotate, "--request", str(stick), *at]) == 0
    assert list((data / "keyring").glob("signing-*"))  # the old one is in force
    sign = ["root", "sign", str(stick), "--key", root, "--passphrase-file", str(phrase), "--yes", "-o", signed]
    assert run(sign) == 0
    assert run(["authority", "keys", "install", signed, "--pin-file", str(pin_file), *at]) == 0
    assert not list((data / "keyring").glob("signing-*"))
    signing = Keyring.load(data / "keyring", tokens=Tokens(lambda: hsm.pin)).signing_key
    signing.public_key().verify(signing.sign(b"x"), b"x")
