"""How PostgreSQL is reached: a frozen server holds no thread, and a transaction pooler mixes
nothing up.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import OperationalError

from common.clock import now_ms
from common.model import Vendor
from common.storage import postgres, sql
from common.storage.devices import Devices
from common.storage.ledger import Ledger
from common.storage.migrations import migrate
from tests.builders import present
from tests.conftest import own_database
from tests.frozen import FrozenPostgres
from tests.pooler import kinds, pooler
from tests.records import event_record, row_record


@pytest.fixture
def engine(server: FrozenPostgres) -> Iterator[Engine]:
    made = sql.engine(server.url)
    yield made
    server.go_on()
    made.dispose()


def _seconds(call: object) -> float:
    began = time.monotonic()
    with pytest.raises(sql.DATABASE_UNAVAILABLE):
        call()  # type: ignore[operator]
    return time.monotonic() - began


def test_a_ping_says_whether_the_database_answers_and_takes_us(server: FrozenPostgres) -> None:
    ping = postgres.Ping(server.url)
    ping()
    server.stop()
    began = time.monotonic()
    with pytest.raises(postgres.DeadlineError):
        ping()
    assert time.monotonic() - began < postgres.PING_S + 10
    server.go_on()
    ping()
    ping.close()
    named = make_url(server.url).set(username="nobody").render_as_string(hide_password=False)
    with pytest.raises(psycopg.OperationalError):
        postgres.Ping(named)()


def test_a_process_that_asks_nothing_else_is_ready_without_sqlalchemy(
    server: FrozenPostgres,
) -> None:
    code = (
        "import sys; from common.storage.postgres import Ping; Ping(sys.argv[1])();"
        " print('sqlalchemy' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, server.url], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "False"


def test_a_statement_under_way_ends_by_the_clients_deadline(
    server: FrozenPostgres, engine: Engine
) -> None:
    def ask() -> None:
        with sql.within(1), engine.begin() as connection:
            connection.exec_driver_sql("SELECT 1")
            server.stop()
            connection.exec_driver_sql("SELECT 1")

    with pytest.raises(OperationalError) as met:
        ask()
    assert isinstance(met.value.orig, sql.DeadlineError)


@pytest.mark.parametrize("known", [True, False], ids=["pooled connection", "no connection yet"])
def test_a_frozen_server_holds_nobody_longer_than_asked(
    server: FrozenPostgres, engine: Engine, known: bool
) -> None:
    if known:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
    server.stop()

    def ask() -> None:
        with sql.within(1), engine.begin() as connection:
            connection.exec_driver_sql("SELECT 1")

    assert _seconds(ask) < 20
    server.go_on()
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1


def test_without_a_callers_deadline_the_engines_own_holds(
    server: FrozenPostgres, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "DEADLINE_S", 1.0)

    def ask() -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("SELECT 1")
            server.stop()
            with (
                present(connection.connection.driver_connection).cursor() as cursor,
                cursor.copy("COPY (SELECT 1) TO STDOUT") as copy,
            ):
                list(copy)

    assert _seconds(ask) < 20


def test_dead_tokens_are_left_alone_while_the_server_is_frozen(
    server: FrozenPostgres, engine: Engine
) -> None:
    dead = [("A", "bob", "d", "tok", 1, "dead")]
    migrate(engine)
    assert Devices(engine).retire(dead, "retired") == 0
    server.stop()
    tried = _seconds(lambda: Devices(engine).retire(dead, "retired"))
    assert tried < 20
    found = min(_seconds(lambda: Devices(engine).retire(dead, "retired")) for _ in range(3))
    assert found < tried / 2, "the next one is not tried"


# ---------------------------------------------------------------- poolers


@pytest.fixture(params=kinds())
def pooled(request: pytest.FixtureRequest, database_url: str) -> Iterator[Engine]:
    with own_database(database_url) as url:
        migrate_to = sql.engine(url)
        migrate(migrate_to)
        migrate_to.dispose()
        with pooler(url, request.param) as through:
            made = sql.engine(through)
            yield made
            made.dispose()


def test_statements_of_different_clients_never_meet_behind_a_pooler(pooled: Engine) -> None:
    wrong: list[object] = []
    shapes = (
        ("SELECT CAST(:n AS int) + 1", 1),
        ("SELECT CAST(:n AS int) * 2", 2),
        ("SELECT 'w' || CAST(:n AS int)", 3),
    )

    def ask(turn: int) -> None:
        for number in range(60):
            words, shape = shapes[(turn + number) % 3]
            with pooled.begin() as connection:
                found = connection.execute(text(words), {"n": number}).scalar()
            if found != {1: number + 1, 2: number * 2, 3: f"w{number}"}[shape]:
                wrong.append(found)

    threads = [threading.Thread(target=ask, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_statement_timeout_holds_behind_a_pooler(
    pooled: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pooled.begin() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "30s"
    monkeypatch.setattr(sql, "STATEMENT_TIMEOUT_MS", 200)
    with pytest.raises(OperationalError), pooled.begin() as connection:
        connection.exec_driver_sql("SELECT pg_sleep(5)")


def test_the_ledger_is_written_and_read_behind_a_pooler(pooled: Engine) -> None:
    store, now = Ledger(pooled), now_ms()
    events = [
        event_record(app="A", event_id=f"e{n}", message_id=f"m{n}", ts_ms=now, received_ms=now)
        for n in range(20)
    ]
    lane = {
        "user": "bob",
        "device": "phone",
        "vendor": "huawei",
        "business_id": "hw",
        "decision": "accepted",
        "class_sent": "chat",
    }
    rows = [
        row_record(
            app="A", event_id=f"e{n}", ts_ms=now, push_id=f"{n:032x}", decided_ms=now, **lane
        )
        for n in range(20)
    ]
    for _ in range(3):
        store.write([*events, *rows])
    assert len(store.find_pushes([f"{n:032x}" for n in range(20)])) == 20
    assert Devices(pooled).of_users("A", ["bob"]) == {}
    assert store.spent("A", Vendor.HUAWEI, "hw", now - 1000) == [("chat", "chat", 20)]


def test_tables_are_made_through_a_pooler(database_url: str) -> None:
    with own_database(database_url) as url, pooler(url, "refusing") as through:
        made = sql.engine(through)
        migrate(made)
        migrate(made)
        with made.connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM events").scalar() == 0
        made.dispose()
