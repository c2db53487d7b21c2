"""``docs/reference/http-api.md`` has every route and every problem of the service, no more and no less."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from starlette.routing import Route
from tests.conftest import ROOT

from watchword.authority.app import Services, create_app
from watchword.authority.keys.keyring import Keyring, KeyringSource
from watchword.authority.operations import OPERATIONS
from watchword.authority.serving.problems import PROBLEMS
from watchword.authority.store import Store

PAGE = (ROOT / "docs" / "reference" / "http-api.md").read_text()
ADMIN_PAGE = (ROOT / "docs" / "reference" / "admin-api.md").read_text()
_CALL = re.compile(r"`(GET|POST) (/[^`]*)`")
_PROBLEM = re.compile(r"^\| `([a-z-]+)` \| (\d{3}) \|", re.MULTILINE)


@pytest.fixture
def routes(tmp_path: Path) -> set[str]:
    """What the service answers; the two kinds of tiles are one route."""
    keys = KeyringSource(Keyring.create(tmp_path / "keyring", authority="test", now=1_800_000_000))
    with Store.open(tmp_path / "store.sqlite3") as store:
        app = create_app(Services(_Unused(), store, keys))
    found = {
        f"{method} {route.path}" for route in app.routes if isinstance(route, Route) for method in route.methods or ()
    }
    return {each for each in found if not each.startswith("HEAD ")}


class _Unused:
    def handle(self, sealed: bytes) -> bytes:
        raise AssertionError("no message is sent here")

    def at_once(self, sealed: bytes) -> bytes | None:
        raise AssertionError("no message is sent here")


def test_the_table_has_every_route(routes: set[str]) -> None:
    table = PAGE.partition("\n## ")[0] + ADMIN_PAGE.partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    listed = {f"{method} {path}" for row in rows for method, path in _CALL.findall(row)}
    tiles = {each for each in listed if each.startswith("GET /tile/")}
    assert len(tiles) == 2
    assert listed - tiles | {"GET /tile/{path:path}"} == routes


def test_every_problem_is_listed_once_with_its_status() -> None:
    listed = [(code, int(status)) for code, status in _PROBLEM.findall(PAGE)]
    assert sorted(listed) == sorted((code, status) for code, (status, _) in PROBLEMS.items())


def test_the_administrative_table_has_every_field_and_act() -> None:
    rows = re.findall(r"^\| `(?:GET|POST) (/[^`]*)` \| (.*?) \| `([a-z-]+)`", ADMIN_PAGE, re.MULTILINE)
    fields = {
        each.path: " ".join(f"`{f.name}`" + ("" if f.required else "?") for f in msgspec.structs.fields(each.question))
        for each in OPERATIONS.values()
    }
    assert {path: told.replace("-", "") if told == "-" else told for path, told, _ in rows} == fields
    assert {path: act for path, _, act in rows} == {each.path: each.act for each in OPERATIONS.values()}
