"""The store on a PostgreSQL server, which any number of replicas share.

What this module sees to, on every connection:

- A commit that returned is durable, on the standby too where one is synchronous. One whose outcome is not known, or
  that a standby may lack, is an error: nothing leaves after it.
- Writers take turns by an advisory lock that ends with the transaction. It is taken before the first statement that
  reads, so that each sees everything that was committed before (docs/adr/0024-one-writer-at-a-time-on-postgresql.md).
- Nothing waits for ever: not for a connection, a lock, a statement, nor for a server that has stopped answering.
"""

from __future__ import annotations

import os
import select
from typing import Any, Final

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import InvalidatePoolError

from watchword.authority.store.engine import BUSY_SECONDS, Backend, Prepare, translated
from watchword.authority.store.url import DatabaseUrl
from watchword.errors import UsageError

try:
    import psycopg
    from psycopg import conninfo
except ImportError as missing:  # neither the package, nor the library that it needs
    raise UsageError(
        "extra-missing",
        f"a store on PostgreSQL needs the package psycopg: {missing}",
        hint="install the Debian package watchword-authority, or: pip install 'watchword[authority,postgresql]'",
    ) from None

__all__ = ["check_unused", "open_server"]

CONNECT_SECONDS: Final = 5  # for each host of the URL
STATEMENT_SECONDS: Final = 15
ANSWER_SECONDS: Final = 20.0  # then the server is not going to answer any more
_CONNECTIONS: Final = (8, 8)  # kept, and as many more in a rush: a replica has eight workers
_OLDEST: Final = 140000
_LOCK: Final = 0x57575431  # "WWT1": the advisory lock of whoever writes

_DEFAULTS: Final = {
    "connect_timeout": str(CONNECT_SECONDS),
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "application_name": "watchword authority",
    "client_encoding": "UTF8",
}
# ``remote_apply`` promises more than ``on`` and may stay; everything else promises less.
_SESSION: Final = f"""
SELECT set_config('synchronous_commit', 'on', false)
 WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');
SET statement_timeout = '{STATEMENT_SECONDS}s';
SET lock_timeout = '{BUSY_SECONDS}s';
SET idle_in_transaction_session_timeout = '{STATEMENT_SECONDS}s';
"""
_WRITE: Final = f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT pg_advisory_xact_lock({_LOCK})"
_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_OTHERS: Final = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = :name"
)
# The server is not, or no longer, the one that is written to: a standby, or one that is going down.
_WRONG_SERVER: Final = ("25006", "0A000", "57P01", "57P02", "57P03")


def open_server(url: DatabaseUrl, prepare: Prepare, *, patient: bool = False) -> Backend:
    """The store at ``url``, whose tables are made when there are none. See :func:`open_backend`."""
    options = _options(url)
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: _connect(options, patient=patient),
        pool_size=_CONNECTIONS[0],
        max_overflow=_CONNECTIONS[1],
        pool_timeout=BUSY_SECONDS,
        pool_use_lifo=True,
        use_native_hstore=False,
    )
    event.listen(engine, "checkout", _check_alive)
    event.listen(engine, "handle_error", _on_error)
    try:
        with translated(), engine.begin() as connection:
            _begin_writing(connection)
            _check_server(connection)
            prepare(connection, _name(connection))
    except BaseException:
        engine.dispose()
        raise
    return Backend(engine, _begin_reading, _begin_writing)


class _Connection(psycopg.Connection[Any]):
    """One on which every answer comes in time, and on which a commit is a commit."""

    _warning = ""
    patient = False

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """As psycopg's, for at most 20 seconds. Raises :class:`psycopg.OperationalError`."""
        if timeout is None and not self.patient:
            timeout = ANSWER_SECONDS
        try:
            return super().wait(gen, interval, timeout)
        except psycopg.errors._WaitTimeout:
            self.pgconn.finish()  # it may still answer, but nobody would know to what
            raise psycopg.OperationalError(f"the server did not answer within {ANSWER_SECONDS:g} seconds") from None

    def commit(self) -> None:
        """Raises :class:`psycopg.OperationalError` also for a commit that may not outlive this server.

        A wait for a synchronous standby that somebody cancels ends with a warning, and with success.
        """
        self._warning = ""
        super().commit()
        if self._warning:
            self.pgconn.finish()
            raise psycopg.OperationalError(f"it is not sure that the commit will last: {self._warning}")

    def note(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        """Remember a warning of the server."""
        if diagnostic.severity_nonlocalized == "WARNING":
            self._warning = diagnostic.message_primary or "a warning"


def _options(url: DatabaseUrl) -> dict[str, Any]:
    try:
        given = conninfo.conninfo_to_dict(url.text)
    except psycopg.ProgrammingError as error:
        raise UsageError("database-url", f"that is not the URL of a database: {str(error).strip()}") from None
    options = _DEFAULTS | {name: value for name, value in given.items() if value is not None}
    if "sslmode" not in options and "service" not in options and "PGSSLMODE" not in os.environ and _is_remote(url):
        options["sslmode"] = "verify-full"  # libpq's own default talks to anybody, in clear if they like
    return options


def _is_remote(url: DatabaseUrl) -> bool:
    given = conninfo.conninfo_to_dict(url.text)
    hosts = f"{given.get('host') or ''},{given.get('hostaddr') or ''}".split(",")
    return any(host and not host.startswith(("/", "@")) and host not in _LOCAL for host in hosts)


_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


def _connect(options: dict[str, Any], *, patient: bool) -> _Connection:
    # ``autocommit``: the driver begins no transaction by itself; ``_begin_…`` says when and how.
    connection = _Connection.connect(autocommit=True, **options)
    try:
        connection.add_notice_handler(connection.note)
        connection.execute(_SESSION)
        if patient:
            connection.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
            connection.patient = True
    except BaseException:
        connection.close()
        raise
    return connection


def _check_alive(connection: _Connection, _record: object, _proxy: object) -> None:
    """An idle connection on which something has arrived is one that the server has ended, or is about to.

    The pool then tries new ones. It costs no round trip, and after a restart no request fails for it.
    """
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    if connection.closed or poll.poll(0):
        raise InvalidatePoolError


def _on_error(context: ExceptionContext) -> None:
    if getattr(context.original_exception, "sqlstate", None) in _WRONG_SERVER:
        context.is_disconnect = True  # and with it all others of the pool, which lead to the same server


def _check_server(connection: Connection) -> None:
    """Raises :class:`UsageError` for a server on which a commit means little, or text is not Unicode."""
    settings = {
        name: connection.exec_driver_sql(f"SHOW {name}").scalar_one()
        for name in ("server_version_num", "fsync", "full_page_writes", "server_encoding")
    }
    if int(settings["server_version_num"]) < _OLDEST:
        raise UsageError("store-format", "this server is too old: PostgreSQL 14 or later is needed")
    if settings["server_encoding"] != "UTF8":
        raise UsageError("store-format", f"the database has the encoding {settings['server_encoding']}, not UTF8")
    for name in ("fsync", "full_page_writes"):
        if settings[name] != "on":
            raise UsageError(
                "store-not-durable",
                f"the server forgets what it promised to keep when the power goes: {name} is {settings[name]}",
                hint=f"set {name} = on in postgresql.conf",
            )


def check_unused(connection: Connection) -> None:
    """Raise :class:`UsageError` (``store-in-use``) when a service or a command has the database open as well.

    It sees those that connect as the same user and under the name that they give themselves.
    """
    connection.exec_driver_sql("SET LOCAL application_name = 'watchword authority database move'")
    if connection.execute(_OTHERS, {"name": _DEFAULTS["application_name"]}).scalar_one():
        raise UsageError(
            "store-in-use",
            f"another program of Watchword has the database {_name(connection)} open",
            hint="stop every service on it: nobody may write there meanwhile",
        )


def _name(connection: Connection) -> str:
    return str(connection.exec_driver_sql("SELECT current_database()").scalar_one())


def _begin_reading(connection: Connection) -> None:
    connection.exec_driver_sql(_READ)


def _begin_writing(connection: Connection) -> None:
    connection.exec_driver_sql(_WRITE)
