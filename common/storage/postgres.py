"""Bounded connections to PostgreSQL, direct or pooled, without SQLAlchemy."""

from __future__ import annotations

import threading
import time
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen

from common.storage.waits import marked, until, within

CONNECT_TIMEOUT_S = 5
#: A frozen server closes nothing: after this wait for its answer the client drops the connection.
DEADLINE_S: Final = 35.0
#: A connection that answered within this time is used without a look.
FRESH_S: Final = 1.0
#: Longest wait of `Ping`.
PING_S: Final = 2.0
#: After a missed deadline, optional queries (`optional`) are skipped for this long.
AWAY_S: Final = 10.0
#: PgBouncer's error about a startup parameter that it does not pass on.
_REFUSED_PARAMETER: Final = "unsupported startup parameter"

_T = TypeVar("_T")


class DeadlineError(psycopg.OperationalError):
    """The server did not answer within our own deadline; the connection is closed."""


class SqlServer:
    """One engine's data on its server. pooled: a transaction pooler is before it."""

    def __init__(self) -> None:
        self.pooled = False
        self.away_until = 0.0


class BoundedConnection(psycopg.Connection[Any]):
    """A connection whose every wait has a deadline. A frozen server holds no thread."""

    server: SqlServer | None = None
    answered_at = 0.0

    def wait(self, gen: PQGen[_T], interval: float = 0.1, timeout: float | None = None) -> _T:
        began = time.monotonic()
        with marked(began):
            return self._waited(gen, interval, timeout, began)

    def _waited(self, gen: PQGen[_T], interval: float, timeout: float | None, began: float) -> _T:
        end = until()
        left = DEADLINE_S if end is None else max(end - began, 0.0)
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


def connect(server: SqlServer, args: tuple[Any, ...], params: dict[str, Any]) -> BoundedConnection:
    """A new connection. A pooler is detected by a query, as its settings cannot be read."""
    params["client_encoding"] = "utf8"  # of a SQL_ASCII database texts would come as bytes
    end = until()
    if end is not None:
        params["connect_timeout"] = max(min(CONNECT_TIMEOUT_S, int(end - time.monotonic())), 1)
    if server.pooled:
        params.pop("options", None)
    try:
        with marked(time.monotonic()):
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


class Ping:
    """Asks one database whether it answers, on a connection of its own.

    A process that asks SQL nothing else does so without SQLAlchemy: 14 MiB.
    """

    def __init__(self, url: str) -> None:
        self._url = url.replace("postgresql+psycopg://", "postgresql://", 1)
        self._connection: BoundedConnection | None = None
        self._lock = threading.Lock()

    def __call__(self) -> None:
        """psycopg.Error: it does not, or not with our name and password."""
        with within(PING_S), self._lock:
            if self._connection is None or self._connection.closed:
                given = {"connect_timeout": CONNECT_TIMEOUT_S}
                self._connection = connect(SqlServer(), (self._url,), given)
                self._connection.autocommit = True
            self._connection.execute("SELECT 1")

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
