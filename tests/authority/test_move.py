"""Moving a store from its file to PostgreSQL: all of it or nothing, and never two stores that count."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Boolean, Column, LargeBinary, Table, insert, select
from sqlalchemy.exc import IntegrityError

from watchword.authority.data import ELSEWHERE, STORE_FILE, DataDirectory
from watchword.authority.keys.high_water import HighWater, Hold, put_hold
from watchword.authority.keys.keyring import Keyring
from watchword.authority.store import DatabaseUrl, Store, schema
from watchword.authority.store.upgrade import tables
from watchword.authority.upkeep.moving import MOVED_FILE, Move
from watchword.cli.main import run
from watchword.errors import Unavailable, UsageError
from watchword.testing.postgresql import Cluster

from .helpers import NOW, entry, host, raw

TOKEN = b"t" * 32
LAUNCH = b"l" * 32
ENTRIES = 260  # more than a tile of the log
BY_HAND = ("state", "decisions", "log_nodes", "releases", "event_chains", "events")
Command = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def url(cluster: Cluster) -> DatabaseUrl:
    return cluster.new_database()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An authority that has released, with something in every table."""
    made = DataDirectory.create(tmp_path / "data", authority="test", now=NOW, passphrase=None)
    with made.store as store:
        with store.transaction() as tx:
            for number in range(ENTRIES - 1):
                tx.append_decision(NOW, b"" if number % 2 else LAUNCH, entry(launch=b"" if number % 2 else LAUNCH))
            tx.count_release(TOKEN)
            tx.count_release(TOKEN)
            tx.begin_era()
            tx.append_act(NOW, "host-enrolled", "00" * 32)
            for table in schema.metadata.sorted_tables:
                if table.name not in BY_HAND:
                    tx._connection.execute(insert(table), [_row(table, number) for number in (1, 2)])
        HighWater(store).advance(made.keyring, ENTRIES)
    return made.path


def _row(table: Table, number: int) -> dict[str, Any]:
    """A row in which only the types are right, and what refers to other tables."""
    return {column.name: _value(column, number) for column in table.columns}


def _value(column: Column[Any], number: int) -> Any:
    if column.name == "id" and isinstance(column.type, type(schema.stack_history.c.id.type)):
        return number * 10
    if isinstance(column.type, Boolean):
        return number == 1
    if isinstance(column.type, LargeBinary):
        return bytes([number]) * 32
    return number if "INT" in str(column.type.compile()) else f"text {number} \u00e4\N{SYMBOL FOR NULL}"


def rows(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    with store._reading() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))]
            for table in schema.metadata.sorted_tables
        }


@pytest.fixture
def before(data: Path) -> dict[str, list[tuple[Any, ...]]]:
    with Store.open(data / STORE_FILE) as store:
        return rows(store)


@pytest.fixture
def move(data: Path, url: DatabaseUrl, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command; its exit status and what it printed as JSON."""

    def call(to: DatabaseUrl | None = None) -> tuple[int, dict[str, Any]]:
        status = run(["authority", "database", "move", "--data", str(data), "--database", (to or url).text, "--json"])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return status, json.loads(captured.out)

    return call


def code(result: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    return result[0], result[1]["error"]["code"]


def in_force(where: Path | DatabaseUrl) -> bool:
    """Whether programs open what is there as a store with something in it."""
    try:
        if tables(where).revision is None:
            return False
    except UsageError as error:
        if error.code not in ("store-moved", "store-arriving"):
            raise
        return False
    with Store.open(where) as store:
        return store.head().seq > 0


def killed(data: Path, url: DatabaseUrl, module: str, attribute: str, when: str) -> None:
    program = Path(__file__).with_name("move_child.py")
    arguments = [str(data), url.text, module, attribute, when]
    found = subprocess.run([sys.executable, str(program), *arguments], timeout=120, check=False)
    assert found.returncode == -signal.SIGKILL


# -- all of it -----------------------------------------------------------------------------------------------------


def test_everything_arrives(
    data: Path, url: DatabaseUrl, before: dict[str, list[tuple[Any, ...]]], move: Command
) -> None:
    assert all(before.values()), [name for name, found in before.items() if not found]
    status, document = move()
    assert status == 0
    assert document["rows"] == {name: len(found) for name, found in before.items()}
    assert (document["entries"], document["releases"]) == (ENTRIES, 2)
    with Store.open(url) as store:
        after = rows(store)
        assert store.verify_decisions().seq == ENTRIES + 1
        assert store.head_at(ENTRIES) is not None
        assert store.head_at(ENTRIES).root.hex() == document["root"]  # type: ignore[union-attr]
        assert after.pop("decisions")[:-1] == before.pop("decisions")
        assert after == before
        with store.transaction() as tx:  # what the database numbers goes on behind what was there
            history = {key: value for key, value in _row(schema.stack_history, 1).items() if key != "id"}
            number = tx._connection.execute(insert(schema.stack_history), history).inserted_primary_key
            assert number is not None
            assert number[0] == 21
            assert tx.count_release(TOKEN) == 3
            assert not tx.use_nonce(b"\x01" * 32, NOW)
            with pytest.raises(IntegrityError, match="append-only"):
                tx._connection.exec_driver_sql("DELETE FROM decisions")


def test_the_move_is_in_the_log(data: Path, url: DatabaseUrl, move: Command) -> None:
    _, document = move()
    with Store.open(url) as store:
        act = json.loads(next(store.decisions(after=ENTRIES)).entry)
        mark = HighWater(store).check(Keyring.load(data / "keyring"))
    assert act["act"] == "store-move"
    assert act["by"].startswith("local:")
    assert act["details"]["entries"] == ENTRIES
    assert act["details"]["root"] == document["root"]
    assert mark.size == ENTRIES + 1


def test_an_authority_that_has_decided_nothing_moves(
    tmp_path: Path, url: DatabaseUrl, capsys: pytest.CaptureFixture[str]
) -> None:
    DataDirectory.create(tmp_path / "new", authority="test", now=NOW, passphrase=None).store.close()
    where = ["--data", str(tmp_path / "new"), "--database", url.text]
    assert run(["authority", "database", "move", *where]) == 0
    assert "store.sqlite3.moved, not in force any more" in capsys.readouterr().out
    with Store.open(url) as store:
        assert store.verify_decisions().seq == 1


def test_an_empty_log_is_not_taken_for_any_other(tmp_path: Path, url: DatabaseUrl, cluster: Cluster) -> None:
    """It is the beginning of every log."""
    made, other = (
        DataDirectory.create(tmp_path / "new", authority="test", now=NOW, passphrase=None),
        cluster.new_database(),
    )
    made.store.close()
    with Store.open(other) as store, store.transaction() as tx:
        tx.append_act(NOW, "prune", "", rows=1)
    killed(made.path, url, "upkeep.moving", "_retire", "after")
    ring = Keyring.load(made.path / "keyring")
    with pytest.raises(UsageError) as caught:
        Move(made.path, ring, other, NOW, "local:test").run(lambda total: lambda what, rows: None)
    assert caught.value.code == "move-other"


def test_what_a_service_committed_before_it_was_killed(data: Path, move: Command) -> None:
    """It may still be in the journal beside the file."""
    program = f"""
import os, pathlib, signal
from watchword.authority.store import Store
store = Store.open(pathlib.Path({str(data / STORE_FILE)!r}))
with store.transaction() as tx:
    tx.count_release({TOKEN!r})
    tx.append_decision({NOW}, b"", {entry()!r})
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == -signal.SIGKILL
    assert (data / f"{STORE_FILE}-wal").stat().st_size > 0
    _, document = move()
    assert (document["entries"], document["releases"]) == (ENTRIES + 1, 3)
    assert sorted(path.name for path in data.glob(f"{STORE_FILE}*")) == [f"{STORE_FILE}.lock", MOVED_FILE]


def test_tables_that_are_there_but_empty_will_do(url: DatabaseUrl, move: Command) -> None:
    Store.open(url).close()
    assert move()[0] == 0


def test_the_directory_leads_to_the_database(
    data: Path, url: DatabaseUrl, move: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    named = data / "database.url"
    named.write_text(url.text)
    named.chmod(0o600)
    assert run(["authority", "database", "move", "--data", str(data)]) == 0
    assert "is to be told" not in capsys.readouterr().err
    assert run(["authority", "decisions", "--verify", "--data", str(data)]) == 0
    assert f"head {ENTRIES + 1} " in capsys.readouterr().out
    assert code(move()) == (1, "store-elsewhere")


# -- the old file --------------------------------------------------------------------------------------------------


def test_the_old_file_is_not_opened_again(data: Path, move: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert move()[0] == 0
    assert not (data / STORE_FILE).exists()
    (data / MOVED_FILE).rename(data / STORE_FILE)
    (data / ELSEWHERE).unlink()
    for command in (["serve"], ["host", "list"], ["database", "status"], ["recovery", "show"], ["backup", "x.tar"]):
        status = run(["authority", *command, "--data", str(data), "--json"])
        assert code((status, json.loads(capsys.readouterr().out))) == (1, "store-moved"), command
    text = raw(data / STORE_FILE, "SELECT version_num FROM alembic_version")[0][0]
    assert not text.isdigit()  # programs that know nothing of moves refuse what is no revision


def test_not_even_when_somebody_makes_it_look_as_before(data: Path, move: Command) -> None:
    """Such as by putting back a copy of the file from just before the move."""
    assert move()[0] == 0
    file = data / MOVED_FILE
    raw(file, "DROP TRIGGER store_out_of_force", f"UPDATE alembic_version SET version_num = '{schema.REVISION}'")
    with Store.open(file) as store, pytest.raises(Unavailable) as caught:
        HighWater(store).check(Keyring.load(data / "keyring"))
    assert caught.value.code == "store-rolled-back"


def test_a_program_that_has_it_open_releases_nothing(data: Path, move: Command) -> None:
    assert move()[0] == 0
    with pytest.raises(Exception, match="not in force"):
        raw(data / MOVED_FILE, "INSERT INTO decisions SELECT seq + 1, time, launch_key, number, salt, entry, leaf, "
            "frontier FROM decisions ORDER BY seq DESC LIMIT 1")  # fmt: skip


def test_a_backup_is_not_put_back_beside_the_database(
    data: Path, tmp_path: Path, move: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["authority", "backup", str(tmp_path / "b.tar"), "--data", str(data)]) == 0
    capsys.readouterr()
    assert move()[0] == 0
    status = run(["authority", "restore", str(tmp_path / "b.tar"), "--data", str(data), "--json"])
    assert code((status, json.loads(capsys.readouterr().out))) == (1, "store-elsewhere")
    assert not (data / STORE_FILE).exists()


# -- what is refused -----------------------------------------------------------------------------------------------


def unmoved(data: Path, url: DatabaseUrl, result: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    """The refusal, after which the old store is in force and the new one is not."""
    assert in_force(data / STORE_FILE)
    assert not in_force(url)
    assert not (data / ELSEWHERE).exists()
    return code(result)


def test_while_somebody_has_the_file_open(data: Path, url: DatabaseUrl, move: Command) -> None:
    with Store.open(data / STORE_FILE):
        result = move()
    assert unmoved(data, url, result) == (1, "store-in-use")
    assert move()[0] == 0


def test_while_somebody_has_the_database_open(data: Path, url: DatabaseUrl, move: Command) -> None:
    with Store.open(url):
        result = move()
    assert unmoved(data, url, result) == (1, "store-in-use")


def test_into_a_store(data: Path, url: DatabaseUrl, move: Command) -> None:
    with Store.open(url) as store, store.transaction() as tx:
        tx.put_host(host())
    assert unmoved(data, url, move()) == (1, "move-target")
    with Store.open(url) as store:
        assert store.hosts() == (host(),)


def test_into_a_store_in_which_only_numbers_were_used(data: Path, url: DatabaseUrl, move: Command) -> None:
    with Store.open(url) as store, store.transaction() as tx:
        tx.begin_era()
    assert unmoved(data, url, move()) == (1, "move-target")


def test_into_a_database_of_others(data: Path, url: DatabaseUrl, move: Command) -> None:
    raw(url, "CREATE TABLE theirs (x integer)")
    assert code(move()) == (1, "store-format")
    assert in_force(data / STORE_FILE)


@pytest.mark.parametrize(("revision", "expected"), [("0003", "store-outdated"), ("9999", "store-version")])
def test_from_or_to_other_tables(data: Path, url: DatabaseUrl, move: Command, revision: str, expected: str) -> None:
    Store.open(url).close()
    for where, back in ((url, schema.REVISION), (data / STORE_FILE, revision)):
        raw(where, f"UPDATE alembic_version SET version_num = '{revision}'")
        assert code(move()) == (1, expected)
        raw(where, f"UPDATE alembic_version SET version_num = '{back}'")


def test_with_a_table_that_nobody_knows(data: Path, url: DatabaseUrl, move: Command) -> None:
    raw(data / STORE_FILE, "CREATE TABLE later (x INTEGER)")
    assert unmoved(data, url, move()) == (1, "store-format")


def test_a_store_that_went_back(data: Path, url: DatabaseUrl, move: Command) -> None:
    with Store.open(data / "other.sqlite3") as store, store.transaction() as tx:
        tx.append_decision(NOW, b"", entry("another"))
    (data / "other.sqlite3").rename(data / STORE_FILE)
    assert unmoved(data, url, move()) == (2, "store-rolled-back")


def test_an_authority_that_is_held(data: Path, url: DatabaseUrl, move: Command) -> None:
    put_hold(data / "keyring", Hold("witness", NOW, "a test"))
    assert unmoved(data, url, move()) == (2, "releases-held")


def test_a_log_that_was_changed(data: Path, url: DatabaseUrl, move: Command) -> None:
    raw(data / STORE_FILE, "DROP TRIGGER decisions_no_update", "UPDATE decisions SET time = time + 1 WHERE seq = 7")
    assert unmoved(data, url, move()) == (3, "decision-log")


@pytest.mark.parametrize("change", ["NEW.url = 'x'; RETURN NEW", "RETURN NULL"])
def test_a_database_that_keeps_something_else(data: Path, url: DatabaseUrl, move: Command, change: str) -> None:
    Store.open(url).close()
    raw(url, f"CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {change}; END $$")
    raw(url, "CREATE TRIGGER other BEFORE INSERT ON webhooks FOR EACH ROW EXECUTE FUNCTION other()")
    assert unmoved(data, url, move()) == (2, "move-differs")


@pytest.mark.parametrize("change", ["webhooks SET place = 'somewhere'", "hosts SET ek_public = 'text'"])
def test_a_value_that_no_store_has(data: Path, url: DatabaseUrl, move: Command, change: str) -> None:
    raw(data / STORE_FILE, f"UPDATE {change}")  # SQLite keeps whatever it is given
    assert unmoved(data, url, move()) == (1, "store-format")


def test_to_nowhere(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["authority", "database", "move", "--data", str(data), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "database-url"


def test_without_a_store(tmp_path: Path, url: DatabaseUrl, capsys: pytest.CaptureFixture[str]) -> None:
    Keyring.create(tmp_path / "keyring", authority="test", now=NOW)
    where = ["--data", str(tmp_path), "--database", url.text, "--json"]
    assert run(["authority", "database", "move", *where]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "store-missing"


# -- killed on the way ---------------------------------------------------------------------------------------------

BEFORE_IT_IS_MOVED = [
    ("store.move", "_set_sequences", "before"),  # all rows are written
    ("store.move", "_compare", "after"),
    ("upkeep.moving", "fill", "after"),  # nothing is committed
    ("upkeep.moving", "_retire", "before"),  # the copy is
    ("upkeep.moving", "put_out_of_force", "after"),  # the file is not
]
AFTER_IT_IS_MOVED = [
    ("upkeep.moving", "_retire", "after"),
    ("store.move", "put_in_force", "after"),
    ("upkeep.moving", "Transaction.append_act", "after"),
    ("upkeep.moving", "HighWater.advance", "before"),
    ("upkeep.moving", "HighWater.advance", "after"),
    ("upkeep.moving", "note_elsewhere", "before"),
    ("upkeep.moving", "note_elsewhere", "after"),
]


@pytest.mark.parametrize("point", BEFORE_IT_IS_MOVED, ids=":".join)
def test_killed_before_it_is_moved(data: Path, url: DatabaseUrl, move: Command, point: tuple[str, str, str]) -> None:
    """The file is the store, goes on to count, and what came since is moved the next time."""
    killed(data, url, *point)
    assert in_force(data / STORE_FILE)
    assert not in_force(url)
    with Store.open(data / STORE_FILE) as store, store.transaction() as tx:
        assert tx.count_release(TOKEN) == 3
        tx.append_decision(NOW, b"", entry())
    status, document = move()
    assert (status, document["entries"], document["releases"]) == (0, ENTRIES + 1, 3)
    assert in_force(url)
    assert not in_force(data / MOVED_FILE)


@pytest.mark.parametrize("point", AFTER_IT_IS_MOVED, ids=":".join)
def test_killed_after_it_is_moved(data: Path, url: DatabaseUrl, move: Command, point: tuple[str, str, str]) -> None:
    """The file is never the store again, and a second move puts the database in force if it is not."""
    killed(data, url, *point)
    assert not in_force(data / STORE_FILE)
    status, document = move()
    assert (status, document["entries"], document["releases"]) == (0, ENTRIES, 2)
    with DataDirectory.open(data, passphrase=None, database=url).store as store:
        assert store.verify_decisions().seq == ENTRIES + 1  # one entry about it, however often it was tried
        assert HighWater(store).check(Keyring.load(data / "keyring")).size == ENTRIES + 1
    assert not in_force(data / MOVED_FILE)


def test_who_has_an_arriving_store_open_releases_nothing(data: Path, url: DatabaseUrl, move: Command) -> None:
    """Such as a service that was started on the empty database, and calls itself otherwise than ours do."""
    with Store.open(DatabaseUrl(f"{url.text}&application_name=other")) as running:
        killed(data, url, "upkeep.moving", "_retire", "before")
        with pytest.raises(IntegrityError, match="not in force"), running.transaction() as tx:
            tx.append_decision(NOW, b"", entry())
        with pytest.raises(UsageError) as caught:
            Store.open(url)
        assert caught.value.code == "store-arriving"
        assert move()[0] == 0
        with running.transaction() as tx:
            assert tx.append_decision(NOW, b"", entry()).seq == ENTRIES + 2


def test_a_moved_file_goes_on_to_its_own_database_only(
    data: Path, url: DatabaseUrl, cluster: Cluster, move: Command
) -> None:
    other, third = cluster.new_database(), cluster.new_database()
    killed(data, other, "upkeep.moving", "_retire", "before")  # a copy as whole as the next
    killed(data, url, "upkeep.moving", "_retire", "after")
    with Store.open(third) as store, store.transaction() as tx:
        tx.append_decision(NOW, b"", entry())
    for where in (other, third, cluster.new_database()):
        assert code(move(where)) == (1, "move-other")
    assert not in_force(other)
    assert move()[0] == 0


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE decisions SET time = time + 1 WHERE seq = 7",
        "DELETE FROM releases",
        "DELETE FROM decisions WHERE seq > 200",
    ],
)
def test_a_copy_that_was_changed_before_it_was_in_force(
    data: Path, url: DatabaseUrl, move: Command, change: str
) -> None:
    killed(data, url, "upkeep.moving", "_retire", "after")
    raw(url, *(f"ALTER TABLE {name} DISABLE TRIGGER ALL" for name in ("decisions", "releases")), change)
    status, refused = code(move())
    assert (status, refused) in ((2, "move-differs"), (3, "decision-log"))
    assert not in_force(url)


def test_what_another_authority_began_to_move_there_is_left(
    data: Path, url: DatabaseUrl, tmp_path: Path, move: Command
) -> None:
    made = DataDirectory.create(tmp_path / "other", authority="other", now=NOW, passphrase=None)
    with made.store as store, store.transaction() as tx:
        tx.append_decision(NOW, b"", entry("another"))
    killed(made.path, url, "upkeep.moving", "_retire", "after")
    assert code(move()) == (1, "move-target")
    assert in_force(data / STORE_FILE)
    where = ["--data", str(made.path), "--database", url.text]
    assert run(["authority", "database", "move", *where]) == 0
