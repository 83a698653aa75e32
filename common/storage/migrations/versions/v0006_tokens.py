"""A clear finds the last pushes to its token by an index; only tokens' rows stand in it."""

from alembic import op
from sqlalchemy import text

revision = "0006"
down_revision = "0005"

_STATEMENTS = (
    "CREATE INDEX IF NOT EXISTS events_by_token ON events (app, row_user, row_routed_ms)"
    " WHERE row_user LIKE 'token:%'",
    'CREATE INDEX IF NOT EXISTS ledger_by_token ON ledger (app, "user", routed_ms)'
    " WHERE \"user\" LIKE 'token:%'",
)


def upgrade() -> None:
    """A database that version 0001 made of the tables of now has them."""
    for statement in _STATEMENTS:
        op.execute(text(statement))
