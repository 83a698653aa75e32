"""Alembic's home: versions of the tables, run by `pushfleet migrate`."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

#: Any number will do, as long as all who migrate take the same advisory lock.
_LOCK = 0x70757368


def migrate(engine: Engine) -> None:
    """Brings the tables to the newest version. Safe from several processes at once."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
