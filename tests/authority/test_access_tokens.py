"""Bearer tokens before the service: which hold, which do not, and what happens when their issuer does not answer."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, RSAKey

from watchword.authority.access import Access, People, Role
from watchword.authority.access.issuer import FRESH_SECONDS, KEEP_SECONDS, RETRY_SECONDS, Issuer
from watchword.authority.serving.problems import Problem
from watchword.errors import Unavailable, UsageError
from watchword.testing.issuer import TestIssuer, running_issuer
from watchword.testing.people import PeopleCa, access_file

from .conftest import authority_in
from .test_access import Office, problem

MINUTE = 60


def section(issuer: TestIssuer, **more: Any) -> str:
    """The part of ``access.toml`` about this issuer."""
    fields = {
        "url": issuer.url, "audience": "watchword", "ca_file": str(issuer.ca_file), "algorithms": ["ES256", "RS256"],
    } | more  # fmt: skip
    lines = [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
    roles = [f'"wg-{role}" = ["{role}"]' for role in Role]
    return "\n".join(["[issuer]", *lines, "[issuer.roles]", *roles])


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestIssuer]:
    with running_issuer(tmp_path_factory.mktemp("issuer")) as running:
        yield running


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory, issuer: TestIssuer) -> Iterator[Office]:
    directory = tmp_path_factory.mktemp("office")
    ca, file = PeopleCa.make(directory), directory / "access.toml"
    access_file(file, {"operator": ("operator",)}, section(issuer, refused_subjects=["gone"]))
    with authority_in(directory / "data", client_ca=ca.file, access=Access(file)) as service:
        yield Office(service, ca, file)


def ask(office: Office, token: str, files: Any = None) -> httpx2.Response:
    return office.get_self(files, Authorization=f"Bearer {token}")


# -- tokens that hold -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kid", "alg"), [("ec", "ES256"), ("rsa", "RS256")])
def test_a_token_says_who_it_is(office: Office, issuer: TestIssuer, kid: str, alg: str) -> None:
    answer = ask(office, issuer.token(kid=kid, alg=alg, groups=["wg-auditor", "wg-tenant", "others"]))
    assert answer.status_code == 200
    assert answer.json()["actor"] == "token:alice"
    assert answer.json()["roles"] == ["auditor", "tenant"]


def test_several_audiences(office: Office, issuer: TestIssuer) -> None:
    assert ask(office, issuer.token(aud=["elsewhere", "watchword"])).status_code == 200


@pytest.mark.parametrize("groups", [None, [], ["others"], "others", 7, {"wg-auditor": 1}, [["wg-auditor"], 7]])
def test_without_a_group_that_counts_there_is_nothing_they_may_do(
    office: Office, issuer: TestIssuer, groups: object
) -> None:
    answer = ask(office, issuer.token(groups=groups))
    assert (answer.status_code, answer.json()["roles"], answer.json()["acts"]) == (200, [], [])


def test_clocks_may_differ_a_little(office: Office, issuer: TestIssuer) -> None:
    now = int(time.time())
    assert ask(office, issuer.token(exp=now - 10)).status_code == 200
    assert ask(office, issuer.token(nbf=now + 15)).status_code == 200


def test_a_token_counts_alone(office: Office, issuer: TestIssuer) -> None:
    answer = ask(office, issuer.token(groups=["wg-tenant"]), office.ca.issue("operator"))
    assert (answer.json()["name"], answer.json()["roles"]) == ("alice", ["tenant"])
    wrong = ask(office, issuer.token(aud="elsewhere"), office.ca.issue("operator"))
    assert problem(wrong) == (401, "unauthenticated")


# -- tokens that do not ---------------------------------------------------------------------------------------------


def forged(issuer: TestIssuer, head: dict[str, Any], key: Any, alg: str) -> str:
    claims = {"iss": issuer.url, "aud": "watchword", "sub": "alice", "exp": int(time.time()) + 300}
    return jwt.encode({"alg": alg, **head}, claims | {"groups": ["wg-auditor"]}, key, [alg])


def by_hand(issuer: TestIssuer, head: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """What no library makes."""
    claims = {"iss": issuer.url, "aud": "watchword", "sub": "alice", "exp": int(time.time()) + 300}
    text = ".".join(_base64(json.dumps(part).encode()) for part in ({"typ": "JWT"} | head, claims))
    return f"{text}.{_base64(sign(text.encode()))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def signed_by(key: Any) -> Callable[[bytes], bytes]:
    """ES256: both numbers, 32 bytes each (RFC 7518 section 3.4)."""

    def sign(text: bytes) -> bytes:
        numbers = decode_dss_signature(key.private_key.sign(text, ECDSA(SHA256())))
        return b"".join(number.to_bytes(32, "big") for number in numbers)

    return sign


def nothing(_text: bytes) -> bytes:
    return b""


def test_what_does_not_hold(office: Office, issuer: TestIssuer) -> None:
    now = int(time.time())
    public = issuer.keys["rsa"].as_pem(private=False)
    own = ECKey.generate_key("P-256", {"kid": "ec"})
    embedded = {"kid": "other", "jwk": own.as_dict(private=False), "jku": "https://127.0.0.1:1/keys"}
    good = issuer.token()
    head, body, signature = good.split(".")
    wrong = {
        "over": issuer.token(exp=now - 3600),
        "not yet": issuer.token(nbf=now + 3600),
        "issued in the future": issuer.token(iat=now + 3600),
        "another audience": issuer.token(aud="elsewhere"),
        "another issuer": issuer.token(iss="https://elsewhere.example"),
        "an issuer that begins like ours": issuer.token(iss=issuer.url + "/"),
        "no audience": issuer.token(aud=None),
        "no end": issuer.token(exp=None),
        "no subject": issuer.token(sub=None),
        "a subject that is no text": issuer.token(sub=7),
        "a subject that drives terminals": issuer.token(sub="\x1b[2J"),
        "an endless subject": issuer.token(sub="a" * 129),
        "somebody who is refused": issuer.token(sub="gone", groups=["wg-auditor"]),
        "no algorithm": by_hand(issuer, {"alg": "none", "kid": "ec"}, nothing),
        "no signature": by_hand(issuer, {"alg": "ES256", "kid": "ec"}, nothing),
        "a secret that is our public key": by_hand(
            issuer, {"alg": "HS256", "kid": "rsa"}, lambda text: hmac.digest(public, text, "sha256")
        ),
        "an algorithm that is not listed": issuer.token(kid="rsa", alg="PS256"),
        "an algorithm of another kind of key": forged(
            issuer, {"kid": "ec"}, RSAKey.generate_key(2048, {"kid": "ec"}), "RS256"
        ),
        "another key of that name": forged(issuer, {"kid": "ec"}, own, "ES256"),
        "a key of its own": forged(issuer, embedded, own, "ES256"),
        "no key named, and there are several": forged(issuer, {}, issuer.keys["ec"], "ES256"),
        "another signature": f"{head}.{body}.{signature[:-4]}AAAA",
        "another body": f"{head}.{body[:-2]}.{signature}",
        "encrypted": f"{head}.{body}.{signature}.a.b",
        "no token": "nonsense",
        "too long": f"{head}.{body}.{'A' * 12_288}",
        "a token of logging out": issuer.token(head={"typ": "logout+jwt"}),
        "a rule that must be known": by_hand(
            issuer, {"alg": "ES256", "kid": "ec", "x": 1, "crit": ["x"]}, signed_by(issuer.keys["ec"])
        ),
    }
    for name, token in wrong.items():
        answer = ask(office, token)
        assert problem(answer) == (401, "unauthenticated"), name
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"], name
    assert ask(office, good).status_code == 200
    same_but_right = by_hand(issuer, {"alg": "ES256", "kid": "ec"}, signed_by(issuer.keys["ec"]))
    assert ask(office, same_but_right).status_code == 200


@pytest.mark.parametrize("text", ["Bearer", "Basic YTpi", "Negotiate x"])
def test_what_is_no_bearer_token(office: Office, text: str) -> None:
    answer = office.get_self(None, Authorization=text)
    assert problem(answer) == (401, "unauthenticated")
    assert 'error="invalid_request"' in answer.headers["WWW-Authenticate"]


def test_two_tokens_are_none(office: Office, issuer: TestIssuer) -> None:
    with office.client() as client:
        headers = [("Authorization", f"Bearer {issuer.token()}"), ("Authorization", f"Bearer {issuer.token()}")]
        assert problem(client.get("/v1/admin/self", headers=headers)) == (401, "unauthenticated")


def test_a_token_is_in_no_log(office: Office, issuer: TestIssuer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(0):
        nobody = by_hand(issuer, {"alg": "none", "kid": "ec"}, nothing)
        tokens = [issuer.token(), issuer.token(aud="elsewhere"), nobody, "nonsense"]
        answers = [ask(office, token) for token in tokens]
    for token in tokens:
        assert token not in caplog.text
        assert all(token not in answer.text for answer in answers)


# -- tokens that belong to a certificate ----------------------------------------------------------------------------


def test_a_token_of_a_certificate_counts_with_that_certificate_only(office: Office, issuer: TestIssuer) -> None:
    mine, other = office.ca.issue("alice"), office.ca.issue("alice")
    certificate = x509.load_pem_x509_certificate(mine.certificate.read_bytes())
    bound = base64.urlsafe_b64encode(certificate.fingerprint(SHA256())).decode().rstrip("=")
    token = issuer.token(cnf={"x5t#S256": bound})
    assert ask(office, token, mine).status_code == 200
    assert problem(ask(office, token, other)) == (401, "unauthenticated")
    assert problem(ask(office, token)) == (401, "unauthenticated")
    for cnf in ({"jkt": "a"}, {"x5t#S256": bound, "jkt": "a"}, {}, "a", {"x5t#S256": 7}, {"x5t#S256": ""}):
        assert problem(ask(office, issuer.token(cnf=cnf), mine)) == (401, "unauthenticated"), cnf


# -- the issuer -----------------------------------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_keys_are_asked_for_once_and_again_for_one_that_is_unknown(tmp_path: Path) -> None:
    with running_issuer(tmp_path) as provider:
        clock = Clock()
        issuer = Issuer(provider.url, provider.ca_file, clock=clock)
        assert issuer.key("ec")
        assert issuer.key("rsa")
        assert provider.asked == ["/.well-known/openid-configuration", "/keys"]
        for _ in range(5):
            assert issuer.key("new") is None
        assert len(provider.asked) == 2
        provider.keys["new"] = ECKey.generate_key("P-256", {"kid": "new"})
        clock.now += RETRY_SECONDS
        assert issuer.key("new")
        assert len(provider.asked) == 4


def test_a_key_that_was_withdrawn_is_forgotten(tmp_path: Path) -> None:
    with running_issuer(tmp_path) as provider:
        clock = Clock()
        issuer = Issuer(provider.url, provider.ca_file, clock=clock)
        assert issuer.key("ec")
        del provider.keys["ec"]
        clock.now += FRESH_SECONDS
        assert issuer.key("ec") is None


def test_known_keys_are_good_for_a_while_without_the_issuer(tmp_path: Path) -> None:
    with running_issuer(tmp_path) as provider:
        clock = Clock()
        issuer = Issuer(provider.url, provider.ca_file, clock=clock)
        assert issuer.key("ec")
        provider.status = 500
        clock.now += KEEP_SECONDS - 1
        assert issuer.key("ec")
        with pytest.raises(Unavailable, match="keys of the token's issuer") as caught:
            issuer.key("unknown")  # which may be one of today
        assert caught.value.code == "issuer-unreachable"
        clock.now += 1
        with pytest.raises(Unavailable):
            issuer.key("ec")


def test_an_issuer_that_does_not_answer_is_asked_once_a_minute(tmp_path: Path) -> None:
    with running_issuer(tmp_path) as provider:
        provider.status, clock = 503, Clock()
        issuer = Issuer(provider.url, provider.ca_file, clock=clock)
        for _ in range(3):
            with pytest.raises(Unavailable):
                issuer.key("ec")
        assert len(provider.asked) == 1
        provider.status = 200
        clock.now += RETRY_SECONDS
        assert issuer.key("ec")


def test_an_issuer_that_hangs_holds_up_one_request(tmp_path: Path) -> None:
    with running_issuer(tmp_path) as provider:
        provider.hang = threading.Event()
        issuer = Issuer(provider.url, provider.ca_file)
        found: list[object] = []
        first = threading.Thread(target=lambda: found.append(issuer.key("ec")))
        first.start()
        while not provider.asked:
            time.sleep(0.01)
        began = time.monotonic()
        with pytest.raises(Unavailable):
            issuer.key("ec")
        assert time.monotonic() - began < 1
        provider.hang.set()
        first.join(20)
        assert found[0] is not None


OTHER_NAME = {"issuer": "https://elsewhere.example", "jwks_uri": "URL/keys"}
NOT_SECRET = {"issuer": "URL", "jwks_uri": "http://127.0.0.1:1/keys"}
DISCOVERY = "/.well-known/openid-configuration"


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        (DISCOVERY, json.dumps(OTHER_NAME), "it calls itself"),
        (DISCOVERY, json.dumps(NOT_SECRET), "not at an https"),
        (DISCOVERY, json.dumps({"issuer": "URL", "jwks_uri": "URL/keys", "more": "x" * 300_000}), "more than 262144"),
        (DISCOVERY, '{"jwks_uri": "URL/keys"}', "issuer"),
        (DISCOVERY, "{", "truncated"),
        ("/keys", "{}", "keys"),
        ("/keys", '{"keys": ' + "[" * 100_000, "cannot be had"),
    ],
)
def test_documents_that_are_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, path: str, body: str, why: str
) -> None:
    with running_issuer(tmp_path) as provider:
        provider.documents[path] = body.replace("URL", provider.url).encode()
        with pytest.raises(Unavailable):
            Issuer(provider.url, provider.ca_file).key("ec")
        assert "issuer-unreachable" in caplog.text
        assert why in caplog.text


@pytest.mark.parametrize(
    "key", [{"kty": "oct", "kid": "ec", "k": "c2VjcmV0"}, {"kty": "EC", "kid": "ec"}, {"kty": 7}, {}]
)
def test_keys_that_are_none_are_left_out(tmp_path: Path, key: dict[str, Any]) -> None:
    with running_issuer(tmp_path) as provider:
        good = provider.keys["rsa"].as_dict(private=False)
        provider.documents["/keys"] = json.dumps({"keys": [key, good]}).encode()
        issuer = Issuer(provider.url, provider.ca_file)
        assert issuer.key("ec") is None
        assert issuer.key("rsa")


def test_what_cannot_hold_anyway_costs_the_issuer_nothing(tmp_path: Path) -> None:
    with running_issuer(tmp_path) as provider:
        access_file(tmp_path / "access.toml", {}, section(provider))
        access = Access(tmp_path / "access.toml")
        head, body, signature = provider.token().split(".")
        for token in (
            provider.token(kid="rsa", alg="PS256"),
            provider.token(iss="https://elsewhere.example"),
            provider.token(head={"typ": "logout+jwt"}),
            f"{head}.{body}.{signature}{'A' * 12_288}",
            f"{head}.{body}",
        ):
            with pytest.raises(Problem) as caught:
                access.by_token(token, None)
            assert caught.value.code == "unauthenticated"
        assert provider.asked == []


def test_keys_that_are_too_weak_or_for_something_else_do_not_count(tmp_path: Path) -> None:
    with running_issuer(tmp_path) as provider:
        with pytest.warns(SecurityWarning):
            weak = RSAKey.generate_key(1024, {"kid": "weak"})
        sealing = ECKey.generate_key("P-256", {"kid": "sealing", "use": "enc"})
        provider.keys |= {"weak": weak, "sealing": sealing}
        issuer = Issuer(provider.url, provider.ca_file)
        assert issuer.key("ec")
        assert issuer.key("weak") is None
        assert issuer.key("sealing") is None


def test_an_issuer_with_another_certificate_is_not_believed(tmp_path: Path) -> None:
    with running_issuer(tmp_path) as provider:
        other = PeopleCa.make(tmp_path)
        for ca_file in (other.file, None, tmp_path / "absent.pem"):
            with pytest.raises(Unavailable):
                Issuer(provider.url, ca_file).key("ec")
        assert provider.asked == []


def test_without_the_issuer_the_answer_is_to_come_again(tmp_path: Path) -> None:
    with running_issuer(tmp_path) as provider:
        provider.status = 500
        access_file(tmp_path / "access.toml", {}, section(provider))
        access = Access(tmp_path / "access.toml")
        with pytest.raises(Problem) as caught:
            access.by_token(provider.token(), None)
        assert caught.value.code == "identity-unavailable"
        with pytest.raises(Problem) as caught:
            access.by_token("nonsense", None)  # which needs no key to be refused
        assert caught.value.code == "unauthenticated"


def test_without_an_issuer_no_token_counts(tmp_path: Path, issuer: TestIssuer) -> None:
    access_file(tmp_path / "access.toml", {})
    with pytest.raises(Problem, match="takes no bearer tokens"):
        Access(tmp_path / "access.toml").by_token(issuer.token(), None)


# -- the file -------------------------------------------------------------------------------------------------------


def test_names_and_roles_from_other_claims(tmp_path: Path, issuer: TestIssuer) -> None:
    more = section(issuer, name_claim="preferred_username", roles_claim=["realm_access", "roles"])
    access_file(tmp_path / "access.toml", {}, more)
    access = Access(tmp_path / "access.toml")
    claims = {"preferred_username": "Alice A.", "realm_access": {"roles": ["wg-operator"]}, "groups": ["wg-auditor"]}
    caller = access.by_token(issuer.token(**claims), None)
    assert (caller.actor, caller.roles) == ("token:Alice A.", {Role.OPERATOR})
    with pytest.raises(Problem, match="does not say who holds it"):
        access.by_token(issuer.token(), None)
    with pytest.raises(Problem, match="lacks a claim"):
        access.by_token(issuer.token(sub=None, **claims), None)


@pytest.mark.parametrize(
    "change",
    [
        {"url": "http://id.example"},
        {"url": "https://"},
        {"url": "https://id.example?x"},
        {"url": "https://a@id.example"},
        {"algorithms": []},
        {"algorithms": ["none"]},
        {"algorithms": ["HS256"]},
        {"ca_file": "relative.pem"},
        {"audience": ""},
        {"skew_seconds": 301},
        {"roles_claim": []},
        {"secret": "x"},
    ],
)
def test_a_wrong_section(issuer: TestIssuer, change: dict[str, Any]) -> None:
    text = 'format = "watchword-access/1"\n'
    assert People.parse((text + section(issuer)).encode(), Path("access.toml")).tokens is not None
    with pytest.raises(UsageError) as caught:
        People.parse((text + section(issuer, **change)).encode(), Path("access.toml"))
    assert caught.value.code == "access-file"
