"""An event's only row stands in the event's own; a view has all rows."""

from alembic import op
from sqlalchemy import text

from common.storage.ledger_own import VIEW
from common.storage.tables import events

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Rows that are there stay where they are."""
    for column in events.columns:
        if column.name.startswith("row_"):
            op.execute(
                text(
                    f"ALTER TABLE events ADD COLUMN IF NOT EXISTS {column.name} "
                    f"{column.type.compile(op.get_bind().dialect)}"
                )
            )
    op.execute(
        text("CREATE INDEX IF NOT EXISTS events_by_row_time ON events USING brin (row_decided_ms)")
    )
    op.execute(text(VIEW))
