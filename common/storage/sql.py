"""The engine: how every process reaches PostgreSQL."""

from __future__ import annotations

from sqlalchemy import Engine, create_engine

POOL_SIZE = 4
CONNECT_TIMEOUT_S = 5
#: No statement of ours may hold a worker for longer.
STATEMENT_TIMEOUT_MS = 30_000


def engine(url: str) -> Engine:
    """An engine for `postgresql+psycopg://…`; connections are checked before use and given back within bounds."""
    return create_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=4,
        pool_pre_ping=True,
        pool_timeout=10,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS}",
            "keepalives_idle": 30,
        },
    )
