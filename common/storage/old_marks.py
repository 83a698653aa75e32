"""Converts recall marks of releases before 0.2 (Redis, `gone:<app>:<message>`) to the current form.

They lack the conversation, which the ledger knows. An old mark stays: workers of its own release
still read it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, cast

from redis import Redis
from sqlalchemy import Engine, text

from common.clock import now_ms
from common.storage.keys import CALL, Keys
from common.storage.marks import EventMarks

#: Looks through all keys after the start of the process, s: an intake of the old release may go on
#: for a while beside us.
LOOKS_S: Final = (0.0, 60.0, 300.0)
#: Keys of one SCAN, and steps of one call, which blocks all others.
SCAN_COUNT: Final = 500
STEPS_MAX: Final = 20

_CONVERSATIONS = text(
    "SELECT DISTINCT e.app, e.message_id, e.conversation, e.type FROM events e"
    " JOIN unnest(CAST(:apps AS text[]), CAST(:ids AS text[])) AS m (app, message_id) USING "
    "(app, message_id)"
    " WHERE e.type IN ('message.stored', 'call.invited')"
)


class OldMarks:
    def __init__(self, redis: Redis, keys: Keys, engine: Engine, marks: EventMarks) -> None:
        self._redis = redis
        self._keys = keys
        self._engine = engine
        self._marks = marks
        self._began = time.monotonic()
        self._looks = list(LOOKS_S)
        self._cursor: int | None = None

    @property
    def busy(self) -> bool:
        """In the middle of a look."""
        return self._cursor is not None

    def take_over(self) -> int:
        """Some steps of a look, when one is due; how many marks were made.

        sql.DATABASE_UNAVAILABLE: the same steps come again.
        """
        if self._cursor is None:
            if not self._looks or time.monotonic() - self._began < self._looks[0]:
                return 0
            self._looks.pop(0)
            self._cursor = 0
        made = 0
        for _ in range(STEPS_MAX):
            reply: Any = self._redis.scan(
                self._cursor, match=f"{self._keys.revoked_marks}*", count=SCAN_COUNT
            )
            cursor, names = reply
            made += self._convert([name for name in names if b"\0" not in name])
            self._cursor = int(cursor) or None
            if self._cursor is None:
                break
        return made

    def _convert(self, names: Sequence[bytes]) -> int:
        if not names:
            return 0
        start = len(self._keys.revoked_marks)
        ids = [
            cast("tuple[str, str]", tuple(name.decode()[start:].split(":", 1)))
            for name in names
            if b":" in name[start:]
        ]
        reasons: Any = self._redis.mget(
            [f"{self._keys.revoked_marks}{app}:{message}" for app, message in ids]
        )
        why = {one: reason for one, reason in zip(ids, reasons, strict=True) if reason is not None}
        values = {"apps": [app for app, _ in why], "ids": [message for _, message in why]}
        with self._engine.connect() as connection:
            rows = connection.execute(_CONVERSATIONS, values).all()
        return sum(
            self._mark(row.app, row.message_id, row.conversation, row.type, why) for row in rows
        )

    def _mark(
        self,
        app: str,
        message_id: str,
        conversation: str,
        kind: str,
        why: dict[tuple[str, str], bytes],
    ) -> int:
        """Marks the end of a call as of now: a later invitation into it rings."""
        where = CALL if kind == "call.invited" else conversation
        if self._redis.exists(self._keys.revoked(app, where, message_id)):
            return 0
        if why[app, message_id] == b"recalled":
            self._marks.recall(app, where, message_id)
        else:
            self._marks.end_call(app, message_id, now_ms())
        return 1
