"""The roles of the maintenance process: none waits for another, and a frozen database stops only
what needs it.
"""

import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from cryptography.fernet import Fernet
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ResponseError

from common.clock import now_ms
from common.config import Settings
from common.contracts import encode
from common.ledger_records import EventRecord, RowRecord
from common.model import Urgency, Vendor
from common.storage import keys
from common.storage.delayed import Later
from common.storage.leases import Lease, renew_all
from common.storage.living import ROLES, UPKEEP, command_of, missing, role_of
from common.storage.redis import connect
from common.storage.streams import GROUP, StreamStore
from tests.builders import stored_credential
from tests.conftest import OwnValkey
from tests.frozen import FrozenPostgres
from tests.integration.conftest import opened
from tests.records import event_record, row_record
from tests.waiting import eventually
from workers.gateway.secrets import GATEWAY_KEYS, XMPP, open_doors
from workers.maintenance.ledger_writer import LedgerWriter
from workers.maintenance.reporter import Reporter
from workers.maintenance.role import RoleThread
from workers.maintenance.timer import Timer
from workers.queues.lease_renewer import LeaseRenewer
from workers.runtime import Runtime
from workers.upkeep import Upkeep

STREAM = keys.send(Vendor.APNS, Urgency.CHAT)


@pytest.fixture
def runtime(settings_with: Callable[..., Settings], server: FrozenPostgres) -> Iterator[Runtime]:
    key = Fernet.generate_key().decode()
    with opened(settings_with(DATABASE_URL=server.url, SECRET_KEYS=key)) as made:
        yield made
        server.go_on()


@pytest.fixture
def upkeep(runtime: Runtime, server: FrozenPostgres) -> Iterator[Upkeep]:
    stop = threading.Event()
    made = Upkeep(runtime, stop)
    thread = threading.Thread(target=made.run)
    thread.start()
    yield made
    server.go_on()  # its end is not to wait for the database's deadlines
    stop.set()
    thread.join(40)


def put(runtime: Runtime, count: int, delay_ms: int = 0) -> None:
    with runtime.redis.pipeline() as pipe:
        runtime.delayed.put(
            pipe, [Later(STREAM, b"x%d" % number, now_ms() + delay_ms) for number in range(count)]
        )
        pipe.execute()


def on_stream(runtime: Runtime) -> int:
    return int(runtime.redis.xlen(runtime.keys.stream(STREAM)))


def _waits(runtime: Runtime, count: int) -> bool:
    return on_stream(runtime) == count


@pytest.mark.usefixtures("upkeep")
def test_due_pushes_leave_while_the_database_is_frozen(
    runtime: Runtime, server: FrozenPostgres
) -> None:
    put(runtime, 10)
    eventually(lambda: on_stream(runtime) == 10)
    runtime.catalog.changed()  # the lanes' settings have to be read again, too
    server.stop()
    for number in range(1, 9):
        put(runtime, 10)
        wanted = 10 + 10 * number
        eventually(functools.partial(_waits, runtime, wanted), 20)
        time.sleep(0.25)


def records_of(app: str, people: int) -> tuple[EventRecord, list[RowRecord]]:
    now = now_ms()
    event = event_record(app=app, message_id=f"m{now}", ts_ms=now, received_ms=now)
    row: dict[str, Any] = {"app": app, "event_id": event.event_id, "ts_ms": now}
    return event, [row_record(**row, user=f"u{n}", decided_ms=now) for n in range(people)]


@pytest.mark.usefixtures("upkeep")
def test_records_wait_for_a_frozen_database_and_are_written_once(
    runtime: Runtime, server: FrozenPostgres
) -> None:
    eventually(lambda: runtime.redis.get(runtime.keys.lease("ledger")))
    server.stop()
    event, rows = records_of("frozen", 5)
    runtime.streams.hand_on((), [(keys.LEDGER, encode([event, *rows]))])
    name = runtime.keys.stream(keys.LEDGER)
    eventually(lambda: runtime.redis.xpending(name, GROUP)["pending"], what="they are read")
    time.sleep(0.5)
    server.go_on()
    eventually(lambda: runtime.redis.xlen(runtime.keys.stream(keys.LEDGER)) == 0, 60)
    found = runtime.ledger.find(event.message_id, "frozen", None)
    assert found is not None
    assert len(runtime.ledger.rows(found)) == 5


def test_a_minute_between_the_clocks_of_two_machines_is_no_minute_to_wait(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    for ahead_s in (-60, 60):
        monkeypatch.setattr("time.time", lambda ahead_s=ahead_s: real() + ahead_s)
        now = int(time.time() * 1000)
        for due_ms, released in ((now + 30_000, set()), (now, {STREAM})):
            with runtime.redis.pipeline() as pipe:
                runtime.delayed.put(pipe, [Later(STREAM, b"x", due_ms)])
                pipe.execute()
            assert runtime.delayed.release_due() == released
        monkeypatch.setattr("time.time", real)


def test_a_full_server_refuses_all_of_a_commit_that_puts_off(runtime: Runtime) -> None:
    """Otherwise the acknowledgement would stand, and what it put off be nowhere."""
    name = runtime.keys.stream("acknowledged")
    runtime.redis.set(name, 1)
    put(runtime, 1)  # the script is there
    runtime.redis.config_set("maxmemory", 1)
    try:
        with runtime.redis.pipeline() as pipe:
            pipe.delete(name)
            runtime.delayed.put(pipe, [Later(STREAM, b"x", now_ms())])
            with pytest.raises(ResponseError):
                pipe.execute()
    finally:
        runtime.redis.config_set("maxmemory", 0)
    assert runtime.redis.exists(name)
    runtime.delayed.release_due()
    runtime.redis.delete(name, runtime.keys.stream(STREAM))


# ---------------------------------------------------------------- leases


def test_a_role_is_held_by_one_and_its_number_grows_when_it_changes_hands(runtime: Runtime) -> None:
    first, second = (Lease(runtime.redis, runtime.keys, "timer", lease_ms=20_000) for _ in range(2))
    name = runtime.keys.lease("timer")
    assert first.hold()
    assert not second.hold()
    runtime.redis.pexpire(name, 9_000)
    first._asked_at = 0.0
    assert first.hold()
    assert 9_000 < int(runtime.redis.pttl(name)) <= 20_000, "renewed"
    assert not second.hold()
    runtime.redis.pexpire(name, 1)  # the first stands still
    eventually(second.hold)
    first._asked_at = 0.0
    assert second.epoch == first.epoch + 1
    assert not first.hold(), "it has lost it"
    second.give_back()
    assert first.hold()
    assert first.epoch == second.epoch + 3 or first.epoch > 2


def test_giving_back_what_is_anothers_takes_nothing(runtime: Runtime) -> None:
    first, second = (
        Lease(runtime.redis, runtime.keys, "timer", lease_ms) for lease_ms in (100, 20_000)
    )
    first.hold()
    eventually(second.hold)
    first.give_back()
    assert runtime.redis.exists(runtime.keys.lease("timer"))


def test_a_lease_is_renewed_on_a_full_server(runtime: Runtime) -> None:
    lease = Lease(runtime.redis, runtime.keys, "timer")
    runtime.redis.config_set("maxmemory", 1)
    try:
        assert lease.hold()
        lease._asked_at = 0.0
        assert lease.hold()
    finally:
        runtime.redis.config_set("maxmemory", 0)


def test_a_server_that_is_away_costs_no_lease_of_another(
    runtime: Runtime, restartable_valkey: OwnValkey
) -> None:
    other = connect(restartable_valkey.url)
    away, here = Lease(other, runtime.keys, "timer"), Lease(runtime.redis, runtime.keys, "timer")
    assert away.hold()
    assert here.hold()
    restartable_valkey.kill()
    asked_at = here._asked_at
    with pytest.raises(RedisConnectionError):
        renew_all([away, here])
    assert here._asked_at > asked_at
    other.close()


def test_a_lease_that_ended_between_two_turns_is_its_threads_to_take_again(
    runtime: Runtime,
) -> None:
    lease = Lease(runtime.redis, runtime.keys, "timer", lease_ms=100)
    thread = RoleThread(Timer(runtime), lease, threading.Event())
    assert lease.hold()
    assert thread.keeps
    eventually(lambda: lease.left_s <= 0)
    assert not thread.keeps


# ---------------------------------------------------------------- roles over processes


def test_roles_may_be_spread_over_processes_and_the_missing_one_is_named() -> None:
    others = ["intake", "presence", "routing", "delivery"]
    assert missing([*others, role_of(UPKEEP)], [], receipts=False) == []
    spread = [role_of(UPKEEP, roles=ROLES[:2]), role_of(UPKEEP, roles=ROLES[3:])]
    assert missing([*others, *spread], [], receipts=False) == ["upkeep-recalls"]
    assert command_of("upkeep-recalls") == "pushfleet worker upkeep --roles recalls"
    assert missing(others, [], receipts=False) == [UPKEEP]


def test_a_door_that_a_tenant_opened_wants_its_process() -> None:
    keyed, xmpp = {GATEWAY_KEYS: ["k"]}, {XMPP: {"host": "h"}, GATEWAY_KEYS: []}
    assert open_doors([{}]) == []
    assert open_doors([{}, keyed, xmpp]) == ["gateway", "gateway-xmpp"]
    fleet = ["intake", "presence", "routing", "delivery", UPKEEP]
    doors = open_doors([xmpp])
    assert missing([*fleet, "gateway"], [], receipts=False, doors=doors) == ["gateway-xmpp"]
    assert missing([*fleet, "gateway-xmpp"], [], receipts=False, doors=doors) == []
    assert command_of("gateway-xmpp") == "pushfleet worker gateway-xmpp"


def test_the_xmpp_door_is_known_on_any_host(runtime) -> None:
    runtime.living.beat("gateway-xmpp-17@host.example", "gateway-xmpp", None)
    assert runtime.living.roles()["gateway-xmpp-17@host.example"] == "gateway-xmpp"


# ---------------------------------------------------------------- the ledger's stream


def test_a_batch_that_takes_too_long_is_halved_until_it_passes(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    write = runtime.ledger.write

    def slow(records: list[object], *more: object) -> None:
        sizes.append(len(records))
        if len(records) > 3:
            with runtime.engine.begin() as connection:
                connection.exec_driver_sql("SET LOCAL statement_timeout = 50")
                connection.exec_driver_sql("SELECT pg_sleep(2)")
        write(records)  # type: ignore[arg-type]

    event, rows = records_of("slow", 9)
    for one in (event, *rows):
        runtime.streams.hand_on((), [(keys.LEDGER, encode([one]))])
    monkeypatch.setattr(runtime.ledger, "write", slow)
    assert LedgerWriter(runtime).flush() == 10
    assert max(sizes) == 10
    assert runtime.redis.xlen(runtime.keys.stream(keys.LEDGER)) == 0
    found = runtime.ledger.find(event.message_id, "slow", None)
    assert found is not None
    assert len(runtime.ledger.rows(found)) == 9


def test_a_writer_that_begins_while_redis_is_full_writes_what_waits(runtime: Runtime) -> None:
    """Its rows are what fills the server."""
    LedgerWriter(runtime).flush()
    event = event_record(
        app="full", message_id=f"m{now_ms()}", ts_ms=now_ms(), received_ms=now_ms()
    )
    runtime.streams.hand_on((), [(keys.LEDGER, encode([event]))])
    another = Runtime(runtime.settings)
    another.redis.config_set("maxmemory", 1)
    try:
        LedgerWriter(another).flush()
        assert runtime.redis.xlen(runtime.keys.stream(keys.LEDGER)) == 0
        with pytest.raises(OutOfMemoryError):
            another.redis.set(another.keys.stream("not-there"), 1)
    finally:
        another.redis.config_set("maxmemory", 0)
        another.close()
    assert runtime.ledger.find(event.message_id, "full", None) is not None


def _put(runtime: Runtime, *records: object) -> None:
    runtime.streams.hand_on((), [(keys.LEDGER, encode(list(records)))])


def _writes(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the ledger's transactions from now on."""
    sizes: list[int] = []
    write = runtime.ledger.write

    def counted(records: list[object], *more: object) -> None:
        sizes.append(len(records))
        write(records, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(runtime.ledger, "write", counted)
    return sizes


def test_an_event_is_written_with_its_outcome(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.maintenance.ledger_writer.HOLD_S", 60.0)
    sizes, writer = _writes(runtime, monkeypatch), LedgerWriter(runtime)
    event = event_record(app="met", message_id=f"m{now_ms()}", ts_ms=now_ms(), received_ms=now_ms())
    _put(runtime, event)
    thread = threading.Thread(target=writer.flush, args=(1_000,))
    thread.start()
    time.sleep(0.2)
    assert sizes == []
    row = row_record(
        app="met", event_id=event.event_id, ts_ms=event.ts_ms, user="bob", decided_ms=now_ms()
    )
    _put(runtime, row)
    thread.join(60)
    assert sizes == [2]


def test_an_event_waits_no_longer_than_a_second_for_its_outcome(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, writer = _writes(runtime, monkeypatch), LedgerWriter(runtime)
    told = now_ms()
    recall = event_record(
        app="met", event_id="recall", type="message.recalled", ts_ms=told, received_ms=told
    )
    _put(runtime, recall)
    with monkeypatch.context() as patched:
        patched.setattr("workers.maintenance.ledger_writer.HOLD_S", 60.0)
        began = time.monotonic()
        assert writer.flush(1_000) == 1
        assert time.monotonic() - began < 30, "nothing follows a recall"
    began = time.monotonic()
    _put(runtime, event_record(app="met", event_id="alone", ts_ms=told, received_ms=told))
    assert writer.flush(1_000) == 1
    assert 1.0 <= time.monotonic() - began < 30
    assert sizes == [1, 1]


def test_what_is_being_written_for_long_is_nobody_elses(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first try in which the machine does not stand still: then it renews nothing either."""
    written = threading.Event()
    monkeypatch.setattr(runtime.ledger, "write", lambda *_: written.wait(60))
    tries = (_stays_the_writers(runtime, written) for _ in range(10))
    assert next((stays for steady, stays in tries if steady), False)


def _stays_the_writers(runtime: Runtime, written: threading.Event) -> tuple[bool, bool]:
    """Whether this thread was woken in time all the while, and whether nobody took it."""
    writer = LedgerWriter(runtime)
    other = StreamStore(runtime.redis, runtime.keys, takeover_idle_ms=1_200)
    written.clear()
    writer.consumer._renewer = LeaseRenewer(runtime.streams, renew_s=0.2)
    row = row_record(app="long", event_id="e", ts_ms=now_ms(), user="bob", decided_ms=now_ms())
    _put(runtime, row)
    thread = threading.Thread(target=writer.flush)
    thread.start()
    looks = [time.monotonic()]
    while looks[-1] - looks[0] < 2:
        time.sleep(0.02)
        looks.append(time.monotonic())
    taken = other.take_over(keys.LEDGER, 10)
    looks.append(time.monotonic())
    written.set()
    thread.join(60)
    other.release(taken)
    stream = runtime.keys.stream(keys.LEDGER)
    eventually(lambda: not runtime.redis.xlen(stream), meanwhile=LedgerWriter(runtime).flush)
    steady = all(after - before < 0.4 for before, after in itertools.pairwise(looks))
    return steady, not taken


def test_one_record_that_cannot_be_stored_becomes_a_dead_letter(runtime: Runtime) -> None:
    writer, app = LedgerWriter(runtime), f"odd{now_ms()}"
    event = event_record(app=app, message_id=app, ts_ms=now_ms(), received_ms=now_ms())
    rows = [
        row_record(
            app=app, event_id=event.event_id, ts_ms=event.ts_ms, user=user, decided_ms=now_ms()
        )
        for user in ("amy", "bob")
    ]
    bad = msgspec.structs.replace(rows[1], user="bad", message_class="x" * 40)
    _put(runtime, event, rows[0], bad, rows[1])
    while writer.flush():
        pass
    found = runtime.ledger.find(app, app, None)
    assert found is not None
    assert [row["user"] for row in runtime.ledger.rows(found)] == ["amy", "bob"]
    (letter,) = [
        letter
        for letter in runtime.dead_letters.heads()
        if letter["stage"] == "ledger" and letter["reason"].startswith("broke_stage: ")
    ]
    runtime.dead_letters.drop([letter["id"]])


# ---------------------------------------------------------------- what an idle fleet costs


def test_lanes_of_which_there_is_nothing_to_tell_cost_no_command_each(runtime: Runtime) -> None:
    reporter, app = Reporter(runtime), f"idle{now_ms()}"
    for number in range(100):
        runtime.credentials.add(stored_credential(app, Vendor.FCM, f"b{number}"))
    runtime.catalog.changed()
    lanes = [lane.id for lane in runtime.catalog.fresh().lanes.values()]
    assert len(lanes) >= 100
    runtime.lane_states.tell(lanes[7], 1, 0, 0, refused=True)
    runtime.guard.count(lanes[8], 10, 0, 0)
    for look, most in (
        (reporter.show_lanes, 50),
        (lambda: runtime.guard.stopped_of(lanes), 60),
        (reporter.every_15_s, 120),
    ):
        found = min(cost_of(runtime, look) for _ in range(3))
        assert found <= most, "whatever else asks this server now only adds to a look"
    states = runtime.lane_states.peek_all(lanes)
    assert [index for index, state in enumerate(states) if state.state != "flowing"] == [7]
    assert not any(runtime.guard.stopped_of(lanes).values())


def cost_of(runtime: Runtime, look: Callable[[], object]) -> int:
    """How many commands the server counts meanwhile."""
    counted = []
    for do in (lambda: None, look):
        do()
        told: Any = runtime.redis.info("stats")
        counted.append(int(told["total_commands_processed"]))
    return counted[1] - counted[0]
