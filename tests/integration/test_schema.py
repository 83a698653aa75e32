"""A process starts on the tables of its own version only, and says in one sentence what else it
found.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Connection, Engine

from common.storage import sql
from common.storage.migrations import NEWEST, SchemaError, check, known, migrate
from tests.conftest import own_database
from tests.waiting import eventually


@pytest.fixture
def url(database_url: str) -> Iterator[str]:
    with own_database(database_url) as found:
        yield found


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    made = sql.engine(url)
    yield made
    made.dispose()


def say(engine: Engine, version: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = %s", (version,))


def started(arguments: list[str], url: str, redis_url: str, folder: Path) -> tuple[int, str]:
    names = {
        "REDIS_URL": redis_url,
        "DATABASE_URL": url,
        "DATA_DIR": str(folder),
        "SECRET_KEYS": Fernet.generate_key().decode(),
    }
    env = {**os.environ, **{f"PUSHFLEET_{name}": value for name, value in names.items()}}
    argv = [sys.executable, "-m", "workers", *arguments]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


def test_the_newest_version_is_the_last_file(engine: Engine) -> None:
    assert max(known()) == NEWEST
    migrate(engine)
    check(engine)


@pytest.mark.parametrize("stage", ["intake", "delivery", "upkeep"])
def test_on_an_empty_database_no_worker_starts(
    stage: str, url: str, redis_url: str, data_dir: Path
) -> None:
    code, said = started(["worker", stage], url, redis_url, data_dir)
    assert code == 2
    found = said.strip().splitlines()[-1]
    assert found == "the database has no tables of ours yet: pushfleet migrate"


@pytest.mark.parametrize("command", [["worker", "presence"], ["migrate"]])
def test_on_a_newer_database_nothing_starts_and_migrate_does_not_fall_over(
    command: list[str], engine: Engine, url: str, redis_url: str, data_dir: Path
) -> None:
    migrate(engine)
    say(engine, "9999")
    code, said = started(command, url, redis_url, data_dir)
    assert code == 2
    assert "9999" in said.strip().splitlines()[-1]
    assert "Traceback" not in said


def test_on_an_older_database_the_cure_is_migrate(engine: Engine) -> None:
    migrate(engine)
    say(engine, "0001")
    with pytest.raises(SchemaError, match="pushfleet migrate"):
        check(engine)
    migrate(engine)
    check(engine)


def owned(connection: Connection, token: str) -> None:
    """What a process of before 0007 writes of a VoIP token."""
    connection.exec_driver_sql(
        "INSERT INTO token_owners VALUES ('a', 'apns:voip', %(token)s, 'bob', 'phone', 7)"
        " ON CONFLICT (app, vendor, token) DO UPDATE SET at_ms = excluded.at_ms",
        {"token": token},
    )


def is_waiting(engine: Engine) -> bool:
    """Somebody waits for a lock in this database."""
    with engine.connect() as connection:
        return bool(
            connection.exec_driver_sql(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND (database ="
                " (SELECT oid FROM pg_database WHERE datname = current_database())"
                " OR locktype = 'transactionid')"
            ).scalar()
        )


def test_processes_of_the_version_before_register_while_the_owners_of_tokens_move(
    engine: Engine,
) -> None:
    migrate(engine)
    with engine.begin() as connection:
        owned(connection, "a1")
        owned(connection, "b2")
    say(engine, "0006")

    with ThreadPoolExecutor(1) as other:
        with engine.begin() as connection:
            owned(connection, "b2")
            migrated = other.submit(migrate, engine)
            eventually(lambda: is_waiting(engine))
            owned(connection, "a1")
            owned(connection, "c3")
        migrated.result(60)
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT vendor, token, at_ms FROM token_owners")
        assert sorted(map(tuple, found)) == [("apns", one, 7) for one in ("a1", "b2", "c3")]


def test_a_process_that_holds_what_a_migration_changes_and_waits_for_it_does_not_end_it(
    engine: Engine,
) -> None:
    """Somebody leaves and somebody registers in one transaction: PostgreSQL ends one of the two."""
    migrate(engine)
    with engine.begin() as connection:
        owned(connection, "t1")
        connection.exec_driver_sql(
            'INSERT INTO devices (app, "user", device_id, platform, vendor, business_id, token,'
            " registered_ms, state, reason, state_ms) VALUES"
            " ('a', 'ann', 'pad', 'ios', 'apns', 'b', 't1', 5, 'active', '', 5)"
        )
    say(engine, "0006")
    with ThreadPoolExecutor(1) as other:
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE devices SET lang = 'zh' WHERE \"user\" = 'ann'")
            migrated = other.submit(migrate, engine)
            eventually(lambda: is_waiting(engine))
            owned(connection, "t9")
        migrated.result(60)
    check(engine)
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT state, lang FROM devices")
        assert list(map(tuple, found)) == [("moved", "zh")]
