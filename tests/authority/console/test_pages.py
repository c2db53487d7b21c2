"""The pages over HTTP: who may see them, what they are sent with, and what they tell."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import httpx2
import pytest

from watchword.authority.console import Console
from watchword.authority.console.log import proof_fault
from watchword.authority.console.page import HEADERS
from watchword.authority.deciding.snapshot import Snapshots
from watchword.wire.note import Checkpoint

from ..conftest import Service, authority_in
from .scene import HOSTILE, PEOPLE, Scene

READERS = [name for name, roles in PEOPLE.items() if {"auditor", "operator", "read-only"} & set(roles)]


def addresses(console: Scene) -> Iterator[str]:
    """One address for every route that answers to GET."""
    host, stack = console.hosts["failed"].host_id.hex(), console.world.stack.digest.hex()
    values = {"host_id": host, "digest": stack, "run_id": "0" * 16, "seq:int": "1", "rest:path": "nothing"}
    for route in Console(Snapshots(console.world.store)).routes():
        if "GET" in route.methods:  # type: ignore[attr-defined]
            yield re.sub(r"\{(.+?)\}", lambda found: values[found[1]], route.path)  # type: ignore[attr-defined]


def has_headers(answer: httpx2.Response) -> bool:
    return (
        all(answer.headers.get(name) == value for name, value in HEADERS.items()) and "set-cookie" not in answer.headers
    )


def text_of(console: Scene, path: str, person: str = "rosa") -> str:
    answer = console.get(path, person)
    assert answer.status_code == 200, answer.text
    return answer.text


# -- access --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("person", "status"), [(None, 401), ("tom", 403), ("eve", 403)])
def test_nobody_else_sees_anything(console: Scene, person: str | None, status: int) -> None:
    with console.client(person) as client:
        for path in addresses(console):
            answer = client.get(path)
            assert (answer.status_code, has_headers(answer)) == (status, True), path
            assert "authority.test" not in answer.text
            assert console.hosts["failed"].host_id.hex() not in answer.text
        form = {"stack": console.world.stack.digest.hex(), "change": "revoke"}
        assert client.post("/console/dry-runs", data=form).status_code == status


@pytest.mark.parametrize("person", READERS)
def test_readers_see_every_page_and_it_is_sent_with_care(console: Scene, person: str) -> None:
    with console.client(person) as client:
        for path in addresses(console):
            answer = client.get(path)
            missing = path.endswith(("nothing", "0" * 16))
            assert (answer.status_code, has_headers(answer)) == (404 if missing else 200, True), path
            if answer.headers["content-type"].startswith("text/html"):
                assert answer.text.startswith('<!doctype html>\n<html lang="en">')
                assert "<script" not in answer.text
                assert not re.search(r"\s(style|on[a-z]+)=", answer.text)


def test_without_the_console_there_is_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    with authority_in(tmp_path_factory.mktemp("plain")) as service:
        plain: Service = service
        with plain.client() as client:
            assert client.get("/console").status_code == 404


# -- the fleet -----------------------------------------------------------------------------------------------------


def count(text: str, standing: str) -> int:
    found = re.search(rf'<li class="tile {standing}.*?<span class="count">([\d\s]+)</span>', text, re.DOTALL)
    assert found
    return int(found[1])


def hosts_in(text: str) -> set[str]:
    return set(re.findall(r'<th scope="row" data-label="Host"><a href="/console/hosts/([0-9a-f]{64})"', text))


def test_the_fleet_is_counted_by_state_and_level(console: Scene) -> None:
    text = text_of(console, "/console")
    found = {name: count(text, name) for name in ("trusted", "degraded", "failed", "stale", "unknown")}
    assert found == {"trusted": 4, "degraded": 3, "failed": 2, "stale": 1, "unknown": 1}
    assert hosts_in(text) == {host.host_id.hex() for host in console.hosts.values()}
    assert 'href="/console?state=degraded&amp;level=boot"' in text


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("state=stale", {"stale"}),
        ("state=unknown", {"unknown"}),
        ("state=failed", {"failed", "revoked"}),
        ("level=boot", {"degraded", "hostile", "marked"}),
        ("state=trusted&level=boot", set()),
        ("state=trusted&level=full", {"one", "two", "three", "four"}),
    ],
)
def test_the_list_is_filtered(console: Scene, query: str, expected: set[str]) -> None:
    found = hosts_in(text_of(console, f"/console?{query}"))
    assert found == {console.hosts[name].host_id.hex() for name in expected}


def test_hosts_are_found_by_the_first_digits_of_their_id(console: Scene) -> None:
    host = console.hosts["one"].host_id.hex()
    for digits in (host, host[:11], host[:10].upper()):
        assert hosts_in(text_of(console, f"/console?host={digits}")) == {host}
    assert not hosts_in(text_of(console, "/console?host=" + "".join("0123456789abcdef"[15 - int(c, 16)] for c in host)))


@pytest.mark.parametrize(
    "query",
    ["state=fine", "level=%3Cb%3E", "host=xyz", "after=00", "profile=00", "before=zz", "profile=" + "0" * 64],
)
def test_a_query_that_makes_no_sense_is_refused(console: Scene, query: str) -> None:
    answer = console.get(f"/console?{query}")
    assert answer.status_code in (400, 404)
    assert has_headers(answer)


# -- one host ------------------------------------------------------------------------------------------------------


def host_page(console: Scene, name: str, query: str = "") -> str:
    return text_of(console, f"/console/hosts/{console.hosts[name].host_id.hex()}{query}")


def test_a_failed_host_shows_the_first_event_that_differs(console: Scene) -> None:
    text = host_page(console, "failed")
    assert "The first event that differs" in text
    assert re.search(
        r"<dt>Nearest stack</dt><dd><a href=\"/console/stacks/[0-9a-f]{64}\">compute 2-rc1 \(default/beta\)<", text
    )
    assert "<dt>PCR</dt><dd>4, its event 2 (event 22 of the log)</dd>" in text
    assert "<dt>Component</dt><dd>image of stack compute 2-rc1" in text
    assert "<dt>Known as</dt><dd>component image, variant captured of stack compute 2</dd>" in text
    assert "What to do:" in text
    assert re.search(r"<dt>Expected</dt><dd><span class=\"hex\">[0-9a-f]{64}</span>", text)


def test_a_good_host_has_nothing_in_the_way(console: Scene) -> None:
    text = host_page(console, "one")
    assert "Nothing is in the way" in text
    assert "The first event that differs" not in text
    for act in ("host-enrolled", "host-trusted"):
        assert f"<code>{act}</code>" in text


def test_levels_are_explained_one_by_one(console: Scene) -> None:
    assert "<code>runtime-file</code> <span" in host_page(console, "degraded", "?level=full")
    assert "Nothing is in the way" in host_page(console, "degraded", "?level=boot")
    assert console.get(f"/console/hosts/{console.hosts['one'].host_id.hex()}?level=gold").status_code == 404


def test_what_a_host_lacks_is_said(console: Scene) -> None:
    assert "has never attested" in host_page(console, "unknown")
    assert "no evidence of this host on file" in host_page(console, "unknown")
    assert "returned to its vendor" in host_page(console, "revoked")
    assert "has not attested in time" in host_page(console, "stale")
    assert console.get("/console/hosts/" + "00" * 32).status_code == 404


def test_a_hostile_file_name_is_inert(console: Scene) -> None:
    for path in ("/console?state=degraded", f"/console/hosts/{console.hosts['hostile'].host_id.hex()}"):
        text = text_of(console, path)
        assert HOSTILE.hex()[:40] in text  # a path with controls is told in hex digits
        assert "<script" not in text
        assert "\u202e" not in text
        assert "\x1b" not in text
    text = text_of(console, f"/console/hosts/{console.hosts['marked'].host_id.hex()}")
    assert "/opt/&lt;script&gt;alert(1)&lt;/script&gt;&#34;" in text
    assert "<script" not in text


def test_no_page_has_a_key_of_a_host_or_a_secret(console: Scene) -> None:
    rows = [console.world.store.host(host.host_id) for host in console.hosts.values()]
    keys = console.world.keys
    hidden = [console.secret, keys.mac_key, keys.pseudonym_key]
    hidden += [part for row in rows if row for part in (row.ek_public, row.ak_public, row.ek_public[-32:])]
    hidden += [entry.salt for entry in console.world.store.decisions()]
    pages = [*addresses(console), *(f"/console/hosts/{h.host_id.hex()}" for h in console.hosts.values())]
    pages += [f"/console/log/{seq}" for seq in range(1, console.world.store.head().seq + 1)]
    with console.client("ada") as client:
        for path in pages:
            text = client.get(path).text
            assert not [value for value in hidden if value.hex() in text], path


# -- stacks and dry runs -------------------------------------------------------------------------------------------


def test_stacks_show_their_life_and_who_signed(console: Scene) -> None:
    text = text_of(console, "/console/stacks")
    rows = {re.search(r">(compute [^<]+)<", row)[1]: row for row in text.split("<tr>") if "/console/stacks/" in row}  # type: ignore[index]
    assert list(rows) == ["compute 2-rc1", "compute 2", "compute 1.1", "compute 1"]
    for name, state, signed in (
        ("compute 2-rc1", "retiring", "1 of 2 needed"), ("compute 2", "draft", "1 of 2 needed"),
        ("compute 1.1", "revoked", "1 of 2 needed"), ("compute 1", "active", "2 of 2 needed"),
    ):  # fmt: skip
        assert f'class="state {state}"' in rows[name]
        assert signed in rows[name]
    assert "too few" in rows["compute 2"]
    assert "too few" not in rows["compute 1"]
    assert '<td data-label="Hosts" class="num">7</td>' in rows["compute 1"]
    assert "auditor" in text


def test_a_release_shows_components_signers_and_history(console: Scene) -> None:
    digest = next(row.digest.hex() for row in console.world.store.stack_infos() if row.version == "1.1")
    text = text_of(console, f"/console/stacks/{digest}")
    for words in ("<strong>image</strong>", "build farm", "not yet", "its initrd has a known hole", digest):
        assert words in text
    assert "What if" not in text  # rosa may not
    assert "If it were active" in text_of(console, f"/console/stacks/{digest}", "ada")
    assert console.get("/console/stacks/" + "00" * 32).status_code == 404


def test_a_dry_run_from_a_page(console: Scene) -> None:
    form = {"stack": console.world.stack.digest.hex(), "change": "revoke"}
    before = console.world.store.head()
    with console.client("olga") as client:
        answer = client.post("/console/dry-runs", data=form, headers={"Sec-Fetch-Site": "same-origin"})
        assert (answer.status_code, has_headers(answer)) == (303, True)
        deadline = time.monotonic() + 30
        while "refresh" in (page := client.get(answer.headers["location"])).headers and time.monotonic() < deadline:
            time.sleep(0.1)
    assert "The fleet as if compute 1 were revoked. Nothing was changed." in page.text
    assert re.search(r"<dt>8</dt><dd>reach no level any more</dd>", page.text)
    assert "<code>stack-revoked</code>" in page.text
    assert console.world.store.head() == before


def test_a_dry_run_of_a_draft_says_who_gets_better(console: Scene) -> None:
    digest = next(row.digest.hex() for row in console.world.store.stack_infos() if row.version == "2")
    with console.client("ada") as client:
        where = client.post("/console/dry-runs", data={"stack": digest, "change": "activate"}).headers["location"]
        deadline = time.monotonic() + 30
        while "refresh" in (page := client.get(where)).headers and time.monotonic() < deadline:
            time.sleep(0.1)
    assert re.search(r"<dt>1</dt><dd>reach a higher level</dd>", page.text)


@pytest.mark.parametrize(
    ("person", "form", "headers", "status"),
    [
        ("rosa", {}, {}, 403),
        ("ada", {}, {"Sec-Fetch-Site": "cross-site"}, 403),
        ("ada", {}, {"Origin": "https://evil.example"}, 403),
        ("ada", {}, {"Content-Type": "application/json"}, 415),
        ("ada", {"change": "explode"}, {}, 400),
        ("ada", {"stack": "00" * 32}, {}, 400),
        ("ada", {"stack": "x"}, {}, 404),
        ("ada", {"change": "x" * 2000}, {}, 413),
    ],
)
def test_a_dry_run_is_not_for_everybody(
    console: Scene, person: str, form: dict[str, str], headers: dict[str, str], status: int
) -> None:
    whole = {"stack": console.world.stack.digest.hex(), "change": "revoke", **form}
    with console.client(person) as client:
        answer = client.post("/console/dry-runs", data=whole, headers=headers)
    assert (answer.status_code, has_headers(answer)) == (status, True)


# -- the log -------------------------------------------------------------------------------------------------------


def test_the_log_shows_checkpoint_witnesses_and_entries(console: Scene) -> None:
    text = text_of(console, "/console/log")
    head = console.world.store.head()
    for words in (head.root.hex(), "witness.example", "a majority cosigned", 'class="state released"', "host-degraded"):
        assert words in text
    assert text.count('data-label="Entry"') == min(50, head.seq)
    older = text_of(console, "/console/log?before=11")
    assert re.findall(r'href="/console/log/(\d+)"', older) == [str(seq) for seq in range(10, 0, -1)]
    assert console.get("/console/log?before=x").status_code == 400


def test_an_entry_shows_its_proof(console: Scene) -> None:
    text = text_of(console, "/console/log/4")
    assert "this page has recomputed it" in text
    assert "stack-endorsed" in text
    assert console.get("/console/log/999999").status_code == 404
    assert console.get("/console/log/" + "9" * 30).status_code == 404


def test_a_proof_that_does_not_hold_is_told(console: Scene) -> None:
    first, second = console.world.store.decision(1), console.world.store.decision(2)
    head = console.world.store.head_at(1)
    assert first
    assert second
    assert head
    checkpoint = Checkpoint("x", 1, head.root)
    assert proof_fault(0, first.leaf, [], checkpoint) == ""
    assert proof_fault(0, second.leaf, [], checkpoint) == "the entry is not at this place in the log"


def test_the_status_names_the_keys(console: Scene) -> None:
    text = text_of(console, "/console/status")
    assert console.world.keys.fingerprint in text
    assert "security team" in text
