"""People before the service, over TLS with certificates of their own: who is known, who is nobody, and who may what."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from starlette.requests import Request
from tests.conftest import ROOT

from watchword.authority.access import PERMISSIONS, Access, People, Role, identify, permit
from watchword.authority.access.certificate import check_client
from watchword.authority.keys.keyring import Keyring
from watchword.authority.keys.tls import server_context
from watchword.authority.serving.problems import Problem
from watchword.errors import UsageError
from watchword.testing.people import ClientFiles, PeopleCa, access_file

from .conftest import Service, authority_in
from .helpers import NOW

EVERYBODY = {str(role): (str(role),) for role in Role}


@dataclass
class Office:
    """A service, the certificate authority of its people, and its ``access.toml``."""

    service: Service
    ca: PeopleCa
    file: Path

    def client(self, files: ClientFiles | None = None) -> httpx2.Client:
        context = ssl.create_default_context(cadata=self.service.ring.key_list.tls_ca)
        if files is not None:
            context.load_cert_chain(files.certificate, files.key)
        return httpx2.Client(base_url=self.service.address.url, verify=context, timeout=20)

    def get_self(self, files: ClientFiles | None = None, **headers: str) -> httpx2.Response:
        with self.client(files) as client:
            return client.get("/v1/admin/self", headers=headers)


@contextmanager
def office_in(directory: Path, people: dict[str, tuple[str, ...]] | None = None) -> Iterator[Office]:
    directory.mkdir(exist_ok=True)
    ca = PeopleCa.make(directory)
    file = directory / "access.toml"
    access_file(file, EVERYBODY if people is None else people)
    with authority_in(directory / "data", client_ca=ca.file, access=Access(file)) as service:
        yield Office(service, ca, file)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with office_in(tmp_path_factory.mktemp("office")) as running:
        yield running


def problem(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].removeprefix("urn:watchword:problem:")


# -- certificates ----------------------------------------------------------------------------------------------------


def test_a_certificate_says_who_it_is(office: Office) -> None:
    answer = office.get_self(office.ca.issue("auditor"))
    assert answer.status_code == 200
    assert answer.json() | {"acts": []} == {
        "name": "auditor", "actor": "certificate:auditor", "roles": ["auditor"], "acts": []
    }  # fmt: skip


def test_nobody_is_asked_for_a_certificate_and_told_what_it_takes(office: Office) -> None:
    answer = office.get_self()
    assert problem(answer) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="watchword"'


def test_public_routes_need_nobody(office: Office) -> None:
    with office.client() as client:
        assert client.get("/v1/status").status_code == 200
        assert client.get("/v1/status", headers={"Authorization": "Bearer nonsense"}).status_code == 200


def test_a_certificate_of_nobody_is_nobodys(office: Office) -> None:
    assert problem(office.get_self(office.ca.issue("mallory"))) == (401, "unauthenticated")


def test_a_certificate_of_another_authority_ends_the_handshake(office: Office, tmp_path: Path) -> None:
    other = PeopleCa.make(tmp_path)
    with pytest.raises(httpx2.TransportError), office.client(other.issue("auditor")) as client:
        client.get("/v1/status")


def test_a_certificate_whose_time_is_over_ends_the_handshake(office: Office) -> None:
    over = office.ca.issue("auditor", lasts=timedelta(hours=-1))
    with pytest.raises(httpx2.TransportError), office.client(over) as client:
        client.get("/v1/status")


def test_a_certificate_for_servers_ends_the_handshake(office: Office) -> None:
    server = office.ca.issue("auditor", usages=(ExtendedKeyUsageOID.SERVER_AUTH,))
    with pytest.raises(httpx2.TransportError), office.client(server) as client:
        client.get("/v1/status")


@pytest.mark.parametrize(
    "usages", [(), (ExtendedKeyUsageOID.SERVER_AUTH,), (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)]
)
def test_a_certificate_that_is_not_for_clients_by_name(office: Office, usages: tuple[ObjectIdentifier, ...]) -> None:
    """Some of these OpenSSL takes in the handshake."""
    files = office.ca.issue("auditor", usages=usages)
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    assert "clientAuth" in check_client(certificate, int(time.time()))
    assert Access(office.file).by_certificate(certificate) is None


def test_a_certificate_without_a_purpose_is_nobodys(office: Office) -> None:
    assert problem(office.get_self(office.ca.issue("auditor", usages=()))) == (401, "unauthenticated")


def test_time_counts_on_a_connection_that_stays_open(tmp_path: Path) -> None:
    ca, now = PeopleCa.make(tmp_path), [0]
    access_file(tmp_path / "access.toml", EVERYBODY)
    files = ca.issue("auditor")
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    access = Access(tmp_path / "access.toml", lambda: now[0])
    now[0] = int(certificate.not_valid_after_utc.timestamp())
    assert access.by_certificate(certificate) is not None
    now[0] += 1
    assert access.by_certificate(certificate) is None


@pytest.mark.parametrize(
    "name", ["X-Forwarded-Client-Cert", "X-SSL-Client-Cert", "SSL-Client-Subject-DN", "Client-Cert", "X-Remote-User"]
)
def test_a_header_about_a_certificate_means_nothing(office: Office, name: str) -> None:
    value = office.ca.issue("auditor").certificate.read_text().strip().replace("\n", " ")
    assert problem(office.get_self(None, **{name: value})) == (401, "unauthenticated")
    named = office.get_self(office.ca.issue("tenant"), **{name: value})
    assert named.json()["name"] == "tenant"


def test_what_did_not_come_over_tls_is_nobodys(office: Office) -> None:
    request = request_of(office, "auditor")
    assert asyncio.run(identify(request)) is not None
    request.scope["scheme"] = "http"
    assert asyncio.run(identify(request)) is None


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ("email:a@example.org", x509.RFC822Name("a@example.org")),
        ("dns:a.example.org", x509.DNSName("a.example.org")),
        ("uri:spiffe://example.org/a", x509.UniformResourceIdentifier("spiffe://example.org/a")),
    ],
)
def test_alternative_names(tmp_path: Path, rule: str, name: x509.GeneralName) -> None:
    people = People.parse((FORMAT + person(certificates=f'"{rule}"')).encode(), tmp_path)
    ca = PeopleCa.make(tmp_path)
    load = lambda files: x509.load_pem_x509_certificate(files.certificate.read_bytes())  # noqa: E731
    assert {each.name for each in people.holders(load(ca.issue("x", name)))} == {"a"}
    assert people.holders(load(ca.issue("x"))) == frozenset()


def test_a_certificate_of_two_persons_is_nobodys(office: Office, tmp_path: Path) -> None:
    text = FORMAT + person("a", certificates='"subject:CN=a"') + person("b", certificates='"dns:b"')
    file = tmp_path / "access.toml"
    file.write_text(text)
    file.chmod(0o600)
    files = office.ca.issue("a", x509.DNSName("b"))
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    assert len(People.read(file).holders(certificate)) == 2
    assert Access(file).by_certificate(certificate) is None


# -- the rules change -------------------------------------------------------------------------------------------------


def test_who_is_taken_off_the_list_is_nobody_at_the_next_request(tmp_path: Path) -> None:
    with office_in(tmp_path) as office, office.client(office.ca.issue("auditor")) as client:
        assert client.get("/v1/admin/self").status_code == 200
        access_file(office.file, {name: roles for name, roles in EVERYBODY.items() if name != "auditor"})
        assert problem(client.get("/v1/admin/self")) == (401, "unauthenticated")
        office.file.unlink()
        assert problem(office.get_self(office.ca.issue("operator"))) == (401, "unauthenticated")


def test_a_certificate_can_be_revoked_alone(tmp_path: Path) -> None:
    with office_in(tmp_path) as office:
        lost, kept = office.ca.issue("auditor"), office.ca.issue("auditor")
        access_file(office.file, EVERYBODY, f'revoked_certificates = ["sha256:{lost.fingerprint}"]')
        assert problem(office.get_self(lost)) == (401, "unauthenticated")
        assert office.get_self(kept).status_code == 200


def test_a_wrong_file_changes_nothing_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with office_in(tmp_path) as office:
        files = office.ca.issue("auditor")
        assert office.get_self(files).status_code == 200
        office.file.write_text("what = ever")
        assert office.get_self(files).status_code == 200
        assert "access-file" in caplog.text
        access_file(office.file, {})
        assert problem(office.get_self(files)) == (401, "unauthenticated")


FORMAT = 'format = "watchword-access/1"\n'


def person(name: str = "a", roles: str = '"auditor"', certificates: str = '"dns:a"') -> str:
    return f'[[person]]\nname = "{name}"\nroles = [{roles}]\ncertificates = [{certificates}]\n'


WRONG = {
    "not TOML": "=",
    "no format": "",
    "another format": 'format = "watchword-access/2"',
    "a field too many": f"{FORMAT}admins = []",
    "a role that is none": FORMAT + person(roles='"root"'),
    "no role": FORMAT + person(roles=""),
    "nothing to know them by": FORMAT + person(certificates=""),
    "a name that looks local": FORMAT + person("local:root"),
    "a kind of name that is none": FORMAT + person(certificates='"cn:a"'),
    "an empty name": FORMAT + person(certificates='"dns:"'),
    "a subject that is none": FORMAT + person(certificates='"subject:alice"'),
    "a fingerprint that is none": FORMAT + 'revoked_certificates = ["sha256:00"]',
    "two persons with one certificate": FORMAT + person("a") + person("b"),
    "one person twice": FORMAT + person() + person(certificates='"dns:b"'),
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_at_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "access.toml"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(UsageError, match=r"access\.toml: ") as caught:
        Access(file)
    assert caught.value.code == "access-file"


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    access_file(tmp_path / "access.toml", EVERYBODY)
    (tmp_path / "access.toml").chmod(mode)
    with pytest.raises(UsageError, match="others may write"):
        Access(tmp_path / "access.toml")


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    access_file(tmp_path / "access.toml", EVERYBODY, "#" * 256 * 1024)
    with pytest.raises(UsageError, match="larger"):
        Access(tmp_path / "access.toml")


@pytest.mark.parametrize("text", ["", "no certificate", None])
def test_a_client_authority_that_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "ca.pem").write_text(text)
    ring = Keyring.create(tmp_path / "keyring", authority="test", now=NOW)
    with pytest.raises(UsageError) as caught:
        server_context(*ring.tls_files, None, tmp_path / "ca.pem")
    assert caught.value.code == "client-ca"


# -- the table --------------------------------------------------------------------------------------------------------


def request_of(office: Office, name: str, method: str = "GET", **headers: str) -> Request:
    """What a handler gets, from somebody whose certificate was verified."""
    chain = [office.ca.issue(name).certificate.read_text()]
    app = type("App", (), {"state": type("State", (), {"access": Access(office.file)})})
    return Request(
        {
            "type": "http", "method": method, "scheme": "https", "path": "/", "query_string": b"", "app": app,
            "headers": [(key.lower().replace("_", "-").encode(), value.encode()) for key, value in headers.items()],
            "extensions": {"tls": {"client_cert_chain": chain}},
        }
    )  # fmt: skip


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("act", PERMISSIONS)
def test_every_role_may_what_the_table_says(office: Office, role: Role, act: str) -> None:
    request = request_of(office, str(role), "POST")
    if role in PERMISSIONS[act]:
        assert asyncio.run(permit(request, act)).roles == {role}
        return
    with pytest.raises(Problem) as caught:
        asyncio.run(permit(request, act))
    assert caught.value.code == "forbidden"
    assert all(str(allowed) in caught.value.detail for allowed in PERMISSIONS[act])


def test_the_page_has_the_table() -> None:
    page = (ROOT / "docs" / "howto" / "people-and-roles.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z-]+)`: .* \| ([a-z, -]+) \|$", page, re.MULTILINE))
    assert {act: frozenset(roles.split(", ")) for act, roles in rows.items()} == PERMISSIONS


# -- browsers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://elsewhere.example"},  # the browser knows better
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://here.example:8443", "Host": "here.example:8443"},
    ],
)
def test_changes_from_our_own_pages_and_from_programs(office: Office, headers: dict[str, str]) -> None:
    assert asyncio.run(permit(request_of(office, "auditor", "POST", **headers), "stack-revoke")).name == "auditor"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "", "Origin": "https://elsewhere.example"},
        {"Origin": "https://elsewhere.example", "Host": "here.example"},
        {"Origin": "http://here.example", "Host": "here.example"},
        {"Origin": "null", "Host": "here.example"},
        {"Origin": "https://here.example"},
        {"Origin": "https://here.example", "origin": "https://elsewhere.example", "Host": "here.example"},
    ],
)
def test_changes_that_another_site_asks_for(office: Office, headers: dict[str, str]) -> None:
    with pytest.raises(Problem) as caught:
        asyncio.run(permit(request_of(office, "auditor", "POST", **headers), "stack-revoke"))
    assert caught.value.code == "cross-origin"
    assert asyncio.run(permit(request_of(office, "auditor", "GET", **headers), "stack-revoke")).name == "auditor"
