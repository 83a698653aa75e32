"""The engine (SQL): connections to PostgreSQL, direct or pooled, and their deadlines."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any, Final
from weakref import WeakKeyDictionary

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy import exc as sql_errors
from sqlalchemy.engine import ExceptionContext, make_url

from common.storage.postgres import CONNECT_TIMEOUT_S, BoundedConnection, SqlServer, connect
from common.storage.postgres import DEADLINE_S as DEADLINE_S
from common.storage.postgres import DeadlineError as DeadlineError
from common.storage.waits import waiting_s as waiting_s
from common.storage.waits import within as within

log = logging.getLogger(__name__)

#: The database is not there, or not as it should be (no tables yet): waiting helps. Errors about
#: the rows themselves are none of these (but for `ROW_ERRORS` of cursors that are used without
#: SQLAlchemy: catch those first).
DATABASE_UNAVAILABLE = (
    sql_errors.OperationalError,
    sql_errors.InterfaceError,
    sql_errors.InternalError,
    sql_errors.ProgrammingError,
    sql_errors.TimeoutError,
    psycopg.OperationalError,  # of cursors that are used without SQLAlchemy (COPY)
    psycopg.InterfaceError,
    psycopg.InternalError,
)

#: About the rows, though the driver counts them among the server's troubles: a value too long for
#: an index, a statement too complex.
ROW_ERRORS = (psycopg.errors.ProgramLimitExceeded,)

POOL_SIZE = 4
#: No statement of ours may hold a worker for longer; the server ends it.
STATEMENT_TIMEOUT_MS = 30_000
#: The deadline of the check of a pooled connection.
CHECK_S: Final = 2.0
#: Seconds for which the primary replaces an unreachable read replica, before that is tried again.
INSTEAD_S: Final = 30
_IDENTITY: Final = "SELECT system_identifier || '/' || current_database() FROM pg_control_system()"
#: Connection options beside the address.
_CONNECTING: Final = (
    "connect_timeout",
    "options",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
)


@contextlib.contextmanager
def optional(engine: Engine, seconds: float) -> Iterator[None]:
    """As `within`, for optional queries: fails at once within AWAY_S after a missed deadline."""
    if time.monotonic() < _server(engine).away_until:
        raise DeadlineError("the database does not answer")
    with within(seconds):
        yield


def identity_of(engine: Engine) -> str:
    """The database by its server's number and its own name: the same by each address, and behind a
    pooler. "": it does not tell.
    """
    try:
        with engine.connect() as connection:
            return str(connection.exec_driver_sql(_IDENTITY).scalar_one())
    except sql_errors.DBAPIError:  # no PostgreSQL, or the right is taken away
        return ""


def took_too_long(error: BaseException) -> bool:
    """True when the server cancelled the statement at its timeout: a smaller one may pass."""
    return isinstance(getattr(error, "orig", error), psycopg.errors.QueryCanceled)


def met_another(error: BaseException) -> bool:
    """True when the server ended one of two transactions that waited for each other: again it may
    pass.
    """
    return isinstance(getattr(error, "orig", error), psycopg.errors.DeadlockDetected)


def engine(url: str, instead: str | None = None) -> Engine:
    """An engine for `postgresql+psycopg://…`; connections are checked before use, within bounds.

    instead: the server that replaces an unreachable `url`, for INSTEAD_S at a time: the primary of
    a read replica.
    """
    made = create_engine(
        url,
        pool_recycle=-1 if instead is None else INSTEAD_S,
        pool_size=POOL_SIZE,
        max_overflow=4,
        pool_timeout=10,
        # an error's text goes to the log, and they are people's ids and tokens
        hide_parameters=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS}",
            # A server that vanished silently is noticed within half a minute, not after the
            # system's quarter of an hour.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
        },
    )
    server = _server(made)
    event.listen(made, "handle_error", _by_cause, retval=True)
    event.listen(
        made,
        "do_connect",
        lambda _dialect, _record, args, params: _connect_or(server, args, params, instead),
    )
    event.listen(made, "checkout", lambda connection, _record, _proxy: _look(made, connection))
    event.listen(made, "begin", lambda connection: _begin(server, connection))
    return made


def _server(engine: Engine) -> SqlServer:
    found = _SERVERS.get(engine)
    if found is None:
        found = _SERVERS[engine] = SqlServer()
    return found


_SERVERS: WeakKeyDictionary[Engine, SqlServer] = WeakKeyDictionary()


def _connect_or(
    server: SqlServer, args: tuple[Any, ...], params: dict[str, Any], instead: str | None
) -> BoundedConnection:
    if instead is None:
        return connect(server, args, params)
    _, other = create_engine(instead).dialect.create_connect_args(make_url(instead))
    shared: dict[str, Any] = {name: params[name] for name in _CONNECTING if name in params}
    try:
        if time.monotonic() >= server.away_until:
            return connect(server, args, params)
    except psycopg.OperationalError as error:
        server.away_until = time.monotonic() + INSTEAD_S
        log.warning(
            "the database of reports is away: the fleet's own is asked",
            extra={"reason": type(error).__name__},
        )
    return connect(SqlServer(), (), {**other, **shared})


def _look(engine: Engine, pooled: Any) -> None:
    """Before a pooled connection is used: one that does not answer is replaced by a new one."""
    if pooled.is_fresh:
        return
    try:
        with within(CHECK_S):
            engine.dialect.do_ping(pooled)
    except psycopg.Error as error:
        raise sql_errors.DisconnectionError("a pooled connection does not answer") from error


def _begin(server: SqlServer, connection: Connection) -> None:
    """Behind a pooler nothing of a session lasts: each transaction brings its own timeout."""
    if server.pooled:
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}")


def _by_cause(context: ExceptionContext) -> BaseException | None:
    """A row that can never be stored becomes a DataError, or its writer would retry forever.

    None: the error stays as it is.
    """
    error = context.original_exception
    return (
        sql_errors.DataError(context.statement, context.parameters, error)
        if isinstance(error, ROW_ERRORS)
        else None
    )
