"""The ledger's write path: few indexes on every row; pages of people; the collapse
key as a column.
"""

from alembic import op
from sqlalchemy import text

from common.storage.tables import RECEIPT_LANES, pages

revision = "0003"
down_revision = "0002"

_STATEMENTS = (
    "ALTER TABLE events ADD COLUMN IF NOT EXISTS collapse TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE ledger ADD COLUMN IF NOT EXISTS tag VARCHAR(32) NOT NULL DEFAULT ''",
    # ledgers of the days before: a recall still asks about their messages; a U+0000 is in no key
    # that the contract takes
    "UPDATE events SET collapse = COALESCE(screen::json ->> 'collapse_key', '')"
    " WHERE screen LIKE '%collapse_key%' AND screen NOT LIKE '%u0000%' AND collapse = ''",
    "DROP INDEX IF EXISTS events_by_conversation, events_by_tag, ledger_by_push",
    "CREATE INDEX IF NOT EXISTS events_by_tag ON events (tag) WHERE tag <> ''",
    "CREATE INDEX IF NOT EXISTS events_by_collapse ON events (app, conversation, collapse, "
    "ts_ms) WHERE collapse <> ''",
    "CREATE INDEX IF NOT EXISTS ledger_by_push ON ledger (push_id) WHERE push_id IS NOT "
    f"NULL AND {RECEIPT_LANES}",
    "CREATE INDEX IF NOT EXISTS ledger_by_tag ON ledger (tag) WHERE tag <> ''",
)


def upgrade() -> None:
    """A database that version 0001 made of the tables of now has most of it."""
    pages.create(op.get_bind(), checkfirst=True)
    for statement in _STATEMENTS:
        op.execute(text(statement))
