"""The errors of a store that does not answer. The work is not to blame, so it is kept.

Functions give them, for `except …():`. A process that has not loaded SQLAlchemy meets none
of its errors, and does not load it to name them.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from redis.exceptions import RedisError

#: For annotations.
Errors = tuple[type[Exception], ...]


def database_unavailable() -> Errors:
    """sql.DATABASE_UNAVAILABLE: waiting helps."""
    return getattr(sys.modules.get("common.storage.sql"), "DATABASE_UNAVAILABLE", ())


def store_unavailable(*beside: type[Exception]) -> Errors:
    """Redis or PostgreSQL unavailable: waiting helps. beside: further errors to be caught."""
    return (RedisError, OSError, *database_unavailable(), *beside)


@contextlib.contextmanager
def if_store_answers() -> Iterator[None]:
    """Ends the block quietly where a store is unavailable."""
    try:
        yield
    except store_unavailable():
        return


def store_errors(*beside: type[Exception]) -> Errors:
    """Redis unavailable, or whatever a statement of SQL may raise. beside: as above."""
    error = getattr(sys.modules.get("sqlalchemy.exc"), "SQLAlchemyError", RedisError)
    return (RedisError, OSError, error, *beside)
