"""What operators ask: keys of the HTTP API, the audit log, counts by minute and hour."""

from alembic import op
from sqlalchemy import text

from common.storage.tables import api_tokens, audit, tallies

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for table in (api_tokens, audit, tallies):
        table.create(op.get_bind(), checkfirst=True)
    op.execute(text("CREATE INDEX IF NOT EXISTS notes_by_time ON notes USING brin (at_ms)"))
    op.execute(
        text(
            "CREATE INDEX IF NOT EXISTS notes_steps ON notes (day, app, event_id) WHERE kind "
            "= 'step'"
        )
    )
