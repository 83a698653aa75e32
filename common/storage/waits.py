"""Waits for PostgreSQL: their bound, and who waits since when. Loads none of its libraries."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar

_until: ContextVar[float | None] = ContextVar("sql_until", default=None)
#: Threads that wait for an answer, and since when (monotonic).
_WAITING: dict[int, float] = {}


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Every SQL call of this thread inside the block ends by then, connecting included.

    A block inside another only ends sooner. Raises sql.DeadlineError (inside SQLAlchemy:
    OperationalError around it) without an answer by then.
    """
    outer, end = _until.get(), time.monotonic() + seconds
    token = _until.set(end if outer is None else min(outer, end))
    try:
        yield
    finally:
        _until.reset(token)


def until() -> float | None:
    """Monotonic time by which this thread's SQL calls end; None: no bound but the usual one."""
    return _until.get()


def waiting_s(thread: int) -> float:
    """Seconds that this thread has waited for the database; 0 while it does not wait."""
    began = _WAITING.get(thread)
    return time.monotonic() - began if began is not None else 0.0


@contextlib.contextmanager
def marked(began: float) -> Iterator[None]:
    """This thread waits since `began` (monotonic); a wait inside another one is the same wait."""
    thread = threading.get_ident()
    outer = _WAITING.setdefault(thread, began)
    try:
        yield
    finally:
        if outer == began:
            _WAITING.pop(thread, None)
