"""The operations over HTTP: every role at every one of them, what is refused and how, and who is in the record."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from watchword.authority.access import PERMISSIONS, Role
from watchword.authority.operations import OPERATIONS, Desk, Operation, dry_run
from watchword.authority.operations.dry_run import DryRunOf, try_change
from watchword.authority.serving.problems import Problem
from watchword.authority.store import Store
from watchword.crypto import dsse
from watchword.errors import UsageError
from watchword.policy.stack import PAYLOAD_TYPE
from watchword.testing.documents import PROFILE, STACK, encode
from watchword.testing.people import ClientFiles

from .helpers import NOW, host
from .test_access import Office, office_in, problem

KEY = Ed25519PrivateKey.generate()
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
ENVELOPE = dsse.sign(encode(STACK), PAYLOAD_TYPE, (KEY,))
HOST = host().host_id.hex()
MATRIX = [(name, role) for name in OPERATIONS for role in Role]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with office_in(tmp_path_factory.mktemp("office")) as running:
        yield running


@pytest.fixture(scope="module")
def people(office: Office) -> dict[Role, ClientFiles]:
    return {role: office.ca.issue(str(role)) for role in Role}


def send(
    office: Office, who: ClientFiles | None, name: str, /, *, content: bytes | None = None, **question: Any
) -> httpx2.Response:
    operation = OPERATIONS[name]
    with office.client(who) as client:
        if not operation.changes:
            return client.get(operation.path, params=question)
        body = content if content is not None else json.dumps(question).encode()
        return client.post(operation.path, content=body, headers={"Content-Type": "application/json"})


# -- who may ------------------------------------------------------------------------------------------------------


def question_of(operation: Operation) -> dict[str, Any]:
    """Something that is allowed to be asked; that there is no such thing does not matter."""
    values = {
        "stack": "f" * 64, "at": 2_000_000_000, "name": "compute", "endorsers": ["f" * 64], "key": "f" * 64,
        "document": b64(b"{}"), "profile": "f" * 64, "certificate": b64(b"x"), "ek_class": "virtual", "label": "x",
        "fingerprint": "f" * 64, "crl": b64(b"x"), "public": b64(b"x"), "host": "f" * 64, "reason": "because",
    }  # fmt: skip
    if operation.name == "endorser add":
        values["key"] = b64(b"x")
    fields = operation.question.__struct_fields__[: -len(operation.question.__struct_defaults__) or None]
    return {name: values[name] for name in fields}


@pytest.mark.parametrize(("name", "role"), MATRIX, ids=str)
def test_every_role_at_every_operation(office: Office, people: dict[Role, ClientFiles], name: str, role: Role) -> None:
    operation = OPERATIONS[name]
    answer = send(office, people[role], name, **question_of(operation))
    further = {"stack add": "stack-activate"}.get(name, operation.act)
    if role in PERMISSIONS[operation.act] & PERMISSIONS[further]:
        assert answer.status_code not in (401, 403)
    else:
        assert problem(answer) == (403, "forbidden")


@pytest.mark.parametrize("name", OPERATIONS)
def test_nobody_gets_anything(office: Office, name: str) -> None:
    question = question_of(OPERATIONS[name])
    assert problem(send(office, None, name, **question)) == (401, "unauthenticated")
    assert problem(send(office, office.ca.issue("mallory"), name, **question)) == (401, "unauthenticated")


def test_a_release_that_is_in_force_at_once_takes_an_auditor(office: Office, people: dict[Role, ClientFiles]) -> None:
    draft = {"document": b64(b"{}"), "draft": True}
    assert send(office, people[Role.ENDORSER], "stack add", **draft).status_code == 400
    assert problem(send(office, people[Role.ENDORSER], "stack add", document=b64(b"{}")))[0] == 403
    assert problem(send(office, people[Role.OPERATOR], "stack add", **draft))[0] == 403


def test_every_act_of_the_table_is_somebodys() -> None:
    used = {each.act for each in OPERATIONS.values()} | {"stack-activate"}
    assert used == set(PERMISSIONS)


# -- what is asked ------------------------------------------------------------------------------------------------


def test_no_body_is_read_from_somebody_who_may_not(office: Office, people: dict[Role, ClientFiles]) -> None:
    answer = send(office, people[Role.TENANT], "host revoke", content=b"not JSON")
    assert problem(answer) == (403, "forbidden")


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"{}", b'{"host": 7, "reason": "x"}', b'{"host": "a", "reason": "x", "more": 1}', b'"' + b"[" * 9999,
     b'{"host": "a", "reason": ""}', b'{"host": "", "reason": "x"}', b"\xff"],
)  # fmt: skip
def test_what_is_no_question(office: Office, people: dict[Role, ClientFiles], body: bytes) -> None:
    answer = send(office, people[Role.OPERATOR], "host revoke", content=body)
    assert problem(answer) == (400, "body-malformed")


def test_a_question_that_is_too_large(office: Office, people: dict[Role, ClientFiles]) -> None:
    content = json.dumps({"host": "a", "reason": "x" * 64_000}).encode() + b" " * 2000
    assert problem(send(office, people[Role.OPERATOR], "host revoke", content=content)) == (413, "body-too-large")


@pytest.mark.parametrize("query", ["state=none", "state=active&state=draft", "more=1"])
def test_what_is_no_query(office: Office, people: dict[Role, ClientFiles], query: str) -> None:
    with office.client(people[Role.READ_ONLY]) as client:
        assert problem(client.get(f"/v1/admin/stack/list?{query}")) == (400, "query-malformed")


def test_numbers_and_words_in_a_query(office: Office, people: dict[Role, ClientFiles]) -> None:
    with office.client(people[Role.READ_ONLY]) as client:
        assert client.get("/v1/admin/decisions?after=0&limit=1&acts=true").status_code == 200
        assert problem(client.get("/v1/admin/decisions?limit=1001")) == (400, "query-malformed")
        assert problem(client.post("/v1/admin/decisions")) == (405, "method-not-allowed")
        assert problem(client.get("/v1/admin/host/revoke")) == (405, "method-not-allowed")


def test_a_change_that_another_site_asks_for(office: Office, people: dict[Role, ClientFiles]) -> None:
    with office.client(people[Role.OPERATOR]) as client:
        headers = {"Content-Type": "application/json", "Origin": "https://elsewhere.example"}
        answer = client.post("/v1/admin/host/revoke", content=b'{"host": "a", "reason": "x"}', headers=headers)
        assert problem(answer) == (403, "cross-origin")


# -- what is answered ---------------------------------------------------------------------------------------------


def test_mistakes_are_told_with_code_and_hint(office: Office, people: dict[Role, ClientFiles]) -> None:
    answer = send(office, people[Role.AUDITOR], "host revoke", host="f" * 64, reason="x")
    assert problem(answer) == (400, "id-unknown")
    assert answer.json()["hint"]
    assert answer.json()["error"] == "UsageError"
    answer = send(office, people[Role.AUDITOR], "stack add", document=b64(encode(STACK)))
    assert problem(answer) == (422, "stack-unsigned")
    assert answer.json()["findings"][0]["clause"] == "G1"
    answer = send(office, people[Role.AUDITOR], "endorser add", key=b64(b"x"), name="x")
    assert (answer.status_code, answer.json()["error"]) == (400, "MalformedError")


def test_a_release_from_draft_to_revoked_and_who_did_what(tmp_path: Path) -> None:
    with office_in(tmp_path) as office:
        who = {role: office.ca.issue(str(role)) for role in Role}

        def ask(role: Role, name: str, /, **question: Any) -> dict[str, Any]:
            answer = send(office, who[role], name, **question)
            assert answer.status_code == 200, answer.text
            document: dict[str, Any] = answer.json()
            return document

        ask(Role.AUDITOR, "endorser add", key=b64(SPKI), name="one")
        added = ask(Role.ENDORSER, "stack add", document=b64(ENVELOPE), draft=True)
        assert added["state"] == "draft"
        assert ask(Role.AUDITOR, "stack activate", stack="compute@1.0")["state"] == "active"
        ask(Role.OPERATOR, "stack revoke", stack=added["digest"], reason="CVE-2026-0001")
        shown = ask(Role.READ_ONLY, "stack show", stack=added["digest"][:8])
        assert [(each["state"], each["by"]) for each in shown["history"]] == [
            ("draft", "certificate:endorser"), ("active", "certificate:auditor"), ("revoked", "certificate:operator"),
        ]  # fmt: skip
        acts = ask(Role.READ_ONLY, "decisions", acts=True)["decisions"]
        assert [(each["entry"]["act"], each["entry"]["by"]) for each in acts] == [
            ("endorser-add", "certificate:auditor"), ("stack-add", "certificate:endorser"),
            ("stack-active", "certificate:auditor"), ("stack-revoked", "certificate:operator"),
        ]  # fmt: skip


def test_hosts_and_profiles(tmp_path: Path) -> None:
    with office_in(tmp_path) as office:
        with office.service.store.transaction() as tx:
            tx.put_host(host())
        operator = office.ca.issue("operator")
        profile = send(office, operator, "profile add", document=b64(encode(PROFILE))).json()
        assert send(office, operator, "watch add", profile=profile["id"]).json()["name"] == "gold"
        hosts = send(office, operator, "watch hosts").json()
        assert [each["host"] for each in hosts["hosts"]] == [HOST]
        assert send(office, operator, "host show", host=HOST[:8]).json()["host"] == HOST
        gone = send(office, operator, "host revoke", host=HOST, reason="sold").json()
        assert gone["revoked_reason"] == "sold"
        assert office.service.store.verify_decisions().seq == 3


def test_a_dry_run_ends_in_time_and_says_so(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.sqlite3") as store:
        desk = Desk(store, NOW, "certificate:eve")
        profile = desk.admin.add_profile(encode(PROFILE))
        with store.transaction() as tx:
            tx.put_host(host())
        ask = DryRunOf(watched=profile.id.hex())
        whole = try_change(desk, ask)
        assert (whole["hosts"], whole["complete"], whole["harmless"]) == (1, True, False)
        cut = try_change(desk, ask, seconds=-1)
        assert (cut["hosts"], cut["complete"], cut["harmless"]) == (0, False, False)


def test_a_dry_run_is_not_done_twice_at_a_time(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.sqlite3") as store:
        desk = Desk(store, NOW, "certificate:eve")
        with dry_run._alone, pytest.raises(Problem) as caught:
            OPERATIONS["dry-run"].run(desk, DryRunOf())
        assert caught.value.code == "overloaded"
        with pytest.raises(UsageError, match="no profile"):
            OPERATIONS["dry-run"].run(desk, DryRunOf())
