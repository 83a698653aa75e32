"""The audit log (SQL) of console and command line; deleted after a year (ageing.py)."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from sqlalchemy import Engine, insert, select

from common.clock import now_ms
from common.storage.tables import audit

SHOWN_MAX: Final = 200
_WORDS_MAX: Final = 512


class Audit:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def note(
        self, who: str, action: str, app: str = "", subject: str = "", result: str = ""
    ) -> None:
        """Appends one line. subject: an account, a device id, a dead letter's id; never a user id,
        token or text.
        """
        values = {
            "who": who[:64],
            "action": action[:32],
            "app": app[:64],
            "subject": _plain(subject),
            "result": _plain(result),
        }
        with self._engine.begin() as connection:
            connection.execute(insert(audit).values(at_ms=now_ms(), **values))

    def listed(self, before: int | None = None, most: int = SHOWN_MAX) -> list[dict[str, Any]]:
        """The newest first; before: ids lower than this."""
        statement = select(audit).order_by(audit.c.id.desc()).limit(most)
        if before is not None:
            statement = statement.where(audit.c.id < before)
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]


def person_mark(app: str, user: str) -> str:
    """The mark of a person in the log: findable by id, but not reversible to the id."""
    return "person " + hashlib.sha256(f"{app}\0{user}".encode("utf-8", "replace")).hexdigest()[:12]


def _plain(words: str) -> str:
    """PostgreSQL takes no U+0000."""
    return words.replace("\0", "")[:_WORDS_MAX]
