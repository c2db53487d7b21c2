"""What can happen to a server: it crashes, hangs, fills a lock, or says that a commit is not what it was asked for."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from watchword.authority.store import DatabaseUrl, Store, postgresql
from watchword.errors import Unavailable, UsageError
from watchword.testing.postgresql import Cluster, binaries

from .helpers import NOW, entry

TOKEN = b"t" * 32
LOCK = "SELECT pg_advisory_lock(1465340977)"


@pytest.fixture
def url(cluster: Cluster) -> DatabaseUrl:
    return cluster.new_database()


@pytest.fixture
def store(url: DatabaseUrl) -> Iterator[Store]:
    with Store.open(url) as opened:
        yield opened


@pytest.fixture
def own() -> Iterator[Cluster]:
    """A server that a test may break."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql): what needs a server is left out")
    with Cluster.running(programs) as running:
        yield running


def append(store: Store) -> int:
    """One release with its decision, as the service does it; its number."""
    with store.transaction() as tx:
        number = tx.count_release(TOKEN)
        tx.append_decision(NOW, b"", entry(f"release {number}"))
    return number


def setting(store: Store, name: str) -> str:
    with store._reading() as connection:
        return str(connection.exec_driver_sql(f"SHOW {name}").scalar_one())


# -- what is asked of the server -----------------------------------------------------------------------------------


def test_nothing_waits_for_ever_and_commits_are_durable(store: Store) -> None:
    names = ("synchronous_commit", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    assert [setting(store, name) for name in names] == ["on", "15s", "10s", "15s"]


@pytest.mark.parametrize(("asked", "given"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")])
def test_a_commit_promises_enough_whatever_the_database_says(cluster: Cluster, asked: str, given: str) -> None:
    url = cluster.new_database()
    name = url.text.partition("///")[2].partition("?")[0]
    cluster.execute(f"ALTER DATABASE {name} SET synchronous_commit = {asked}")
    with Store.open(url) as store:
        assert setting(store, "synchronous_commit") == given


@pytest.mark.parametrize("name", ["fsync", "full_page_writes"])
def test_a_server_that_forgets_is_refused(own: Cluster, name: str) -> None:
    own.configure(f"{name} = off\n")
    own.reload()
    own.wait_for(f"SELECT 1 FROM pg_settings WHERE name = '{name}' AND setting = 'off'")
    with pytest.raises(UsageError, match=name) as caught:
        Store.open(own.new_database())
    assert caught.value.code == "store-not-durable"


def test_a_database_of_another_encoding_is_refused(cluster: Cluster) -> None:
    cluster.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(UsageError, match="LATIN1"):
        Store.open(cluster.url("latin"))


def test_a_database_of_others_is_left_alone(cluster: Cluster, url: DatabaseUrl) -> None:
    name = url.text.partition("///")[2].partition("?")[0]
    cluster.execute("CREATE TABLE theirs (x integer)", database=name)
    with pytest.raises(UsageError, match="not a watchword store"):
        Store.open(url)
    assert cluster.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", database=name) == [
        ("theirs",)
    ]


def test_programs_that_start_together_make_one_store(url: DatabaseUrl) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: Store.open(url), range(4)))
    for store in stores:
        append(store)
        store.close()
    with Store.open(url) as store:
        assert store.verify_decisions().seq == 4


# -- where it is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("postgresql://db.example/x", "verify-full"),
        ("postgresql://10.0.0.1,10.0.0.2/x", "verify-full"),
        ("postgresql:///x?hostaddr=10.0.0.1", "verify-full"),
        ("postgresql://db.example/x?sslmode=require", "require"),
        ("postgresql:///x", None),
        ("postgresql:///x?host=/run/postgresql", None),
        ("postgresql://localhost/x", None),
        ("postgresql:///?service=watchword", None),
    ],
)
def test_another_machine_must_prove_who_it_is(text: str, mode: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGSSLMODE", raising=False)
    assert postgresql._options(DatabaseUrl.parse(text)).get("sslmode") == mode


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:secret@x/y",
        "postgresql://u:@x/y",
        "postgresql:///y?password=secret",
        "postgresql://u@x/y?password=secret&user=z",
        "postgresql://[::1/y",
    ],
)
def test_a_password_is_no_argument(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        DatabaseUrl.parse(text, visible=True)
    assert caught.value.code == "database-password"
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(DatabaseUrl.parse(text))


@pytest.mark.parametrize("text", ["", "x", "sqlite:///x", "postgresql:/x", "postgresql://x\n", "host=x dbname=y"])
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        DatabaseUrl.parse(text)
    assert caught.value.code == "database-url"


# -- one writer at a time ------------------------------------------------------------------------------------------


def test_who_waits_sees_what_the_one_before_committed(url: DatabaseUrl) -> None:
    """The lock comes before the first statement that reads: what a transaction decides on is never old."""
    with Store.open(url) as first, Store.open(url) as second:
        started = threading.Event()

        def wait() -> int:
            started.set()
            with second.transaction() as tx:
                return tx.releases(TOKEN)

        with ThreadPoolExecutor(1) as pool:
            with first.transaction() as tx:
                waiting = pool.submit(wait)
                started.wait(10)
                tx.count_release(TOKEN)
                time.sleep(0.3)
                assert not waiting.done()
            assert waiting.result(20) == 1


def test_a_lock_that_does_not_come_is_an_answer(
    store: Store, url: DatabaseUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        postgresql, "_SESSION", postgresql._SESSION.replace("lock_timeout = '10s'", "lock_timeout = 200")
    )
    with Store.open(url) as hasty, psycopg.connect(url.text, autocommit=True) as other:
        other.execute(LOCK)
        with pytest.raises(Unavailable) as caught:
            append(hasty)
        assert caught.value.code == "store-busy"
        other.execute("SELECT pg_advisory_unlock_all()")
        assert append(hasty) == 1


def _wait_for_nobody(own: Cluster) -> None:
    """Commits wait for a standby that does not exist, once every connection has read the setting."""
    own.configure("synchronous_standby_names = 'nobody'\n")
    own.reload()
    own.wait_for("SELECT 1 FROM pg_settings WHERE name = 'synchronous_standby_names' AND setting = 'nobody'")


# -- a server in trouble -------------------------------------------------------------------------------------------


def test_after_a_restart_no_request_fails(own: Cluster) -> None:
    with Store.open(own.new_database()) as store:
        with ThreadPoolExecutor(4) as pool:  # more than one connection
            assert sorted(pool.map(lambda _: append(store), range(8))) == list(range(1, 9))
            list(pool.map(lambda _: store.head(), range(8)))
            list(pool.map(lambda _: store.host_file(b"h" * 32), range(8)))
        own.crash()
        with pytest.raises(Unavailable) as caught:
            store.host_file(b"h" * 32)
        assert caught.value.code == "store-unavailable"
        with pytest.raises(Unavailable) as caught:
            append(store)
        assert caught.value.code == "store-unavailable"
        with pytest.raises(Unavailable):
            store.head()
        own.start()
        assert store.host_file(b"h" * 32).host is None
        assert append(store) == 9
        assert (store.releases(TOKEN), store.verify_decisions().seq) == (9, 9)


def test_a_server_that_goes_down_in_a_transaction_undoes_it(own: Cluster) -> None:
    with Store.open(own.new_database()) as store:
        with pytest.raises(Unavailable), store.transaction() as tx:  # noqa: PT012 - it is the block that must fail
            tx.count_release(TOKEN)
            own.crash()
            tx.append_decision(NOW, b"", entry())
        own.start()
        assert (store.releases(TOKEN), store.head().seq) == (0, 0)
        assert append(store) == 1


def test_a_server_that_stops_answering_is_given_up(own: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "ANSWER_SECONDS", 1.0)
    with Store.open(own.new_database()) as store:
        append(store)
        backend = own.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'watchword authority'")[0][0]
        os.kill(backend, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(Unavailable, match="did not answer"):
                append(store)
            assert time.monotonic() - began < 5
        finally:
            os.kill(backend, signal.SIGCONT)
        assert append(store) == store.releases(TOKEN) == store.verify_decisions().seq


def test_a_connection_on_which_no_answer_comes_is_given_up_and_another_asked(
    own: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "ANSWER_SECONDS", 1.0)
    with Store.open(own.new_database()) as store:
        assert store.host_file(b"h" * 32).host is None
        backend = own.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'watchword authority'")[0][0]
        os.kill(backend, signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert store.host_file(b"h" * 32).host is None
            assert 0.9 < time.monotonic() - began < 5
        finally:
            os.kill(backend, signal.SIGCONT)


def test_a_commit_that_no_standby_has_is_no_commit(own: Cluster) -> None:
    """Somebody cancels the wait for a synchronous standby: PostgreSQL then reports success, with a warning."""
    with Store.open(own.new_database()) as store:
        append(store)
        _wait_for_nobody(own)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(append, store)
            own.wait_for("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
            own.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
            with pytest.raises(Unavailable, match="not sure that the commit will last"):
                waiting.result(30)
        own.configure("synchronous_standby_names = ''\n")
        own.reload()
        own.wait_for("SELECT 1 FROM pg_settings WHERE name = 'synchronous_standby_names' AND setting = ''")
        assert store.releases(TOKEN) == 2  # counted, and never left
        assert append(store) == 3
        assert store.verify_decisions().seq == 3


def test_a_commit_that_takes_too_long_is_no_commit(own: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "ANSWER_SECONDS", 1.0)
    with Store.open(own.new_database()) as store:
        append(store)
        _wait_for_nobody(own)
        own.wait_for("SELECT 1 FROM pg_settings WHERE name = 'synchronous_standby_names' AND setting = 'nobody'")
        with pytest.raises(Unavailable, match="did not answer"):
            append(store)
        assert store.releases(TOKEN) == 1  # nobody sees it before a standby has it


def test_failover_loses_nothing_that_was_released(own: Cluster, tmp_path: Path) -> None:
    """A synchronous standby takes over: what was counted before is counted, and both addresses stay in the URL."""
    url = own.new_database()
    name = url.text.partition("///")[2].partition("?")[0]
    with own.standby() as standby:
        own.configure("synchronous_standby_names = 'standby'\n")
        own.reload()
        own.wait_for("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
        both = f"postgresql:///{name}?host={own.folder},{standby.folder}&user=postgres&target_session_attrs=read-write"
        with Store.open(DatabaseUrl(both)) as store:
            assert [append(store) for _ in range(5)] == [1, 2, 3, 4, 5]
            own.crash()
            with pytest.raises(Unavailable):
                append(store)
            standby.promote()
            assert append(store) == 6
            assert (store.releases(TOKEN), store.verify_decisions().seq) == (6, 6)
        with pytest.raises(Unavailable):
            Store.open(url)


def test_a_standby_is_not_written_to(own: Cluster) -> None:
    url = own.new_database()
    name = url.text.partition("///")[2].partition("?")[0]
    Store.open(url).close()
    with own.standby() as standby, pytest.raises(Unavailable, match="recovery"):
        Store.open(standby.url(name))
