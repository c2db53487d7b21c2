"""From token to secret with a real TPM, and each way in which a release must not open."""

from __future__ import annotations

from dataclasses import replace

import pytest

from watchword.agent.enrol import enrol
from watchword.agent.shares import obtain as obtain_secret
from watchword.crypto.envelope import LaunchSecret
from watchword.errors import MalformedError, Rejected, Unavailable, WatchwordError
from watchword.testing.farm import SwTpm
from watchword.wire.messages import Refusal, Release, ReleaseRequest, Reply, Request
from watchword.wire.token import Token
from watchword.wire.tpm.algorithms import Alg, digest

TOKEN = Token(1, b"kkkk", bytes(50)).text()


@pytest.fixture
def enrolled(bench):
    with bench.tpm.client() as tpm:
        enrol(bench.host(tpm))
    return bench


def obtain(bench) -> LaunchSecret:
    with bench.tpm.client() as tpm:
        return obtain_secret(bench.host(tpm), bytes(32), TOKEN, "vm-1")


def meddle(bench, change) -> None:
    """Have ``change`` look at each release before it is sealed into the reply."""
    honest = bench.authority.answer

    def answer(request: Request, reply_key: bytes) -> Reply:
        reply: Reply = honest(request, reply_key)
        return change(reply) if isinstance(reply, Release) else reply

    bench.authority.answer = answer


def test_the_secret_comes_out(enrolled) -> None:
    assert obtain(enrolled) == enrolled.authority.secret
    request = enrolled.authority.requests[-1]
    assert isinstance(request, ReleaseRequest)
    assert (request.evidence.token, request.evidence.instance) == (TOKEN, "vm-1")
    assert request.evidence.event_log == b"the firmware's log"
    assert request.evidence.ima_log == b"the kernel's log"


def test_every_request_has_its_own_binding(enrolled) -> None:
    obtain(enrolled)
    obtain(enrolled)
    first, second = (r.evidence for r in enrolled.authority.requests if isinstance(r, ReleaseRequest))
    assert first.attest != second.attest


def test_a_release_of_another_request_does_not_open(enrolled) -> None:
    enrolled.authority.context = bytes(32)
    with pytest.raises(MalformedError) as failed:
        obtain(enrolled)
    assert failed.value.code == "payload-unopenable"


def test_a_release_does_not_open_after_a_boot_pcr_moved(enrolled) -> None:
    def change(release: Release) -> Release:
        tpm.extend(4, {Alg.SHA256: digest(Alg.SHA256, b"another kernel")})
        return release

    meddle(enrolled, change)
    with enrolled.tpm.client() as tpm, pytest.raises(WatchwordError) as failed:
        obtain_secret(enrolled.host(tpm), bytes(32), TOKEN, "vm-1")
    assert failed.value.code == "tpm-wrong-pcrs"


def test_a_release_opens_although_pcr_10_moved(enrolled) -> None:
    def change(release: Release) -> Release:
        tpm.extend(10, {Alg.SHA256: digest(Alg.SHA256, b"a program ran")})
        return release

    meddle(enrolled, change)
    with enrolled.tpm.client() as tpm:
        assert obtain_secret(enrolled.host(tpm), bytes(32), TOKEN, "vm-1") == enrolled.authority.secret


def test_a_release_does_not_open_after_a_reboot(enrolled, swtpm: SwTpm) -> None:
    def reboot(release: Release) -> Release:
        swtpm.init()
        tpm.startup()
        return release

    swtpm.reset()  # now the next reboot leads to the same PCR values: only the reset count tells
    meddle(enrolled, reboot)
    with enrolled.tpm.client() as tpm, pytest.raises(WatchwordError) as failed:
        obtain_secret(enrolled.host(tpm), bytes(32), TOKEN, "vm-1")
    assert failed.value.code == "tpm-wrong-boot"


def test_a_release_does_not_open_after_its_lease(enrolled) -> None:
    enrolled.authority.lease = -1
    with pytest.raises(WatchwordError) as failed:
        obtain(enrolled)
    assert failed.value.code == "tpm-lease-over"


def test_a_release_for_another_tpm_does_not_open(enrolled, new_tpm: SwTpm) -> None:
    with new_tpm.client() as other:
        enrolled.authority._ek = other.create_ek()
    with pytest.raises(WatchwordError) as failed:
        obtain(enrolled)
    assert failed.value.code == "tpm-other-tpm"


def test_a_damaged_release_does_not_open(enrolled) -> None:
    meddle(enrolled, lambda release: replace(release, payload=release.payload[:-1] + b"\0"))
    with pytest.raises(MalformedError, match="payload"):
        obtain(enrolled)


@pytest.mark.parametrize("blob", ["public", "duplicate", "encrypted_seed"])
def test_trailing_bytes_in_a_blob_are_refused(enrolled, blob: str) -> None:
    meddle(enrolled, lambda release: replace(release, **{blob: getattr(release, blob) + b"\0"}))
    with pytest.raises(MalformedError):
        obtain(enrolled)


def test_a_refusal_keeps_clause_and_code(enrolled) -> None:
    honest = enrolled.authority.answer

    def refuse(request: Request, reply_key: bytes) -> Reply:
        if isinstance(request, ReleaseRequest):
            return Refusal("stack-none", "E2", "no stack matches")
        return honest(request, reply_key)

    enrolled.authority.answer = refuse
    with pytest.raises(Rejected) as refused:
        obtain(enrolled)
    assert (refused.value.clause, refused.value.code) == ("E2", "stack-none")


def test_a_refusal_that_may_pass_is_unavailable(enrolled) -> None:
    enrolled.authority.answer = lambda *_: Refusal("host-unknown", "A5", "not enrolled", retry=True)
    with pytest.raises(Unavailable) as failed:
        obtain(enrolled)
    assert failed.value.code == "host-unknown"
    assert "watchword agent enrol" in failed.value.hint
