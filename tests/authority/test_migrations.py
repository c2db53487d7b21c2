"""From older tables to these: nothing is lost, and programs of the version before go on."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event

from watchword.authority.store import DatabaseUrl, Store, schema, versions
from watchword.authority.store.engine import Backend, open_backend
from watchword.authority.store.upgrade import Tables, tables, upgrade
from watchword.cli.main import run
from watchword.errors import UsageError

from .helpers import NOW, host, raw
from .test_store import release_once

NEXT = Path(__file__).with_name("next_revision")
TOKEN = b"t" * 32
CURRENT = schema.REVISION
_ADDS = re.compile(
    r"CREATE TABLE|CREATE INDEX|CREATE FUNCTION|SELECT|PRAGMA|UPDATE alembic_version"
    r"|ALTER TABLE \w+ ADD COLUMN (?!.*NOT NULL)|ALTER TABLE \w+ ADD COLUMN .*DEFAULT",
    re.DOTALL,
)


def breaks_old_programs(statement: str, new_tables: set[str]) -> bool:
    """Whether a program that knows nothing of ``statement`` may fail after it. Triggers are for new tables only."""
    trigger = re.match(r"CREATE TRIGGER \w+ (?:BEFORE|AFTER) [A-Z ]+ ON (\w+)", statement)
    if trigger:
        return trigger[1] not in new_tables
    return not _ADDS.match(statement.strip())


@contextmanager
def migrating(where: Path | DatabaseUrl) -> Iterator[tuple[Connection, list[str]]]:
    """A connection on which migrations may run, and the statements that did."""
    backend: Backend = open_backend(where, lambda *_: False)
    said: list[str] = []
    event.listen(backend.engine, "before_cursor_execute", lambda *arguments: said.append(arguments[2]))
    with backend.engine.begin() as connection:
        backend.begin_writing(connection)
        said.clear()
        yield connection, said
    backend.engine.dispose()


def objects(where: Path | DatabaseUrl) -> set[tuple[Any, ...]]:
    """Everything in a database by name: tables and indexes, triggers, functions."""
    if isinstance(where, Path):
        return set(raw(where, "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"))
    named = (
        "SELECT 'table', relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')"
    )
    triggers = "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal"
    functions = "SELECT 'function', prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    found = set(raw(where, f"{named} UNION {triggers} UNION {functions}"))
    return {row for row in found if row[1] not in ("alembic_version_pkc", "alembic_version_pkey")}


def test_the_steps_lead_to_the_tables_that_the_program_knows(
    where: Path | DatabaseUrl, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with migrating(where) as (connection, _):
        versions.migrate(connection)
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []
    migrated = objects(where)
    assert tables(where).revision == schema.REVISION
    with Store.open(where) as store:
        assert release_once(store, 1)
    made = tmp_path / "made" if isinstance(where, Path) else request.getfixturevalue("cluster").new_database()
    Store.open(made).close()
    assert objects(made) == migrated


def test_revisions_are_numbers_in_order() -> None:
    scripts = ScriptDirectory.from_config(versions.configuration())
    assert scripts.get_heads() == [schema.REVISION]
    revisions = [each.revision for each in scripts.walk_revisions()]
    assert revisions == sorted(revisions, reverse=True)
    assert all(re.fullmatch(r"[0-9]{4}", revision) for revision in revisions)


@pytest.mark.parametrize("example", [False, True])
def test_every_step_only_adds(where: Path | DatabaseUrl, example: bool, request: pytest.FixtureRequest) -> None:
    """All steps after the first tables; there may be none yet, and the example shows that the rule is looked at."""
    if example:
        request.getfixturevalue("newer")
    with migrating(where) as (connection, said):
        versions.migrate(connection)
    stamped = next(at for at, each in enumerate(said) if each.startswith("INSERT INTO alembic_version"))
    steps = [each.strip() for each in said[stamped + 1 :]]
    new = {found[1] for each in steps if (found := re.match(r"CREATE TABLE (\w+)", each))}
    assert not [each for each in steps if breaks_old_programs(each, new)]
    assert any("ADD COLUMN" in each for each in steps) or not example


@pytest.mark.parametrize(
    ("statement", "breaks"),
    [
        ("CREATE TABLE x (y INTEGER)", False),
        ("CREATE INDEX x ON y (z)", False),
        ("ALTER TABLE x ADD COLUMN y INTEGER", False),
        ("ALTER TABLE x ADD COLUMN y INTEGER DEFAULT '1' NOT NULL", False),
        ("ALTER TABLE x ADD COLUMN y INTEGER NOT NULL", True),
        ("ALTER TABLE x DROP COLUMN y", True),
        ("ALTER TABLE x RENAME TO y", True),
        ("ALTER TABLE x ALTER COLUMN y TYPE BIGINT", True),
        ("DROP TABLE x", True),
        ("DROP INDEX x", True),
        ("CREATE UNIQUE INDEX x ON y (z)", True),
        ("UPDATE x SET y = 1", True),
        ("CREATE TRIGGER t BEFORE INSERT ON old FOR EACH ROW EXECUTE FUNCTION f()", True),
        ("CREATE TRIGGER t BEFORE INSERT OR UPDATE ON new FOR EACH ROW EXECUTE FUNCTION f()", False),
    ],
)
def test_what_may_be_a_step(statement: str, breaks: bool) -> None:
    assert breaks_old_programs(statement, {"new"}) is breaks


def test_a_store_from_before_migrations_is_taken_over(where: Path | DatabaseUrl) -> None:
    with Store.open(where) as store:
        release_once(store, 1)
    later = ("events", "event_chains", "stale_noted", "webhooks", "era_nonces")
    raw(where, *(f"DROP TABLE {name}" for name in ("alembic_version", *later)))
    raw(where, *(f"ALTER TABLE state DROP COLUMN {name}" for name in ("nonce_era", "era_pruned")))
    assert tables(where).revision == "0002"
    with pytest.raises((sqlite3.Error, psycopg.Error), match="alembic_version"):
        raw(where, "SELECT * FROM alembic_version")  # looking changed nothing
    upgrade(where)
    with Store.open(where) as store:
        assert (store.releases(TOKEN), store.verify_decisions().seq) == (1, 1)
    assert raw(where, "SELECT version_num FROM alembic_version") == [(schema.REVISION,)]


@pytest.mark.parametrize("revision", ["9999", "nonsense"])
def test_a_newer_store_is_refused(where: Path | DatabaseUrl, revision: str) -> None:
    Store.open(where).close()
    raw(where, f"UPDATE alembic_version SET version_num = '{revision}'")
    with pytest.raises(UsageError) as caught:
        Store.open(where)
    assert caught.value.code == ("store-version" if revision == "9999" else "store-format")
    with pytest.raises(UsageError):
        upgrade(where)


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """This program as its next version may be: it knows one revision more."""
    monkeypatch.setattr(versions, "_FOLDERS", [*versions._FOLDERS, str(NEXT)])
    monkeypatch.setattr(schema, "REVISION", "9001")


def test_an_old_program_goes_on_while_and_after_the_tables_change(
    where: Path | DatabaseUrl, request: pytest.FixtureRequest
) -> None:
    """The program that runs is this one; the migration is of the next."""
    with Store.open(where) as old, ThreadPoolExecutor(2) as pool:
        assert release_once(old, 100)
        running = pool.submit(lambda: sum(release_once(old, 100) for _ in range(30)))
        request.getfixturevalue("newer")
        assert upgrade(where).revision == CURRENT
        assert running.result(60) == 30
        with migrating(where) as (connection, _):
            assert versions.revision_of(connection, "x") == "9001"
        with old.transaction() as tx:
            tx.put_host(host())
            assert tx.use_nonce(b"n" * 32, NOW + 60)
        assert release_once(old, 100)
        assert old.host(host().host_id) == host()
        assert old.verify_decisions().seq == 32
    assert raw(where, "SELECT DISTINCT weight FROM decisions") == [(1,)]
    Store.open(where).close()  # the next program


def test_a_file_is_brought_up_to_date_by_itself_and_a_server_when_told(
    where: Path | DatabaseUrl, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Store.open(where).close()
    request.getfixturevalue("newer")
    if isinstance(where, Path):
        Store.open(where).close()
        assert tables(where).revision == "9001"
        return
    with pytest.raises(UsageError) as caught:
        Store.open(where)
    assert caught.value.code == "store-outdated"
    options = ["--data", str(tmp_path / "data"), "--database", where.text, "--json"]
    assert run(["authority", "database", "status", *options]) == 0
    assert '"outdated": true' in capsys.readouterr().out
    assert run(["authority", "database", "upgrade", *options]) == 0
    assert f'"before": "{CURRENT}"' in capsys.readouterr().out
    assert tables(where) == Tables("postgresql", "9001", "9001")
    Store.open(where).close()
