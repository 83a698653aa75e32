"""Deletion by age or size (SQL): data of people who left, and dead letters.

One page per statement.
"""

from __future__ import annotations

import logging
from typing import Final

from sqlalchemy import Engine, text

log = logging.getLogger(__name__)

_DAY_MS: Final = 86_400_000
#: Days that a device is kept after it was left, moved or retired; also the history of its token's
#: owners, and of a logout.
LEFT_DAYS: Final = 30
#: Days that dead letters are kept, and their bytes at most; the oldest are deleted first.
LETTERS_DAYS: Final = 30
LETTERS_BYTES_MAX: Final = 1 << 30
#: Days that lines of the audit log are kept.
AUDIT_DAYS: Final = 365
#: Rows of one statement, and statements of one call.
PAGE: Final = 5_000
PAGES_MAX: Final = 20

#: Nothing of an active device is deleted, whatever its age.
_FORGET: Final = {
    "devices": text(
        "DELETE FROM devices WHERE ctid = ANY(ARRAY(SELECT ctid FROM devices WHERE state <> "
        "'active' AND state_ms < :left"
        " AND registered_ms < :left LIMIT :page))"
    ),
    "token_owners": text(
        "DELETE FROM token_owners WHERE ctid = ANY(ARRAY(SELECT o.ctid FROM token_owners o "
        "WHERE o.at_ms < :left AND NOT EXISTS ("
        'SELECT FROM devices d WHERE d.app = o.app AND d."user" = o."user" AND d.device_id = '
        "o.device_id"
        " AND o.token IN (d.token, d.voip_token)) LIMIT :page))"
    ),
    "logouts": text(
        "DELETE FROM logouts WHERE ctid = ANY(ARRAY(SELECT l.ctid FROM logouts l WHERE "
        "l.at_ms < :left AND NOT EXISTS ("
        'SELECT FROM devices d WHERE d.app = l.app AND d."user" = l."user"'
        " AND l.scope IN ('device:' || d.device_id, 'device:' || d.push_id, 'platform:' || "
        "d.platform)) LIMIT :page))"
    ),
    "dead_letters": text(
        "DELETE FROM dead_letters WHERE id = ANY(ARRAY(SELECT id FROM dead_letters WHERE "
        "at_ms < :letters ORDER BY at_ms LIMIT :page))"
    ),
    "audit": text(
        "DELETE FROM audit WHERE id = ANY(ARRAY(SELECT id FROM audit WHERE at_ms < :audit "
        "ORDER BY at_ms LIMIT :page))"
    ),
    "api_tokens": text(
        "DELETE FROM api_tokens WHERE id = ANY(ARRAY(SELECT id FROM api_tokens WHERE "
        "expires_ms < :left LIMIT :page))"
    ),
    "dead_letters over their bytes": text(
        "DELETE FROM dead_letters WHERE id = ANY(ARRAY(SELECT id FROM ("
        "SELECT id, at_ms, sum(pg_column_size(raw)) OVER (ORDER BY at_ms DESC, id) AS bytes "
        "FROM dead_letters) AS sized"
        " WHERE bytes > :bytes ORDER BY at_ms LIMIT :page))"
    ),
}


def forget(engine: Engine, now_ms: int) -> dict[str, int]:
    """Deletes old and excess rows, at most PAGES_MAX pages per kind; returns the counts by kind."""
    values = {
        "left": now_ms - LEFT_DAYS * _DAY_MS,
        "letters": now_ms - LETTERS_DAYS * _DAY_MS,
        "audit": now_ms - AUDIT_DAYS * _DAY_MS,
        "bytes": LETTERS_BYTES_MAX,
        "page": PAGE,
    }
    deleted: dict[str, int] = {}
    for kind, statement in _FORGET.items():
        for _ in range(PAGES_MAX):
            with engine.begin() as connection:
                count = connection.execute(
                    statement, {name: values[name] for name in statement.compile().params}
                ).rowcount
            deleted[kind] = deleted.get(kind, 0) + count
            if count < PAGE:
                break
    return {kind: count for kind, count in deleted.items() if count}
