"""Alembic's home: versions of the tables, run by `pushfleet migrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from common.storage.waits import within

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Engine

#: Any number will do, as long as all who migrate take the same advisory lock.
_LOCK: Final = 0x70757368
#: An index over a large ledger takes minutes.
MIGRATE_S: Final = 3_600.0
#: Times that all is tried: a process of the version before may hold rows that a migration changes,
#: and wait for a table that it has locked; then PostgreSQL ends one of the two.
TRIES: Final = 5
#: The version of the tables that this program works with: the last file of versions/.
NEWEST: Final = "0007"


class SchemaError(Exception):
    """The tables are not of this program's version; the message names the remedy."""


def migrate(engine: Engine) -> None:
    """Brings the tables to the newest version. Safe from several processes at once.

    SchemaError: they are of a version that this program does not know.
    """
    with within(MIGRATE_S):
        # A version is committed with its tables: the newest needs neither lock nor Alembic.
        if version_of(engine) != NEWEST:
            _upgrade_among_others(engine)


def _upgrade_among_others(engine: Engine) -> None:
    """All of it again where a running process and a migration have waited for each other."""
    from common.storage import sql  # noqa: PLC0415 - no worker that finds its version needs it

    for left in reversed(range(TRIES)):
        try:
            _upgrade(engine)
            break
        except sql.DATABASE_UNAVAILABLE as error:
            if not left or not sql.met_another(error):
                raise


def _upgrade(engine: Engine) -> None:
    from alembic import command  # noqa: PLC0415 - it takes 150 ms to load, and no worker needs it

    config = _config()
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {int(MIGRATE_S * 1000)}")
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": _LOCK})
        _refuse_newer(version_of(engine))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def check(engine: Engine) -> None:
    """Raises SchemaError for missing, older or newer tables.

    Raises sql.DATABASE_UNAVAILABLE without an answer.
    """
    found = version_of(engine)
    if found is None:
        raise SchemaError("the database has no tables of ours yet: pushfleet migrate")
    _refuse_newer(found)
    if found != NEWEST:
        raise SchemaError(
            f"the database's tables are of version {found}, this program works with "
            f"{NEWEST}: pushfleet migrate"
        )


def version_of(engine: Engine) -> str | None:
    """The version of the tables in the database; None: there are none of ours."""
    with engine.connect() as connection:
        if connection.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar() is None:
            return None
        found = (
            connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all()
        )
    return max(found) if found else None


def _refuse_newer(found: str | None) -> None:
    if found is not None and found not in known():
        raise SchemaError(
            f"the database's tables are of version {found}, and this program knows versions "
            f"up to {NEWEST} only:"
            " run a pushfleet as new as the one that made them"
        )


def known() -> set[str]:
    """Every version that this program can bring to the newest."""
    names = (Path(__file__).parent / "versions").glob("v[0-9]*.py")
    return {name.stem[1:5] for name in names}


def _config() -> Config:
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config
