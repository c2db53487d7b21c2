"""One emulated TPM for all tests here, rebooted before each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from watchword.agent.tpm.client import Tpm
from watchword.testing.farm import EkAuthority, SwTpm, have_swtpm
from watchword.wire.tpm.templates import EkKind


@pytest.fixture(scope="session")
def chip() -> Iterator[SwTpm]:
    if not have_swtpm():
        pytest.skip("swtpm is not installed: tests on a real (emulated) TPM are left out")
    tpm = SwTpm().start()
    tpm.manufacture(EkAuthority.create(), (EkKind.P256, EkKind.RSA2048, EkKind.P384))
    yield tpm
    tpm.stop()


@pytest.fixture
def swtpm(chip: SwTpm) -> SwTpm:
    """A TPM that was just rebooted and has no client."""
    chip.reset(orderly=True)
    return chip


@pytest.fixture
def tpm(swtpm: SwTpm) -> Iterator[Tpm]:
    """A client; whatever the test did, no handle may be left behind."""
    with swtpm.client() as client:
        yield client
        assert client.open_handles() == ()


@pytest.fixture(scope="session")
def other_tpm() -> Iterator[SwTpm]:
    """A second TPM, without a client."""
    if not have_swtpm():
        pytest.skip("swtpm is not installed: tests on a real (emulated) TPM are left out")
    other = SwTpm().start()
    yield other
    other.stop()
