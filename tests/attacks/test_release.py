"""Attacks between the release and the machine (the TPM's policy, clauses L1 and L2)."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from watchword.agent.launch import BootKind, Order, launch
from watchword.agent.tpm.commands import Handle
from watchword.agent.tpm.errors import TpmError
from watchword.agent.unseal import open_release
from watchword.errors import MalformedError, Rejected
from watchword.launch.release import LEASE
from watchword.testing.world import TestHost, Token
from watchword.wire.inputs import DISK, USER_DATA, inputs_digest
from watchword.wire.messages import Release
from watchword.wire.token import token_id

from .helpers import Attempt, Bench, advance_clock, attempt, nth, sitting_on


def open_on(host: TestHost, made: Attempt, release: Release) -> bytes:
    secret: bytes = host.use(lambda view: open_release(view, release, made.bound)).secret
    return secret


def cannot_open(host: TestHost, made: Attempt, release: Release, code: str) -> None:
    with pytest.raises(TpmError) as caught:
        open_on(host, made, release)
    assert caught.value.code == code


@pytest.fixture
def released(lone: Bench) -> tuple[Bench, Token, Attempt, Release]:
    """A release for the attacker's host, which was good when it was quoted."""
    token = lone.world.token(releases=2)
    made = attempt(lone.evil, token)
    return lone, token, made, made.release()


Released = tuple[Bench, Token, Attempt, Release]


def test_release_opens_where_it_should(released: Released) -> None:
    """Without an attack: also after more programs ran, which moves PCR 10 only."""
    bench, token, made, release = released
    bench.evil.machine.run_file(b"/usr/bin/true", b"true")
    assert open_on(bench.evil, made, release) == token.body.secret


@pytest.mark.parametrize("recording", ["good", "kernel"])
def test_reboot_into_another_system_between_quote_and_unseal(released: Released, recording: str) -> None:
    """reboot into another system between quote and unseal: or into the same one"""
    bench, _, made, release = released
    bench.evil.machine.reboot(bench.world.boots / recording)
    cannot_open(bench.evil, made, release, "tpm-wrong-boot")


@pytest.mark.parametrize("pcr", [0, 4, 7, 9, 11])
def test_pcr_extended_between_quote_and_unseal(released: Released, pcr: int) -> None:
    """PCR extended between quote and unseal"""
    bench, _, made, release = released
    bench.evil.machine.extend(pcr, b"something else")
    cannot_open(bench.evil, made, release, "tpm-wrong-pcrs")


def test_blob_moved_to_another_host(released: Released) -> None:
    """blob moved to another host: one in the very same good state"""
    bench, _, made, release = released
    cannot_open(bench.honest, made, release, "tpm-other-tpm")


def test_lease_expired(released: Released) -> None:
    """lease expired"""
    bench, _, made, release = released
    with bench.evil.machine.tpm.client() as tpm:
        advance_clock(tpm, LEASE * 1000)
    cannot_open(bench.evil, made, release, "tpm-lease-over")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"clock_limit": 1 << 60}, "tpm-wrong-pcrs"),
        ({"selections": ()}, "tpm-wrong-pcrs"),
        ({"reset_count": 0}, "tpm-wrong-boot"),
    ],
)
def test_policy_altered(released: Released, change: dict[str, object], code: str) -> None:
    """relay reads or alters evidence or release: a longer lease, no PCRs, another boot"""
    bench, _, made, release = released
    cannot_open(bench.evil, made, replace(release, **change), code)


def test_tpm_cleared_and_counted_up_again(released: Released) -> None:
    """TPM cleared: then rebooted until resetCount is that of the release again, into another system"""
    bench, _, made, release = released
    machine = bench.evil.machine
    with machine.tpm.client() as tpm:
        tpm.clear(Handle.PLATFORM)
    for _ in range(release.reset_count):
        machine.reboot(bench.world.boots / "kernel")
    with machine.tpm.client() as tpm:
        assert tpm.read_clock().reset_count == release.reset_count
    cannot_open(bench.evil, made, release, "tpm-wrong-pcrs")


def test_recorded_reply_after_a_clear(fresh: Bench) -> None:
    """TPM cleared: the recorded reply is played to the approved software, which did not ask for it"""
    token = fresh.world.token(releases=2)
    evil, machine = fresh.evil, fresh.evil.machine
    with sitting_on(evil) as meddler:
        evil.obtain(token)
    recorded = meddler.replies[-1]
    with machine.tpm.client() as tpm:
        before = tpm.read_clock().reset_count
        tpm.clear(Handle.PLATFORM)
    for _ in range(before):
        machine.reboot()
    evil.enrol()
    with sitting_on(evil, on_reply=nth(2, lambda _: recorded)), pytest.raises(MalformedError) as caught:
        evil.obtain(token)
    assert caught.value.code == "reply-unopenable"


# --- the machine's inputs -------------------------------------------------------------------------------------------


def order(tmp_path: Path, token: Token, **changes: object) -> Order:
    disk = tmp_path / "disk.img"
    if not disk.exists():
        disk.write_bytes(b"the tenant's image" * 100)
    return Order(**{"token": token.text, "instance": "vm-1", "disk": disk, "folder": tmp_path / "vm", **changes})  # type: ignore[arg-type]


def bound_to(bench: Bench, disk: bytes, user_data: bytes | None = None) -> Token:
    """A token whose tenant means this image and this user-data."""
    inputs = {DISK: hashlib.sha256(disk).digest()}
    if user_data is not None:
        inputs[USER_DATA] = hashlib.sha256(user_data).digest()
    return bench.world.token(inputs=inputs_digest(inputs), releases=2)


def no_machine(bench: Bench, what: Order, code: str, clause: str) -> None:
    """The agent must refuse, and nothing may run or lie about afterwards."""
    with pytest.raises(Rejected) as caught:
        bench.evil.use(lambda host: launch(host, bench.evil.host_id, what)).stop()
    assert (caught.value.code, caught.value.clause) == (code, clause)
    assert not what.folder.exists()


GOOD_DISK = b"the tenant's image" * 100


def test_swapped_image(lone: Bench, tmp_path: Path) -> None:
    """swapped image (L2)"""
    token = bound_to(lone, GOOD_DISK)
    (tmp_path / "disk.img").write_bytes(b"the provider's image")
    no_machine(lone, order(tmp_path, token), "inputs-differ", "L2")


def test_swapped_user_data(lone: Bench, tmp_path: Path) -> None:
    """swapped user-data: other, none, or some where there was none (L2)"""
    token = bound_to(lone, GOOD_DISK, b"#cloud-config\n")
    no_machine(lone, order(tmp_path, token, user_data=b"#!/bin/sh\n"), "inputs-differ", "L2")
    no_machine(lone, order(tmp_path, token), "inputs-differ", "L2")
    bare = bound_to(lone, GOOD_DISK)
    no_machine(lone, order(tmp_path, bare, user_data=b"#!/bin/sh\n"), "inputs-differ", "L2")


def test_inputs_left_out(lone: Bench, tmp_path: Path) -> None:
    """swapped user-data: the list of bound inputs is shortened, so that the rest would be free (L2)"""
    token = bound_to(lone, GOOD_DISK, b"#cloud-config\n")
    shortened = order(tmp_path, token, user_data=b"#!/bin/sh\n", inputs=(DISK,))
    no_machine(lone, shortened, "inputs-differ", "L2")


def test_image_written_to_while_it_is_used(lone: Bench, tmp_path: Path) -> None:
    """swapped image: one that is too large to be copied is written to while the secret is on its way (L2)"""
    token = bound_to(lone, GOOD_DISK)
    what = order(tmp_path, token, copy_limit=0)

    def write(reply: bytes) -> bytes:
        with what.disk.open("r+b") as file:
            file.write(b"THE")
        return reply

    with sitting_on(lone.evil, on_reply=nth(2, write)):
        no_machine(lone, what, "disk-changed", "L2")


DETOURS = [kind for kind in BootKind if kind is not BootKind.FRESH]


@pytest.mark.parametrize("kind", DETOURS)
def test_rescue_with_another_image(lone: Bench, tmp_path: Path, kind: BootKind) -> None:
    """rescue with another image, rebuild/evacuate reuse: no detour asks for a secret, so none is released (L1)"""
    token = bound_to(lone, GOOD_DISK)
    with sitting_on(lone.evil) as meddler:
        no_machine(lone, order(tmp_path, token, boot=kind), "launch-detour", "L1")
    assert meddler.requests == []
    assert lone.world.store.releases(token_id(token.text)) == 0


def test_rescue_called_a_fresh_boot(lone: Bench, tmp_path: Path) -> None:
    """rescue with another image: the provider calls it a fresh boot (L2)"""
    token = bound_to(lone, GOOD_DISK)
    rescue = tmp_path / "rescue.img"
    rescue.write_bytes(os.urandom(1000))
    no_machine(lone, order(tmp_path, token, disk=rescue), "inputs-differ", "L2")


def test_rebuild_called_a_fresh_boot(lone: Bench, tmp_path: Path) -> None:
    """rebuild/evacuate reuse: the same image once more, on this host or on another, finds the token used up (F4)"""
    token = bound_to(lone, GOOD_DISK)
    for host in (lone.evil, lone.honest):
        host.obtain(token)
    no_machine(lone, order(tmp_path, token), "token-used-up", "F4")
