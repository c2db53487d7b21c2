"""Fuzzes the HTTP interface of a running authority by its own OpenAPI description, over TLS, with schemathesis.

    fuzz/api.py [--seconds N | --examples N] [--seed N] [--public | --people]

The authority is a process of its own with a host, a profile and a launch in its store. Everything is asked twice: with
ids that nobody knows, and with those of the store. Exit status 1 when an answer is not what the description promises.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from watchword.authority.access import Access, Role
from watchword.authority.app import Services, create_app
from watchword.authority.data import ACCESS_FILE, DataDirectory
from watchword.authority.deciding.launches import Launches
from watchword.authority.keys.keyring import Keyring, KeyringSource
from watchword.authority.server import Address, bind, run
from watchword.authority.serving.limits import Limits
from watchword.authority.store import Host, Placement, ProfileRow, Store
from watchword.launch.attest import HostState, Standing
from watchword.launch.receipt import Decision, launch_key
from watchword.policy.profile import Profile
from watchword.testing.documents import PROFILE, encode
from watchword.testing.people import PeopleCa, access_file
from watchword.verify.ek import EkClass

HOST, LAUNCH = b"h" * 32, b"L" * 16
LIMITS = replace(Limits(), publish_burst=1_000_000, publish_seconds=0.001, event_seconds=0.05, published=100_000)
# Whether there is such a host or stack is for more than a schema to say; a certificate cannot be left out of a request.
PEOPLE = """
[checks.positive_data_acceptance]
enabled = false
[checks.ignored_auth]
enabled = false
"""
CONFIG = Path(__file__).with_name("api.toml")


def fill(store: Store) -> bytes:
    """Make the store one that has something to tell; the profile's id."""
    now, document = int(time.time()), encode(PROFILE)
    profile = Profile.parse(document)
    state = HostState(
        standing=Standing.TRUSTED, level=profile.levels[0].name, rank=1, best=1, since=now, checked=now,
        until=now + 360, reset_count=1, stack=b"", code="", reason="",
    )  # fmt: skip
    key = launch_key(LAUNCH)
    decision = Decision(
        outcome="refused", time=now, launch=key.hex(), token="", instance="i", profile="", inputs="", level="",
        rank=0, required=1, stack=None, host="", releases=0, allowed=1, lease=0, evidence="",
    )  # fmt: skip
    with store.transaction() as tx:
        tx.put_profile(ProfileRow(profile.id, document, profile.name, now))
        tx.put_watched(profile.id, now)
        tx.put_host(Host(HOST, b"ek", b"ak", EkClass.VIRTUAL, now))
        tx.put_state(HOST, profile.id, state)
        tx.put_placement(Placement(key, HOST, profile.id, 1, 1, now))
        for _ in range(300):  # more than a page, and more than a tile
            tx.append_decision(now, key, decision.encode())
    return profile.id


def serve(place: Path) -> None:
    """Be the authority: like ``watchword authority serve``, but for how often one address may publish a profile."""
    now = int(time.time())
    directory = DataDirectory.open_or_create(place, authority="fuzzed", now=now, passphrase=None)
    ring = directory.keyring.with_names(["127.0.0.1"], now)
    keyring = KeyringSource(ring)
    with directory.store as store:
        profile = fill(store)
        listener, address = bind(Address("127.0.0.1", 0))
        ca = PeopleCa.make(place)
        access_file(place / ACCESS_FILE, {"everybody": tuple(map(str, Role))})
        access, who = Access(place / ACCESS_FILE), ca.issue("everybody")
        app = create_app(Services(Launches(store, keyring), store, keyring, limits=LIMITS, access=access))
        told = {
            "url": address.url, "profile": profile.hex(), "certificate": str(who.certificate), "key": str(who.key),
        }  # fmt: skip
        run(app, ring, listener, lambda: print(json.dumps(told), flush=True), client_ca=ca.file)


@contextmanager
def authority(place: Path) -> Iterator[dict[str, str]]:
    """The running authority: its ``url``, and the ``profile`` in its store."""
    command = [sys.executable, __file__, "--serve", str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()
            status = process.wait(60)
    if status != 0:
        raise SystemExit(f"the authority ended with status {status}")


def schemathesis(url: str, ca: Path, place: Path, arguments: list[str], known: str) -> int:
    """Ask everything; ``known`` are parameters in TOML that replace what would be made up. The exit status."""
    config = place / "schemathesis.toml"
    config.write_text(CONFIG.read_text() + known)
    program = Path(sys.executable).with_name("schemathesis")
    command = [program, "--config-file", config, "run", f"{url}/v1/openapi.json", "--tls-verify", ca, *arguments]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "", "HYPOTHESIS_STORAGE_DIRECTORY": str(place / "hypothesis")}
    return subprocess.run(command, cwd=place, env=environment, check=False).returncode


def as_everybody(told: dict[str, str]) -> list[str]:
    """What is for people with roles, asked by somebody who has all of them."""
    only = ["--include-path-regex", "^/v1/admin/"]
    return [*only, "--request-cert", told["certificate"], "--request-cert-key", told["key"]]


def main() -> None:
    """Fuzz, or be what is fuzzed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--examples", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--public", action="store_true", help="leave out what is for people with roles")
    parser.add_argument("--people", action="store_true", help="only that, as somebody with every role")
    parser.add_argument("--serve", type=Path)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve)
    amount = ["--max-examples", str(options.examples), "--seed", str(options.seed)]
    if options.seconds:
        amount = ["--max-examples", "1000000", "--max-time", str(max(1, options.seconds // 2))]
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        with authority(place / "data") as told:
            ca = place / "ca.pem"
            ca.write_text(Keyring.load(place / "data" / "keyring").key_list.tls_ca)
            known = (
                f'[parameters]\npath = "entries/000"\nprofile_id = "{told["profile"]}"\nlaunch_id = "{LAUNCH.hex()}"\n'
            )
            if options.people:
                raise SystemExit(schemathesis(told["url"], ca, place, [*amount, *as_everybody(told)], PEOPLE))
            public = ["--exclude-path-regex", "^/v1/admin/"]
            found = schemathesis(told["url"], ca, place, [*amount, *(public if options.public else ())], "")
            found |= schemathesis(told["url"], ca, place, [*amount, *public, "--mode", "positive"], known)
            if not options.public:
                found |= schemathesis(told["url"], ca, place, [*amount, *as_everybody(told)], PEOPLE)
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
