"""One slow thing never stops another: a scenario each, seeded, with its limit.

A scenario takes its size (1.0: the long form) and what starts a fleet, and gives figures: {name:
Figure}. It touches nothing
inside the fleet: streams, settings, simulators and servers from outside, the ledger and Redis' own
counters as witnesses.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from redis.exceptions import OutOfMemoryError
from sqlalchemy import text

from common.model import Vendor
from common.storage.ledger import day_of
from common.storage.streams import TAKEOVER_IDLE_MS
from tests.isolation.place import GIVEN_UP_S, TAKES_EFFECT_S, Place, advert, call, chat, percentile
from tests.waiting import seconds_until

#: A p99 of so few chats is one chat: what a busy machine does to it is no fault of the fleet.
JITTER_MS = 25.0
#: Seconds in which FCM wants a rate to rise, and one to spare; shorter forms do not wait for it.
RAMP_S = 61.0
LONG = 0.1
#: A full server's limit over what it holds: so much has to go before it takes anything.
FULL_SHARE = 0.85
#: Messages of one statement that fills the ledger: it takes a few seconds.
FILLED_AT_ONCE = 100
#: Statements that are ended while the devices are locked: of two readers of three stages, each more
#: than five times.
ENDED = 24
LOCKED_S = TAKEOVER_IDLE_MS / 1000 + 3
#: Redis commands a second of this fleet with nothing to do.
IDLE_COMMANDS_PER_S = 60.0


@dataclass(frozen=True, slots=True)
class Figure:
    """at_least: whether the limit is the least instead of the most."""

    figure: float
    limit: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit


Figures = Mapping[str, Figure]
#: (vendors, without, replicas, settings) -> a fleet for a tenant; tests.isolation.place.place.
Places = Callable[..., AbstractContextManager[Place]]


def _quiet_and_beside(
    here: Place,
    people: Sequence[str],
    trouble: Callable[[], None],
    seconds: float,
    per_second: float = 2.0,
) -> Figures:
    """Chats alone, then the same beside the trouble: accepted share, and p99 over p99.

    The first chats, which load libraries and open connections, count for neither.
    """
    with here.chatting(people, per_second) as first:
        time.sleep(1.0)
    here.times_ms(first)
    with here.chatting(people, per_second) as before:
        time.sleep(max(seconds / 4, 2.0))
    alone = percentile(here.times_ms(before), 0.99)
    with here.chatting(people, per_second) as beside:
        trouble()
        time.sleep(seconds)
    times = here.times_ms(beside)
    accepted = sum(one is not None for one in times) / len(times)
    p99 = percentile(times, 0.99)
    return {
        "chats_accepted": Figure(accepted, 1.0, at_least=True),
        "p99_ms_alone": Figure(alone, float("inf")),
        "p99_ms_beside": Figure(p99, float("inf")),
        "p99_over_alone": Figure(max(p99 - JITTER_MS, 0.0) / max(alone, 1.0), 1.2),
    }


def campaign(size: float, place: Places) -> Figures:
    """A group advert to many phones on a lane of 100/s; two iPhone chats a second beside it.

    The lane's own rate and Redis' commands, those inside of scripts too, count from the end of its
    ramp on: first with the chats, then of the lane alone.
    """
    rate, seconds, ramp_s = 100, max(80.0 * size, 5.0), RAMP_S if size >= LONG else 0.0
    phones = max(int(30_000 * size), int((ramp_s + 3.25 * seconds) * rate))
    with place([Vendor.APNS, Vendor.FCM]) as here:
        here.tenant({Vendor.APNS: (), Vendor.FCM: ("--rate", f"{rate}/s")})
        here.settle()
        here.members("all", here.devices(Vendor.FCM, phones))
        chatters = here.devices(Vendor.APNS, 50)
        marks = list[tuple[float, int]]()

        def mark() -> None:
            marks.append((time.time() * 1000, here.commands()))

        def publish() -> None:
            here.publish("message.stored", advert("campaign", "all"))
            seconds_until(
                lambda: len(here.accepted_times("campaign")) > 0, "the advert's first push", 30
            )
            time.sleep(ramp_s)
            mark()

        figures = dict(_quiet_and_beside(here, chatters, publish, seconds))
        mark()
        time.sleep(seconds / 4)
        mark()
        time.sleep(0.5)  # the vendor writes down what it took
        times = [one for one in here.recorded_ms(Vendor.FCM) if one <= marks[2][0]]
        steady = sum(one >= marks[0][0] for one in times)
        reached = steady / (marks[2][0] - marks[0][0]) * 1000 / rate
        figures["lane_rate_over_limit"] = Figure(reached, 0.97, at_least=True)
        figures["lane_rate_never_over"] = Figure(_most_over(times, rate) / rate, 0.05)
        most = 3.0 + IDLE_COMMANDS_PER_S / rate
        names = ("commands_per_push_with_chats", "commands_per_push")
        for name, start, end in zip(names, marks, marks[1:], strict=False):
            pushes = sum(start[0] <= one < end[0] for one in times)
            figures[name] = Figure((end[1] - start[1]) / max(pushes, 1), most)
        return figures


def _most_over(times_ms: Sequence[int], rate: float) -> float:
    """By how many pushes any stretch of time had more than its rate allows, a second's at most."""
    most = ahead = 0.0
    for before, one in itertools.pairwise(times_ms):
        ahead = max(ahead - (one - before) / 1000 * rate, 0.0) + 1
        most = max(most, ahead)
    return most


def absent_worker(size: float, place: Places) -> Figures:
    """Thousands of pushes for a vendor that no process serves; a call and a recall beside them."""
    with place([Vendor.APNS, Vendor.MEIZU], without=["delivery-meizu"]) as here:
        here.tenant({Vendor.APNS: (), Vendor.MEIZU: ()})
        here.settle()
        friends, others = here.devices(Vendor.APNS, 20), here.devices(Vendor.MEIZU, 500)
        _calls(here, friends[-1:])  # the first one loads libraries
        alone = _calls(here, friends[:10])
        count = int(max(3_001 * size, 500))
        here.publish_all(chat(f"m{number}", others[number % 500]) for number in range(count))
        seconds_until(here.intake_done, "intake reads on", 60)
        beside = _calls(here, friends[10:])
        here.publish(
            "message.recalled", {"message_id": "m1", "conversation": {"type": "c2c", "id": "ann"}}
        )
        taken_s = seconds_until(here.intake_done, "the recall is read", 30)
        call_over = Figure(max(beside - JITTER_MS, 0.0) / max(alone, 1.0), 1.2)
        return {"call_over_alone": call_over, "recall_read_s": Figure(taken_s, 1.0)}


def _calls(here: Place, people: Sequence[str], share: float = 0.5) -> float:
    """One call each, stored to accepted, ms: the median, or another percentile."""
    ids = []
    for to in people:
        ids.append(uuid.uuid4().hex)
        here.publish("call.invited", call(ids[-1], to))
        time.sleep(0.2)
    return percentile(here.times_ms(ids, 30), share)


def outage_over(size: float, place: Places) -> Figures:
    """A lane with very many waiting comes back; chats of another lane beside it."""
    waiting = int(max(500_000 * size, 5_000))
    with place([Vendor.APNS, Vendor.FCM], LANE_BYTES_MAX="1GiB") as here:
        here.tenant({Vendor.APNS: (), Vendor.FCM: ()})
        here.settle()
        here.members("all", here.devices(Vendor.FCM, min(waiting, 20_000)))
        chatters = here.devices(Vendor.APNS, 50)
        here.pause(Vendor.FCM, paused=True)
        time.sleep(TAKES_EFFECT_S)
        for number in range(max(waiting // 20_000, 1)):
            here.publish("message.stored", {**advert(f"held{number}", "all"), "push": {}})
        seconds_until(here.routed, "all of it is routed", 300)
        return _quiet_and_beside(
            here, chatters, lambda: here.pause(Vendor.FCM, paused=False), max(30.0 * size, 4.0)
        )


def call_behind_adverts(size: float, place: Places) -> Figures:
    """A call published behind very many single adverts: stored to accepted."""
    adverts = int(300_000 * size)
    with place([Vendor.APNS]) as here:
        here.tenant({Vendor.APNS: ("--rate", "500/s")})
        here.settle()
        people = here.devices(Vendor.APNS, 1_000)
        _calls(here, people[-1:])  # the first one loads libraries and opens connections
        alone = _calls(here, people[:5])
        here.freeze("intake")  # else it reads while they are published
        try:
            here.publish_all(
                chat(f"ad{number}", people[number % 1_000], **{"class": "marketing"})
                for number in range(adverts)
            )
            before_it = here.redis.xlen("im:events")
        finally:
            here.thaw("intake")
        behind = _calls(here, people[5:10], 1.0)
        return {
            "call_ms_alone": Figure(alone, float("inf")),
            "call_ms": Figure(behind, 1_000.0),
            "adverts_before_it": Figure(before_it, adverts, at_least=True),
        }


def postgres_frozen(size: float, place: Places) -> Figures:
    """PostgreSQL stands still; what is routed goes on, nothing is buried, nothing is lost."""
    seconds = max(90.0 * size, 8.0)
    with place([Vendor.APNS], RETRY_FIRST_S="1") as here:
        here.tenant({Vendor.APNS: ()})
        here.settle()
        people = here.devices(Vendor.APNS, 200)
        here.simulator(Vendor.APNS, "faults", {"status": 503, "status_share": 1.0})
        waiting = [f"w{number}" for number in range(100)]
        here.publish_all(chat(message, people[number]) for number, message in enumerate(waiting))
        seconds_until(
            lambda: here.routed() and here.runtime.delayed.waiting_count() > 0, "all are tried", 60
        )
        here.freeze("postgres")
        try:
            here.simulator(Vendor.APNS, "faults", {"status": 0, "status_share": 0.0})
            asked = [f"f{number}" for number in range(100)]
            here.publish_all(
                chat(message, people[100 + number]) for number, message in enumerate(asked)
            )
            began = time.monotonic()
            while time.monotonic() - began < max(seconds, GIVEN_UP_S) and here.accepted() < len(
                waiting
            ):
                time.sleep(0.5)
            retried = here.accepted()
            time.sleep(max(seconds - (time.monotonic() - began), 0.0))
        finally:
            here.thaw("postgres")
        times = here.times_ms([*waiting, *asked], 90)
        return {
            "retries_sent_meanwhile": Figure(retried / len(waiting), 1.0, at_least=True),
            "accepted_in_the_end": Figure(
                sum(one is not None for one in times) / len(times), 1.0, at_least=True
            ),
            "dead_letters": Figure(here.dead_letters(), 0.0),
        }


def devices_locked(size: float, place: Places) -> Figures:
    """Somebody holds a lock on the devices, with two readers a stage: nothing is buried, all are
    decided afterwards.

    PostgreSQL ends a statement that waits for half a minute. In the short form it is told to, more
    often than an entry may be delivered and for longer than one may be idle.
    """
    seconds, ended = 600.0 * size, 0
    with place([Vendor.APNS], replicas={"intake": 2, "presence": 2, "routing": 2}) as here:
        here.tenant({Vendor.APNS: ()})
        here.settle()
        people = here.devices(Vendor.APNS, 50)
        chats = [f"c{number}" for number in range(50)]
        with here.runtime.engine.connect() as holder:
            holder.execute(text("SET statement_timeout = 0"))
            holder.execute(text("LOCK TABLE devices IN ACCESS EXCLUSIVE MODE"))
            here.publish_all(chat(message, people[number]) for number, message in enumerate(chats))
            here.publish("device.registered", _registration("newcomer"))
            if size >= LONG:
                time.sleep(seconds)
            else:
                began = time.monotonic()
                taken_over, until = began + LOCKED_S, began + GIVEN_UP_S
                while (at := time.monotonic()) < taken_over or (ended < ENDED and at < until):
                    time.sleep(0.25)
                    ended += _waiting_ended(here)
            holder.rollback()
        times = here.times_ms(chats, 90)
        seconds_until(here.intake_done, "the registration is read", 60)
        with here.runtime.engine.connect() as connection:
            query = text("SELECT count(*) FROM devices WHERE \"user\" = 'newcomer'")
            known = connection.execute(query).scalar() or 0
        return {
            "dead_letters": Figure(here.dead_letters(), 0.0),
            "accepted_afterwards": Figure(
                sum(one is not None for one in times) / len(times), 1.0, at_least=True
            ),
            "registered_afterwards": Figure(float(known), 1.0, at_least=True),
            "statements_ended": Figure(ended, 0 if size >= LONG else ENDED, at_least=True),
        }


def _waiting_ended(here: Place) -> int:
    """How many statements waited for a lock: PostgreSQL has ended them as at their time-out."""
    query = (
        "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    )
    with here.runtime.engine.connect() as connection:
        return int(connection.execute(text(query)).scalar() or 0)


def _registration(user: str) -> dict[str, str]:
    lane = {"platform": "ios", "vendor": "apns", "business_id": "apns"}
    token = "a1" + uuid.uuid4().hex + uuid.uuid4().hex[:30]
    return {"user": user, "device_id": "d", "token": token, **lane}


def redis_full(size: float, place: Places) -> Figures:
    """Redis reaches its limit by one stopped lane; the other lane goes on, the stopped lane's bulk
    ends first.
    """
    phones = int(max(20_000 * size, 2_000))
    with place([Vendor.APNS, Vendor.FCM], LANE_BYTES_MAX="1GiB") as here:
        here.tenant({Vendor.APNS: (), Vendor.FCM: ()})
        here.settle()
        held = here.devices(Vendor.FCM, phones)
        here.members("all", held)
        chatters = here.devices(Vendor.APNS, 50)
        here.pause(Vendor.FCM, paused=True)
        time.sleep(TAKES_EFFECT_S)
        here.redis.config_set("maxmemory-policy", "noeviction")
        here.publish("message.stored", chat("kept", held[0]))
        for number in range(8):
            here.publish("message.stored", advert(f"held{number}", "all"))
        seconds_until(here.routed, "all of it is routed", 60)
        used = int(here.redis.info("memory")["used_memory"])
        here.redis.config_set("maxmemory", int(FULL_SHARE * used))
        began = time.monotonic()
        refused = _chats_until_taken(here, [f"chat{number}" for number in range(50)], chatters)
        taken_s = time.monotonic() - began
        times = here.times_ms([f"chat{number}" for number in range(50)], 10)
        ended = sum(here.decisions(f"held{number}").get("throttled", 0) for number in range(8))
        return {
            "refused_at_first": Figure(refused, 1, at_least=True),
            "all_chats_taken_s": Figure(taken_s, 10.0),
            "accepted_within_10_s": Figure(
                sum(one is not None for one in times) / len(times), 1.0, at_least=True
            ),
            "bulk_that_ended": Figure(ended, 1, at_least=True),
            "chats_of_the_lane_that_ended": Figure(here.decisions("kept").get("throttled", 0), 0),
        }


def _chats_until_taken(here: Place, messages: Sequence[str], people: Sequence[str]) -> int:
    """Publishes each chat until the full server takes it; how often it refused. TimeoutError."""
    refused, until = 0, time.monotonic() + GIVEN_UP_S
    for message, to in zip(messages, people, strict=True):
        while True:
            try:
                here.publish("message.stored", chat(message, to))
                break
            except OutOfMemoryError:
                refused += 1
                if time.monotonic() > until:
                    raise TimeoutError("the full server takes nothing") from None
                time.sleep(0.1)
    return refused


def large_events(size: float, place: Places) -> Figures:
    """Hundreds of the largest legal events, and some far over the limit: intake's memory stays
    small.
    """
    legal, illegal = int(max(500 * size, 12)), int(max(60 * size, 6))
    with place([Vendor.APNS]) as here:
        here.tenant({Vendor.APNS: ()})
        here.settle()
        people = [f"somebody-{number:011d}" for number in range(10_000)]
        data = {**advert("big", "all"), "recipients": people}
        here.publish_all({**data, "message_id": f"big{number}"} for number in range(legal))
        for _ in range(illegal):
            here.redis.xadd("im:events", {"e": b"x" * 10 * 2**20})
        here.publish("message.stored", chat("behind", people[0]))
        seconds_until(here.intake_done, "all of it is read", 300)
        seconds_until(
            lambda: here.dead_letters() >= illegal, "each of the large ones is a dead letter", 60
        )
        peak = Figure(here.peak_rss_mib("intake"), 200.0)
        return {"intake_peak_mib": peak, "dead_letters": Figure(here.dead_letters(), illegal)}


def idle_tenants(size: float, place: Places) -> Figures:
    """A thousand tenants with three lanes each and nothing to do, for a whole minute."""
    tenants, seconds = int(max(1_000 * size, 50)), 20.0 if size >= LONG else 3.0
    minute = 60.0 if size >= LONG else seconds
    vendors = (Vendor.APNS, Vendor.FCM, Vendor.HUAWEI)
    with place(vendors) as here:
        before = here.commands()
        time.sleep(seconds)
        nobody = (here.commands() - before) / seconds
        for number in range(tenants):
            here.tenant(dict.fromkeys(vendors, ()), f"t{number:04d}")
        here.settle()
        time.sleep(seconds)  # what a change of so many accounts costs once is over
        commands, cpu = here.commands(), here.cpu_s("upkeep")
        time.sleep(minute)
        idle = (here.commands() - commands) / minute
        return {
            "redis_commands_per_second": Figure(idle, 200.0),
            "redis_commands_per_second_more": Figure(idle - nobody, 140.0),
            "maintenance_share_of_a_core": Figure((here.cpu_s("upkeep") - cpu) / minute, 0.02),
        }


def busy_recall(size: float, place: Places) -> Figures:
    """A recall in a conversation with millions of later rows under one collapse key."""
    messages, people = 1_600, int(max(3_000 * size, 100))
    seconds = 20.0 if size >= LONG else 2.0
    with place([Vendor.APNS]) as here:
        here.tenant({Vendor.APNS: ()})
        here.settle()
        first_ms = int(time.time() * 1000) - 3_600_000
        for stamp in (first_ms, first_ms + messages):
            here.runtime.ledger.ready_for(day_of(stamp))
        _fill(here, messages, people, first_ms)
        rss, cpu = here.peak_rss_mib("upkeep"), here.cpu_s("upkeep") + here.cpu_s("postgres")
        read = here.ledger_rows_read()
        here.publish(
            "message.recalled", {"message_id": "m0", "conversation": {"type": "group", "id": "g"}}
        )
        seconds_until(lambda: here.ledger_rows_read() - read >= people, "all are looked at", 60)
        time.sleep(seconds)
        idle = here.cpu_s("upkeep") + here.cpu_s("postgres")
        time.sleep(seconds)
        used = (idle - cpu) - (here.cpu_s("upkeep") + here.cpu_s("postgres") - idle)
        return {
            "cpu_s": Figure(max(used, 0.0), 0.6),
            "people_looked_at": Figure(
                (here.ledger_rows_read() - read) / people, 1.0, at_least=True
            ),
            "upkeep_grew_mib": Figure(here.peak_rss_mib("upkeep") - rss, 20.0),
            "rows": Figure(messages * people, float("inf")),
        }


def _fill(here: Place, messages: int, people: int, first_ms: int) -> None:
    """So many later messages of one group, each accepted by all its people, straight into the
    ledger.
    """
    day = "(to_timestamp((:first + i) / 1000.0) AT TIME ZONE 'utc')::date"
    events = (
        "INSERT INTO events (day, app, event_id, message_id, type, conversation, ts_ms, "
        "received_ms, screen)"
        f" SELECT {day}, :app, 'e' || i, 'm' || i, 'message.stored', 'group:g', :first + i, "
        f':first + i, \'{{"collapse_key": "g"}}\''
        " FROM generate_series(0, CAST(:messages AS int)) AS i"
    )
    rows = (
        'INSERT INTO ledger (day, app, event_id, "user", device, vendor, business_id, '
        "decision, rank, class, class_sent, decided_ms)"
        f" SELECT {day}, :app, 'e' || i, 'u' || j, 'd', 'apns', 'apns', 'accepted', 100, "
        "'chat', 'chat', :first + i"
        " FROM generate_series(CAST(:start AS int), CAST(:end AS int)) AS i, generate_series(1, "
        "CAST(:people AS int)) AS j"
    )
    values = {"app": here.app, "first": first_ms, "messages": messages, "people": people}
    with here.runtime.engine.begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text(events), values)
        for start in range(0, messages + 1, FILLED_AT_ONCE):
            end = min(start + FILLED_AT_ONCE - 1, messages)
            connection.execute(text(rows), {**values, "start": start, "end": end})
    with here.runtime.engine.connect().execution_options(
        isolation_level="AUTOCOMMIT"
    ) as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("ANALYZE"))


SCENARIOS: Mapping[str, Callable[[float, Places], Figures]] = {
    "campaign": campaign,
    "absent_worker": absent_worker,
    "outage_over": outage_over,
    "call_behind_adverts": call_behind_adverts,
    "postgres_frozen": postgres_frozen,
    "devices_locked": devices_locked,
    "redis_full": redis_full,
    "large_events": large_events,
    "busy_recall": busy_recall,
    "idle_tenants": idle_tenants,
}
