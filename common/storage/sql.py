"""The engine: how every process reaches PostgreSQL."""

from __future__ import annotations

import psycopg
from sqlalchemy import Engine, create_engine, event
from sqlalchemy import exc as sql_errors
from sqlalchemy.engine import ExceptionContext

#: The database is not there, or not as it should be (no tables yet): waiting helps. Errors about the rows themselves are none of these
#: (but for `ROW_ERRORS` of cursors that are used without SQLAlchemy: catch those first).
AWAY = (
    sql_errors.OperationalError,
    sql_errors.InterfaceError,
    sql_errors.InternalError,
    sql_errors.ProgrammingError,
    sql_errors.TimeoutError,
    psycopg.OperationalError,  # of cursors that are used without SQLAlchemy (COPY)
    psycopg.InterfaceError,
    psycopg.InternalError,
)

#: About the rows, though the driver counts them among the server's troubles: a value too long for an index, a statement too complex.
ROW_ERRORS = (psycopg.errors.ProgramLimitExceeded,)

POOL_SIZE = 4
CONNECT_TIMEOUT_S = 5
#: No statement of ours may hold a worker for longer.
STATEMENT_TIMEOUT_MS = 30_000


def engine(url: str) -> Engine:
    """An engine for `postgresql+psycopg://…`; connections are checked before use and given back within bounds."""
    made = create_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=4,
        pool_pre_ping=True,
        pool_timeout=10,
        hide_parameters=True,  # an error's text goes to the log, and they are people's ids and tokens
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS}",
            # a server that vanished without a word is noticed within half a minute, not after the system's quarter of an hour
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
        },
    )
    event.listen(made, "handle_error", _by_cause, retval=True)
    return made


def _by_cause(context: ExceptionContext) -> BaseException | None:
    """Who waits for a row that can never be stored waits for ever: such an error is told as one about data. None: as it is."""
    error = context.original_exception
    return sql_errors.DataError(context.statement, context.parameters, error) if isinstance(error, ROW_ERRORS) else None
