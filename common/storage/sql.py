"""The engine (SQL): connections to PostgreSQL, direct or pooled, and their deadlines."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy import exc as sql_errors
from sqlalchemy.engine import ExceptionContext, make_url

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
CONNECT_TIMEOUT_S = 5
#: No statement of ours may hold a worker for longer; the server ends it.
STATEMENT_TIMEOUT_MS = 30_000
#: A frozen server closes nothing: after this wait for its answer the client drops the connection.
DEADLINE_S: Final = 35.0
#: The deadline of the check of a pooled connection.
CHECK_S: Final = 2.0
#: A connection that answered within this time is used without a look.
FRESH_S: Final = 1.0
#: After a missed deadline, optional queries (`optional`) are skipped for this long.
AWAY_S: Final = 10.0
#: Seconds for which the primary replaces an unreachable read replica, before that is tried again.
INSTEAD_S: Final = 30
#: Connection options beside the address.
_CONNECTING: Final = (
    "connect_timeout",
    "options",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
)
#: PgBouncer's error about a startup parameter that it does not pass on.
_REFUSED_PARAMETER: Final = "unsupported startup parameter"

_T = TypeVar("_T")
_until: ContextVar[float | None] = ContextVar("sql_until", default=None)


class DeadlineError(psycopg.OperationalError):
    """The server did not answer within our own deadline; the connection is closed."""


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Every SQL call of this thread inside the block ends by then, connecting included.

    A block inside another only ends sooner. Raises DeadlineError (inside SQLAlchemy:
    OperationalError around it) without an answer by then.
    """
    outer, until = _until.get(), time.monotonic() + seconds
    token = _until.set(until if outer is None else min(outer, until))
    try:
        yield
    finally:
        _until.reset(token)


@contextlib.contextmanager
def optional(engine: Engine, seconds: float) -> Iterator[None]:
    """As `within`, for optional queries: fails at once within AWAY_S after a missed deadline."""
    if time.monotonic() < _server(engine).away_until:
        raise DeadlineError("the database does not answer")
    with within(seconds):
        yield


#: Threads that wait for an answer, and since when (monotonic).
_WAITING: dict[int, float] = {}


def waiting_s(thread: int) -> float:
    """Seconds that this thread has waited for the database; 0 while it does not wait."""
    began = _WAITING.get(thread)
    return time.monotonic() - began if began is not None else 0.0


@contextlib.contextmanager
def _marked(began: float) -> Iterator[None]:
    thread = threading.get_ident()
    outer = _WAITING.setdefault(thread, began)
    try:
        yield
    finally:
        if outer == began:
            _WAITING.pop(thread, None)


def took_too_long(error: BaseException) -> bool:
    """True when the server cancelled the statement at its timeout: a smaller one may pass."""
    return isinstance(getattr(error, "orig", error), psycopg.errors.QueryCanceled)


class _Server:
    """One engine's data on its server. pooled: a transaction pooler is before it."""

    def __init__(self) -> None:
        self.pooled = False
        self.away_until = 0.0


class BoundedConnection(psycopg.Connection[Any]):
    """A connection whose every wait has a deadline. A frozen server holds no thread."""

    server: _Server | None = None
    answered_at = 0.0

    def wait(self, gen: PQGen[_T], interval: float = 0.1, timeout: float | None = None) -> _T:
        began = time.monotonic()
        with _marked(began):
            return self._waited(gen, interval, timeout, began)

    def _waited(self, gen: PQGen[_T], interval: float, timeout: float | None, began: float) -> _T:
        until = _until.get()
        left = DEADLINE_S if until is None else max(until - began, 0.0)
        if timeout is not None:
            left = min(left, timeout)
        try:
            found = super().wait(gen, interval, left)
        except psycopg.OperationalError as error:
            if time.monotonic() - began < left:
                raise
            self.close()  # what the server sends later is nobody's
            if self.server is not None:
                self.server.away_until = time.monotonic() + AWAY_S
            raise DeadlineError(f"the database did not answer within {left:.0f} s") from error
        self.answered_at = time.monotonic()
        return found

    @property
    def is_fresh(self) -> bool:
        """True shortly after an answer."""
        return not self.closed and time.monotonic() - self.answered_at < FRESH_S


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


def _server(engine: Engine) -> _Server:
    found = _SERVERS.get(engine)
    if found is None:
        found = _SERVERS[engine] = _Server()
    return found


_SERVERS: WeakKeyDictionary[Engine, _Server] = WeakKeyDictionary()


def _connect_or(
    server: _Server, args: tuple[Any, ...], params: dict[str, Any], instead: str | None
) -> BoundedConnection:
    if instead is None:
        return _connect(server, args, params)
    _, other = create_engine(instead).dialect.create_connect_args(make_url(instead))
    shared: dict[str, Any] = {name: params[name] for name in _CONNECTING if name in params}
    try:
        if time.monotonic() >= server.away_until:
            return _connect(server, args, params)
    except psycopg.OperationalError as error:
        server.away_until = time.monotonic() + INSTEAD_S
        log.warning(
            "the database of reports is away: the fleet's own is asked",
            extra={"reason": type(error).__name__},
        )
    return _connect(_Server(), (), {**other, **shared})


def _connect(server: _Server, args: tuple[Any, ...], params: dict[str, Any]) -> BoundedConnection:
    """A new connection. A pooler is detected by a query, as its settings cannot be read."""
    until = _until.get()
    if until is not None:
        params["connect_timeout"] = max(min(CONNECT_TIMEOUT_S, int(until - time.monotonic())), 1)
    if server.pooled:
        params.pop("options", None)
    try:
        with _marked(time.monotonic()):
            made = BoundedConnection.connect(*args, **params)
    except psycopg.errors.ConnectionTimeout:
        server.away_until = time.monotonic() + AWAY_S
        raise
    except psycopg.OperationalError as error:
        if _REFUSED_PARAMETER not in str(error) or "options" not in params:
            raise
        server.pooled = True
        made = BoundedConnection.connect(
            *args, **{name: value for name, value in params.items() if name != "options"}
        )
    made.server = server
    server.pooled = server.pooled or _is_pooled(made)
    if server.pooled:
        made.prepare_threshold = None  # statements that one client prepared would be met by another
    return made


def _is_pooled(made: BoundedConnection) -> bool:
    """True when the process that answers is not the one of the greeting."""
    autocommit, made.autocommit = made.autocommit, True
    try:
        row = made.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
    finally:
        if not made.closed:
            made.autocommit = autocommit
    return row is None or row[0] != made.info.backend_pid


def _look(engine: Engine, pooled: Any) -> None:
    """Before a pooled connection is used: one that does not answer is replaced by a new one."""
    if pooled.is_fresh:
        return
    try:
        with within(CHECK_S):
            engine.dialect.do_ping(pooled)
    except psycopg.Error as error:
        raise sql_errors.DisconnectionError("a pooled connection does not answer") from error


def _begin(server: _Server, connection: Connection) -> None:
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
