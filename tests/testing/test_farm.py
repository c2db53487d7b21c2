"""Emulated TPMs: they start, reboot and go away without leaving anything."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from watchword.crypto.tpm_key import point, public_key
from watchword.errors import MalformedError, Rejected, Unavailable, UsageError
from watchword.testing.farm import EkAuthority, Farm, SwTpm, have_swtpm
from watchword.verify.ek import EkClass, TrustAnchor, VerifiedEk, verify_ek
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.pcr import PcrSelection
from watchword.wire.tpm.public import Public
from watchword.wire.tpm.templates import EkKind, ek_template

needs_swtpm = pytest.mark.skipif(not have_swtpm(), reason="swtpm is not installed")
NOW = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())


@needs_swtpm
def test_each_tpm_has_its_own_key_and_a_certificate_for_it() -> None:
    with Farm(3, kinds=(EkKind.P256, EkKind.RSA2048)) as farm:
        keys = set()
        for swtpm in farm.tpms:
            for kind in (EkKind.P256, EkKind.RSA2048):
                with swtpm.client(kind) as tpm:
                    ek = tpm.create_ek()
                    stored = tpm.read_ek_certificate()
                assert stored == swtpm.certificates[kind]
                verified = verified_by(farm.authority, stored, kind)
                assert (verified.public, verified.ek_class) == (ek, EkClass.VIRTUAL)
                keys.add(ek.encode())
        assert len(keys) == 6
        folders = [swtpm.folder for swtpm in farm.tpms]
    assert not any(folder.exists() for folder in folders)


def verified_by(authority: EkAuthority, certificate: bytes, kind: EkKind = EkKind.P256) -> VerifiedEk:
    anchors = [TrustAnchor(authority.root, EkClass.VIRTUAL, "ours")]
    return verify_ek(certificate, authority.intermediates, anchors, kind, NOW)


@needs_swtpm
def test_a_farm_grows_with_tpms_of_somebody_else() -> None:
    stranger = EkAuthority.create("Somebody else")
    with Farm(1) as farm:
        certificate = farm.add(stranger).certificates[EkKind.P256]
        with pytest.raises(Rejected):
            verified_by(farm.authority, certificate)
        verified_by(stranger, certificate)


@needs_swtpm
def test_a_reboot_resets_pcrs_and_counts() -> None:
    selection = (PcrSelection(Alg.SHA256, (0, 4)),)
    with Farm(1) as farm:
        [swtpm] = farm.tpms
        with swtpm.client() as tpm:
            tpm.extend(4, {Alg.SHA256: bytes(32)})
            before, count = tpm.read_pcrs(selection), tpm.read_clock().reset_count
        swtpm.reset()
        with swtpm.client() as tpm:
            after = tpm.read_pcrs(selection)
            assert tpm.read_clock().reset_count == count + 1
        assert before[Alg.SHA256][4] != bytes(32)
        assert after[Alg.SHA256] == {0: bytes(32), 4: bytes(32)}
        swtpm.reset(locality=3)
        with swtpm.client() as tpm:
            assert tpm.read_pcrs(selection)[Alg.SHA256][0] == bytes(31) + b"\3"


@needs_swtpm
def test_power_off_keeps_the_state(tmp_path: Path) -> None:
    swtpm = SwTpm(tmp_path).start()
    try:
        with swtpm.client() as tpm:
            ek, count = tpm.create_ek(), tpm.read_clock().reset_count
        swtpm.power_off()
        assert not swtpm.running
        with pytest.raises(Unavailable):
            swtpm.client()
        swtpm.start()
        with swtpm.client() as tpm:
            assert (tpm.create_ek(), tpm.read_clock().reset_count) == (ek, count + 1)
    finally:
        swtpm.stop()
    assert tmp_path.is_dir()


@needs_swtpm
def test_a_program_that_forgets_to_stop_leaves_nothing() -> None:
    program = "from watchword.testing.farm import SwTpm; t = SwTpm().start(); print(t.folder, t._process.pid); 1 / 0"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert "ZeroDivisionError" in done.stderr
    folder, pid = done.stdout.split()
    assert not Path(folder).exists()
    assert not Path(f"/proc/{pid}").exists()


@needs_swtpm
def test_a_tpm_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "tpm2-00.permall").write_bytes(b"not the state of a TPM")
    with pytest.raises(Unavailable) as caught:
        SwTpm(tmp_path).start()
    assert caught.value.code == "swtpm-start"


def test_a_folder_with_too_long_a_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="107"):
        SwTpm(tmp_path / ("x" * 100))


# --- the authority -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ek() -> Public:
    """An EK public area without a TPM: the key of a throw-away pair in the default template."""
    return ek_template(EkKind.P256, point(ec.generate_private_key(ec.SECP256R1()).public_key()))


@pytest.mark.parametrize("key_type", ["p256", "rsa"])
@pytest.mark.parametrize("intermediate", [True, False])
def test_certificates_have_the_form_of_the_profile(ek: Public, key_type: str, intermediate: bool) -> None:
    authority = EkAuthority.create(key_type=key_type, intermediate=intermediate)
    assert len(authority.intermediates) == intermediate
    der = authority.issue(ek)
    assert verified_by(authority, der).public == ek
    certificate = x509.load_der_x509_certificate(der)
    assert certificate.public_key() == public_key(ek)
    assert not list(certificate.subject)
    assert certificate.not_valid_after_utc.year == 9999
    alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert alternative.critical
    [name] = alternative.value.get_values_for_type(x509.DirectoryName)
    assert [attribute.oid.dotted_string for attribute in name] == [f"2.23.133.2.{number}" for number in (1, 2, 3)]


def test_what_can_be_made_wrong_is_refused(ek: Public) -> None:
    authority, past = EkAuthority.create(), datetime(2021, 1, 1, tzinfo=UTC)
    assert not verified_by(authority, authority.issue(ek)).deviations
    assert verified_by(authority, authority.issue(ek, usage=False)).deviations
    for der in (authority.issue(ek, not_after=past), authority.issue(ek, is_ca=True)):
        with pytest.raises((Rejected, MalformedError)):
            verified_by(authority, der)
    for intermediate in (True, False):
        forger = EkAuthority.create(may_sign=False, intermediate=intermediate)
        with pytest.raises(Rejected):
            verified_by(forger, forger.issue(ek))
