"""What is forgotten: data of people who left, dead letters that are old or too much; never what a
live device needs.
"""

import pytest
from sqlalchemy import Engine, text

from common.clock import now_ms
from common.config import Settings
from common.storage import ageing
from common.storage.keys import Keys
from common.storage.ledger import Ledger
from common.storage.marks import EventMarks
from common.storage.redis import connect
from tests.records import dead_record
from workers.maintenance.reporter import Reporter
from workers.runtime import Runtime

NOW = now_ms()
OLD = NOW - (ageing.LEFT_DAYS + 1) * 86_400_000


def device(engine: Engine, name: str, state: str, at_ms: int, token: str | None = None) -> None:
    values = {"name": name, "token": token or f"t-{name}", "state": state, "at": at_ms}
    with engine.begin() as connection:
        query = text(
            'INSERT INTO devices (app, "user", device_id, platform, vendor, business_id, '
            "token, registered_ms, state, state_ms)"
            " VALUES ('a', 'u', :name, 'ios', 'apns', 'i', :token, :at, :state, :at)"
        )
        connection.execute(query, values)
        connection.execute(
            text("INSERT INTO token_owners VALUES ('a', 'apns', :token, 'u', :name, :at)"), values
        )
        connection.execute(
            text("INSERT INTO logouts VALUES ('a', 'u', 'device:' || :name, :at)"), values
        )


def left(engine: Engine, table: str, column: str) -> set[str]:
    with engine.connect() as connection:
        return set(connection.execute(text(f"SELECT {column} FROM {table}")).scalars())


def test_devices_of_people_who_left_go_with_all_that_was_kept_of_them(engine: Engine) -> None:
    for state in ("unbound", "moved", "retired", "silenced"):
        device(engine, f"old-{state}", state, OLD)
        device(engine, f"new-{state}", state, NOW)
    device(engine, "live", "active", OLD)
    gone = ageing.forget(engine, NOW)
    kept = {"live", *(f"new-{state}" for state in ("unbound", "moved", "retired", "silenced"))}
    assert left(engine, "devices", "device_id") == kept
    assert left(engine, "token_owners", "device_id") == kept
    assert left(engine, "logouts", "scope") == {f"device:{name}" for name in kept}
    assert gone == {"devices": 4, "token_owners": 4, "logouts": 4}
    assert ageing.forget(engine, NOW) == {}


def test_a_logout_that_a_live_device_may_need_stays(engine: Engine) -> None:
    device(engine, "live", "active", OLD)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO logouts VALUES ('a', 'u', 'platform:ios', 0), ('a', 'u', "
            "'platform:android', 0)"
        )
    ageing.forget(engine, NOW)
    assert left(engine, "logouts", "scope") == {"device:live", "platform:ios"}


def test_two_hundred_installs_of_one_person_leave_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ageing, "PAGE", 50)
    for number in range(200):
        device(engine, f"d{number}", "moved", OLD)
    device(engine, "now", "active", NOW)
    ageing.forget(engine, NOW)
    assert (
        left(engine, "devices", "device_id") == left(engine, "token_owners", "device_id") == {"now"}
    )


def test_dead_letters_go_by_age_and_by_size_the_oldest_first(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Ledger(engine)
    letters = [
        dead_record(
            id=f"l{number}", stage="intake", reason="r", at_ms=NOW + number, raw=bytes(1_000)
        )
        for number in range(9)
    ]
    store.write([dead_record(id="old", stage="intake", reason="r", at_ms=OLD, raw=b"x"), *letters])
    ageing.forget(engine, NOW)
    assert left(engine, "dead_letters", "id") == {f"l{number}" for number in range(9)}
    monkeypatch.setattr(ageing, "LETTERS_BYTES_MAX", 3_500)
    assert ageing.forget(engine, NOW) == {"dead_letters over their bytes": 6}
    assert left(engine, "dead_letters", "id") == {"l6", "l7", "l8"}


def test_readers_of_the_cores_streams_and_of_receipts_are_forgotten_too(
    settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(settings)
    runtime.__dict__["engine"] = engine
    streams = [*settings.event_streams, runtime.keys.stream("receipts")]
    reporter = Reporter(runtime)
    reporter.forget()  # makes what is missing
    for stream in streams:
        for number in range(40):
            runtime.redis.xreadgroup("pushfleet", f"gone{number}", {stream: ">"})
    monkeypatch.setattr("workers.maintenance.reporter.DEAD_READER_MS", -1)
    reporter.forget()
    for stream in streams:
        assert runtime.redis.xinfo_consumers(stream, "pushfleet") == []


def test_what_a_person_has_read_in_many_conversations_is_bounded(
    redis_url: str, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.storage.marks.SINGLES_MAX", 100)
    client, keys = connect(redis_url), Keys(space)
    marks = EventMarks(client, keys)
    client.hset(
        keys.read("a", "u"), mapping={f"c2c:{number}": NOW + number for number in range(5_000)}
    )
    marks.read_up_to("a", "u", "c2c:newest", NOW + 9_999)
    assert client.hlen(keys.read("a", "u")) <= 100
    for number in range(1_000):
        marks.read_up_to("a", "u", f"group:{number}", NOW + 10_000 + number)
        assert client.hlen(keys.read("a", "u")) <= 101
    assert client.hexists(keys.read("a", "u"), "group:999")
    client.close()
