"""People's certificates that their issuer took back, over TLS, on connections that stay open."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from watchword.authority.access import Access
from watchword.authority.access.revoked import read_revoked
from watchword.cli.main import run
from watchword.errors import UsageError
from watchword.testing.people import PeopleCa, access_file

from .conftest import authority_in
from .test_access import EVERYBODY, Office

HOUR = timedelta(hours=1)


def replace(path: Path, content: bytes) -> None:
    new = path.with_name("new.pem")
    new.write_bytes(content)
    new.replace(path)


def test_a_revoked_certificate_is_nobodys_from_the_next_request_on(tmp_path: Path) -> None:
    ca, lists = PeopleCa.make(tmp_path), tmp_path / "crl.pem"
    access_file(tmp_path / "access.toml", EVERYBODY)
    auditor, operator = ca.issue("auditor"), ca.issue("operator")
    replace(lists, ca.revoke())
    access = Access(tmp_path / "access.toml", lists=(lists, ca.file))
    with authority_in(tmp_path / "data", client_ca=ca.file, access=access) as service:
        office = Office(service, ca, tmp_path / "access.toml")
        with office.client(auditor) as client:
            assert client.get("/v1/admin/self").status_code == 200
            replace(lists, ca.revoke(auditor))
            assert client.get("/v1/admin/self").status_code == 401
            assert office.get_self(operator).status_code == 200
            replace(lists, b"damaged")  # what was in force stays so
            assert client.get("/v1/admin/self").status_code == 401
            assert office.get_self(operator).status_code == 200
            replace(lists, ca.revoke())
            assert client.get("/v1/admin/self").status_code == 200


@pytest.mark.parametrize(
    ("since", "lasts", "fault"),
    [
        (timedelta(), HOUR, ""),
        (-2 * HOUR, HOUR, "no revocation list in force"),
        (HOUR, HOUR, "no revocation list in force"),
    ],
)
def test_a_list_counts_in_its_time(tmp_path: Path, since: timedelta, lasts: timedelta, fault: str) -> None:
    ca, lists = PeopleCa.make(tmp_path), tmp_path / "crl.pem"
    certificate = x509.load_pem_x509_certificate(ca.issue("auditor").certificate.read_bytes())
    lists.write_bytes(ca.revoke(since=since, lasts=lasts))
    found = read_revoked(lists, ca.file).fault(certificate, int(time.time()))
    assert fault in found
    assert bool(fault) == bool(found)


def test_the_newest_list_counts_and_each_issuer_needs_one(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
    ca, other = PeopleCa.make(ours), PeopleCa.make(theirs, "other people")
    both, lists = tmp_path / "both.pem", tmp_path / "crl.pem"
    both.write_bytes(ca.file.read_bytes() + other.file.read_bytes())
    mine, hers = ca.issue("auditor"), other.issue("auditor")
    certificates = [x509.load_pem_x509_certificate(each.certificate.read_bytes()) for each in (mine, hers)]
    newer, older = ca.revoke(mine), ca.revoke(since=-HOUR, lasts=3 * HOUR)
    for content in (newer + older, older + newer):
        lists.write_bytes(content)
        found = [read_revoked(lists, both).fault(each, int(time.time())) for each in certificates]
        assert found == ["its issuer revoked it", "there is no revocation list in force of its issuer"]
    lists.write_bytes(newer + other.revoke())
    found = [read_revoked(lists, both).fault(each, int(time.time())) for each in certificates]
    assert found == ["its issuer revoked it", ""]


Harm = Callable[[PeopleCa], bytes]
WRONG: list[tuple[Harm, str]] = [
    (lambda _: b"", "has no list"),
    (lambda ca: ca.file.read_bytes(), "has no list"),
    (lambda ca: ca.revoke().replace(b"\nMI", b"\nNI", 1), "cannot be used"),
    (lambda ca: ca.revoke(key=generate_private_key(SECP256R1())), "is signed by no certificate"),
    (lambda ca: ca.revoke(extension=x509.DeltaCRLIndicator(1)), "not a complete one"),
]


@pytest.mark.parametrize(("harm", "why"), WRONG)
def test_what_is_no_list_is_refused(tmp_path: Path, harm: Harm, why: str) -> None:
    ca, lists = PeopleCa.make(tmp_path), tmp_path / "crl.pem"
    lists.write_bytes(harm(ca))
    with pytest.raises(UsageError, match=why) as caught:
        read_revoked(lists, ca.file)
    assert caught.value.code == "client-crl"


def test_a_list_of_an_issuer_that_may_sign_none_is_refused(tmp_path: Path) -> None:
    ca, lists = PeopleCa.make(tmp_path), tmp_path / "crl.pem"
    lists.write_bytes(ca.revoke())
    made = ca.certificate
    for may in (True, False):
        usage = x509.KeyUsage(False, False, False, False, False, True, may, False, False)
        builder = (
            x509.CertificateBuilder(made.issuer, made.subject, made.public_key(), made.serial_number)
            .not_valid_before(made.not_valid_before_utc)
            .not_valid_after(made.not_valid_after_utc)
            .add_extension(usage, critical=True)
        )
        ca.file.write_bytes(builder.sign(ca.key, SHA256()).public_bytes(Encoding.PEM))
        if may:
            assert len(read_revoked(lists, ca.file).lists) == 1
            continue
        with pytest.raises(UsageError, match="signed by no certificate"):
            read_revoked(lists, ca.file)


def test_a_list_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    ca, lists = PeopleCa.make(tmp_path), tmp_path / "crl.pem"
    with lists.open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(UsageError, match="more than"):
        read_revoked(lists, ca.file)


def test_lists_go_with_authorities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = run(
        ["authority", "serve", "--data", str(tmp_path / "data"), "--client-crl", str(tmp_path / "x"), "--json"]
    )
    assert (status, '"client-crl"' in capsys.readouterr().out) == (1, True)
    assert not (tmp_path / "data").exists()
