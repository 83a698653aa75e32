"""The gate of the real runtime: which limits apply to a lane, counts from the ledger, the vendor's
hours and the vendor's words.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from common.clock import now_ms
from common.contracts import Push
from common.ledger_records import Record
from common.model import Bucket, Decision, MessageClass, Urgency, Vendor
from common.storage.access import AccessStore
from common.storage.admission import Admission, AdmissionRequest
from common.storage.admission import AdmissionAnswer as Grant
from tests.integration.admission.conftest import Clock, work
from tests.queued import packed, queue
from tests.records import row_record
from workers.delivery.access import FleetAccess
from workers.delivery.deliver import deliver
from workers.delivery.lane import Lane
from workers.delivery.ports import Permit
from workers.delivery.results import Delivered
from workers.delivery.settle import settle
from workers.delivery.work import PendingPush
from workers.gate import FleetGate, lane_terms, terms_of
from workers.runtime import Runtime
from workers.vendors.types import PushItem
from workers.wire import HttpResponse, NoAnswer, Request, Route

MakeLane = Callable[..., Lane]


@pytest.fixture
def gate(runtime: Runtime) -> FleetGate:
    """Its clock stands at eleven in Shanghai, when every vendor takes everything."""
    noon = datetime(2026, 3, 3, 11, tzinfo=ZoneInfo("Asia/Shanghai"))
    return FleetGate(runtime.admission, runtime.ledger, lambda: int(noon.timestamp() * 1000))


def admit(gate: FleetGate, lane: Lane, works: Sequence[PendingPush]) -> list[Decision | None]:
    return [leave.decision for leave in leaves(gate, lane, works)]


def leaves(gate: FleetGate, lane: Lane, works: Sequence[PendingPush]) -> Sequence[Permit]:
    return gate.admit(lane, [(PushItem(one.note, one.target, None, 60), 0) for one in works])


def sent(one: PendingPush, business_id: str, decision: Decision, *, at_ms: int) -> Record:
    note, target = one.note, one.target
    return row_record(
        app=note.app,
        event_id=note.event_id,
        ts_ms=note.ts_ms,
        user=target.user,
        device=target.device,
        vendor="vivo",
        business_id=business_id,
        decision=decision,
        message_class=note.message_class,
        class_sent=note.class_sent,
        push_id=target.push_id,
        decided_ms=at_ms,
    )


def test_counts_that_are_lost_come_back_from_the_ledger(
    runtime: Runtime, gate: FleetGate, lane: MakeLane, space: str
) -> None:
    vivo = lane(Vendor.VIVO, {"quota": {"public": 10}})
    today, yesterday = now_ms(), now_ms() - 86_400_000
    rows = [sent(work(i), space, Decision.ACCEPTED, at_ms=today) for i in range(4)]
    rows += [sent(work(i), space, Decision.UNCERTAIN, at_ms=today) for i in range(4, 6)]
    rows += [
        sent(work(6), space, Decision.REJECTED, at_ms=today),
        sent(work(7), space, Decision.ACCEPTED, at_ms=yesterday),
    ]
    rows += [
        sent(work(8, MessageClass.CHAT), space, Decision.ACCEPTED, at_ms=today),
        sent(work(9), "other", Decision.ACCEPTED, at_ms=today),
    ]
    runtime.ledger.write(rows)
    found = admit(gate, vivo, [work(i) for i in range(100, 106)])
    assert found == [None] * 4 + [Decision.QUOTA_SPENT] * 2
    runtime.redis.flushall()
    runtime.ledger.write(
        [sent(work(i), space, Decision.ACCEPTED, at_ms=today) for i in range(100, 104)]
    )
    assert admit(gate, vivo, [work(200)]) == [Decision.QUOTA_SPENT]


def test_device_caps_come_back_too_and_count_devices_not_people(
    runtime: Runtime, gate: FleetGate, lane: MakeLane, space: str
) -> None:
    vivo = lane(Vendor.VIVO, {"device_cap": {"public": 2}})
    with runtime.engine.begin() as connection:
        query = text(
            'INSERT INTO devices (app, "user", device_id, platform, vendor, business_id, '
            "token, registered_ms, state, reason, state_ms)"
            " VALUES ('demo', 'u', 'd', 'android', 'vivo', :b, 'phone', 1, 'active', '', 1)"
        )
        connection.execute(query, {"b": space})
    runtime.ledger.write([sent(work(1), space, Decision.ACCEPTED, at_ms=now_ms())])
    asks = [
        work(2, token="phone"),
        work(3, token="phone"),
        work(4, token="phone", user="the second one on this phone"),
        work(5, token="tablet"),
    ]
    assert admit(gate, vivo, asks) == [None, Decision.DEVICE_CAP, Decision.DEVICE_CAP, None]


def test_nothing_is_granted_while_the_ledger_cannot_be_read(
    runtime: Runtime, gate: FleetGate, lane: MakeLane
) -> None:
    vivo = lane(Vendor.VIVO, {"quota": {"public": 10}})
    with runtime.engine.begin() as connection:
        connection.execute(text("ALTER VIEW ledger_all RENAME TO ledger_away"))
    try:
        assert admit(gate, vivo, [work(1)]) == [Decision.THROTTLED]
    finally:
        with runtime.engine.begin() as connection:
            connection.execute(text("ALTER VIEW ledger_away RENAME TO ledger_all"))
    assert admit(gate, vivo, [work(1)]) == [None]


def test_a_lane_without_limits_asks_no_ledger(
    runtime: Runtime, gate: FleetGate, lane: MakeLane
) -> None:
    apns = lane(Vendor.APNS, {})
    assert terms_of(apns, now_ms()).counted == ""
    assert admit(gate, apns, [work(i, MessageClass.CHAT) for i in range(3)]) == [None] * 3


def test_a_reserve_stands_where_its_class_travels(
    runtime: Runtime, lane: MakeLane, space: str
) -> None:
    limits = {"quota": {"public": 10, "private": 10}, "reserve": {"chat": 0.3}}
    right = lane(Vendor.VIVO, limits, "vivo.system")
    assert terms_of(right, now_ms()).reserve == [(Bucket.PRIVATE, MessageClass.CHAT, 0.3)]
    without = lane(Vendor.VIVO, limits)
    assert terms_of(without, now_ms()).reserve == [(Bucket.PUBLIC, MessageClass.CHAT, 0.3)]


def test_a_vendors_word_wins_over_our_default_and_not_over_the_operator(lane: MakeLane) -> None:
    assert terms_of(lane(Vendor.XIAOMI, {}), now_ms()).open_limits == {Bucket.PUBLIC}
    found = terms_of(lane(Vendor.XIAOMI, {"quota": {"public": 777}}), now_ms()).open_limits
    assert found == frozenset()


def test_xiaomi_counts_requests_and_vivo_counts_devices(gate: FleetGate, lane: MakeLane) -> None:
    wishes = {"rate": 1.0, "quota": {"public": 1000}}
    assert admit(gate, lane(Vendor.XIAOMI, wishes), [work(i) for i in range(20)]) == [None] * 20
    found = admit(gate, lane(Vendor.VIVO, wishes), [work(i) for i in range(3)])
    assert found == [None, Decision.THROTTLED, Decision.THROTTLED]


@pytest.mark.parametrize("rate", [0.5, 1, 7, 20, 500])
def test_no_second_of_the_vendors_clock_holds_more_than_its_figure(
    runtime: Runtime, lane: MakeLane, clock: Clock, store: Admission, rate: float
) -> None:
    """Asked for more than can go, at every tenth of a second, after a silence: what arrives at once
    is part of the second's figure.
    """
    terms = replace(
        terms_of(lane(Vendor.VIVO, {"rate": float(rate)}), now_ms()), quotas={}, caps={}
    )
    begin = clock.now
    seconds: Counter[int] = Counter()
    for step in range(60):
        clock.now = begin + step / 10
        asks = [
            AdmissionRequest(f"{step * 1000 + i:032x}", Bucket.PRIVATE, MessageClass.CHAT, "t")
            for i in range(200)
        ]
        given = store.admit(terms, asks) or []
        seconds[step // 10] += [one.answer for one in given].count(Grant.GRANTED)
    assert max(seconds.values()) <= max(rate, 1)
    assert sum(seconds.values()) >= 6 * rate * 0.85 - 1


def test_public_pushes_wait_for_the_vendors_morning(runtime: Runtime, lane: MakeLane) -> None:
    night = datetime(2026, 3, 3, 23, 30, tzinfo=ZoneInfo("Asia/Shanghai"))
    gate = FleetGate(runtime.admission, runtime.ledger, lambda: int(night.timestamp() * 1000))
    vivo = lane(Vendor.VIVO, {}, "vivo.system")
    news, chat, again = leaves(gate, vivo, [work(1), work(2, MessageClass.CHAT), work(3)])
    assert (news.decision, news.wait_s) == (Decision.THROTTLED, 7.5 * 3600)
    assert chat.decision is None
    assert again == news


class Vendor1:
    """The vendor's side of the transport: answers what it is told to."""

    def __init__(self, *answers: HttpResponse) -> None:
        self.answers = list(answers)
        self.asked = 0

    def send_many(
        self, route: Route, requests: Sequence[Request], deadline_s: float
    ) -> Sequence[HttpResponse | NoAnswer]:
        self.asked += len(requests)
        return [self.answers.pop(0) for _ in requests]

    def renew(self, pool: str) -> None: ...

    def close(self) -> None: ...


def said(status: int, body: object, **headers: str) -> HttpResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status, named, json.dumps(body).encode())


def round_of(
    runtime: Runtime, lane: Lane, works: Sequence[PendingPush], *answers: HttpResponse
) -> Delivered:
    world = replace(runtime.delivery(lane.vendor), transport=Vendor1(*answers))
    return deliver(works, lane, world)


SPENT = said(200, {"code": 200001, "result": "error", "description": "over quota"})


def test_the_vendors_over_quota_ends_our_day_too(runtime: Runtime, lane: MakeLane) -> None:
    xiaomi = lane(Vendor.XIAOMI, {})
    first = round_of(runtime, xiaomi, [work(1)], SPENT)
    assert [outcome.verdict for _, outcome in first.outcomes] == ["quota_spent"]
    usage = runtime.admission.usage(terms_of(xiaomi, now_ms()))[1]
    assert usage.used == usage.limit == 20_000
    second = round_of(runtime, xiaomi, [work(2)])
    assert [decision for _, decision, _ in second.decided] == [Decision.QUOTA_SPENT]
    assert second.requests == 0


def test_the_end_of_the_public_day_stops_no_chat(runtime: Runtime, lane: MakeLane) -> None:
    """Even where it was a chat that heard of it: vivo may send one down to the
    operational class.
    """
    vivo, vendor = lane(Vendor.VIVO, {}, "vivo.system"), Paths({"/message/send": {"result": 10070}})
    world = replace(runtime.delivery(Vendor.VIVO), transport=vendor, access=vendor.access(runtime))
    told = deliver([work(1, MessageClass.CHAT)], vivo, world).outcomes
    assert [outcome.verdict for _, outcome in told] == ["quota_spent"]
    usages = runtime.admission.usage(terms_of(vivo, now_ms()))
    spent = {usage.bucket: usage.limit == usage.used for usage in usages}
    assert spent == {Bucket.PUBLIC: True, Bucket.PRIVATE: False}


def test_the_vendors_numbers_are_taken_over(runtime: Runtime, lane: MakeLane) -> None:
    xiaomi = lane(Vendor.XIAOMI, {})
    data = {"id": "x1", "day_quota": "50000", "day_acked": "123"}
    done = said(200, {"code": 0, "result": "ok", "data": data})
    round_of(runtime, xiaomi, [work(1)], done)
    usage = runtime.admission.usage(terms_of(xiaomi, now_ms()))[1]
    assert (usage.used, usage.limit) == (123, 50_000)


def test_numbers_of_the_public_day_say_nothing_about_the_private_one(
    runtime: Runtime, lane: MakeLane
) -> None:
    xiaomi = lane(Vendor.XIAOMI, {"quota": {"private": 50_000}}, "xiaomi.private")
    data = {"id": "x1", "day_quota": "20000", "day_acked": "20000"}
    done = said(200, {"code": 0, "result": "ok", "data": data})
    round_of(runtime, xiaomi, [work(1, MessageClass.CHAT)], done)
    usage = runtime.admission.usage(terms_of(xiaomi, now_ms()))[0]
    assert (usage.bucket, usage.used, usage.limit) == (Bucket.PRIVATE, 1, 50_000)


def test_receipts_close_the_day_of_a_device_and_of_the_public_class(
    runtime: Runtime, gate: FleetGate, lane: MakeLane
) -> None:
    xiaomi, now, public = lane(Vendor.XIAOMI, {}, "xiaomi.private"), now_ms(), Bucket.PUBLIC
    yesterday = now - 86_400_000
    first, second = work(1), work(2)
    gate.report_receipts(
        xiaomi, public, [(first.target.token, now), (second.target.token, yesterday)], [yesterday]
    )
    assert admit(gate, xiaomi, [first, second]) == [Decision.DEVICE_CAP, None]
    gate.report_receipts(xiaomi, Bucket.PRIVATE, [(first.target.token, now)], [now])
    gate.report_receipts(xiaomi, public, [], [now])
    found = admit(gate, xiaomi, [work(3), work(4, MessageClass.CHAT)])
    assert found == [Decision.QUOTA_SPENT, None]


def test_what_was_not_taken_is_given_back(runtime: Runtime, lane: MakeLane) -> None:
    xiaomi = lane(Vendor.XIAOMI, {"quota": {"public": 1}})
    found = round_of(runtime, xiaomi, [work(1)], said(503, {})).outcomes[0][1].verdict
    assert found == "unavailable"
    assert runtime.admission.usage(terms_of(xiaomi, now_ms()))[1].used == 0
    assert runtime.admission.in_flight(xiaomi.id) == 0
    again = round_of(
        runtime, xiaomi, [work(2)], said(200, {"code": 0, "result": "ok", "data": {"id": "x1"}})
    )
    assert again.outcomes[0][1].verdict == "accepted"


def test_when_the_vendor_takes_no_more_lists_the_rest_of_the_day_goes_singly(
    runtime: Runtime, lane: MakeLane
) -> None:
    vivo = lane(Vendor.VIVO, {}, "vivo.system")
    one = work(0, MessageClass.CHAT)
    works = [PendingPush(one.entry, one.note, work(i).target) for i in range(1, 41)]
    first = Paths({"/message/saveListPayload": {"result": 10252}})
    world = replace(runtime.delivery(Vendor.VIVO), transport=first, access=first.access(runtime))
    told = deliver(works[:20], vivo, world).outcomes
    assert {(outcome.again, outcome.lists_spent) for _, outcome in told} == {("singly", True)}
    second = Paths({"/message/send": {"result": 0, "taskId": "1"}})
    world = replace(runtime.delivery(Vendor.VIVO), transport=second, access=second.access(runtime))
    found = {outcome.verdict for _, outcome in deliver(works[20:], vivo, world).outcomes}
    assert found == {"accepted"}
    assert Counter(second.paths) == {"/message/send": 20}


LISTS = {
    "the body was not saved": (
        {"/message/saveListPayload": NoAnswer("timeout", sent=True)},
        "unavailable",
    ),
    "it was, and then silence": (
        {
            "/message/saveListPayload": {"result": 0, "taskId": "1"},
            "/message/pushToList": NoAnswer("timeout", sent=True),
        },
        "uncertain",
    ),
}


@pytest.mark.parametrize(("answers", "verdict"), LISTS.values(), ids=LISTS)
def test_only_the_second_half_of_a_list_may_have_been_seen(
    runtime: Runtime, lane: MakeLane, answers: Any, verdict: str
) -> None:
    one, vendor = work(0, MessageClass.CHAT), Paths(answers)
    world = replace(runtime.delivery(Vendor.VIVO), transport=vendor, access=vendor.access(runtime))
    works = [PendingPush(one.entry, one.note, work(i).target) for i in range(1, 21)]
    told = deliver(works, lane(Vendor.VIVO, {}, "vivo.system"), world).outcomes
    assert [outcome.verdict for _, outcome in told] == [verdict] * 20


class Paths(Vendor1):
    """Answers by path, and remembers them; access tokens as one likes."""

    def __init__(self, answers: dict[str, Any]) -> None:
        super().__init__()
        self.says = {"/message/auth": {"result": 0, "authToken": "t"}, **answers}
        self.paths: list[str] = []

    def send_many(
        self, route: Route, requests: Sequence[Request], deadline_s: float
    ) -> Sequence[HttpResponse | NoAnswer]:
        self.paths += [request.path for request in requests if request.path != "/message/auth"]
        return [
            told if isinstance(told := self.says[request.path], NoAnswer) else said(200, told)
            for request in requests
        ]

    def access(self, runtime: Runtime) -> FleetAccess:
        return FleetAccess(
            AccessStore(runtime.redis, runtime.keys, runtime.vault), self, now_ms, time.sleep, 1.0
        )


class Stubborn(Vendor1):
    """Gives access tokens, and then says that they are none."""

    def send_many(
        self, route: Route, requests: Sequence[Request], deadline_s: float
    ) -> Sequence[HttpResponse | NoAnswer]:
        self.asked += len(requests)
        token = {"result": 0, "authToken": f"t{self.asked}"}
        return [
            said(200, token if request.path == "/message/auth" else {"result": 10000})
            for request in requests
        ]


def test_a_new_access_token_that_is_refused_too_stops_the_lane(
    runtime: Runtime, lane: MakeLane
) -> None:
    vivo, vendor = lane(Vendor.VIVO, {}, "vivo.system"), Stubborn()
    usual = runtime.delivery(Vendor.VIVO)
    access = FleetAccess(
        AccessStore(runtime.redis, runtime.keys, runtime.vault), vendor, now_ms, time.sleep, 1.0
    )
    world = replace(usual, transport=vendor, access=access)

    def tried(one: PendingPush) -> PendingPush:
        settled = settle(deliver([one], vivo, world), vivo, now_ms(), None, lambda: 0.5)
        (wait,) = settled.waits
        return PendingPush(one.entry, one.note, wait.target)

    time.sleep(0.002)
    once = tried(work(1, MessageClass.CHAT))
    assert runtime.lane_states.peek(vivo.id).state == "flowing"
    time.sleep(0.002)
    twice = tried(once)
    assert runtime.lane_states.peek(vivo.id).why == "credential_refused"
    assert [attempt.code for attempt in twice.target.attempts] == ["10000", "10000"]
    parked = deliver([work(2, MessageClass.CHAT)], vivo, world)
    assert [decision for _, decision in parked.on_hold] == [Decision.CREDENTIAL_REFUSED]


def test_flow_control_slows_the_lane_and_its_retry_after_holds_it(
    runtime: Runtime, lane: MakeLane
) -> None:
    xiaomi = lane(Vendor.XIAOMI, {})
    round_of(runtime, xiaomi, [work(1)], said(429, {}, retry_after="20"))
    assert runtime.admission.rate_now(terms_of(xiaomi, now_ms())) == 0
    one = work(2)
    pushes = [Push(note=one.note, targets=(one.target,))]
    parked = packed(pushes, xiaomi.credential.business_id, Vendor.XIAOMI, by_entry=False)
    queue(runtime, [parked], Urgency.BULK)
    (taken,) = runtime.lane_queues.take([(xiaomi.id, Urgency.BULK, lane_terms(xiaomi), 10)], 15)
    assert (taken.what, taken.why) == ("wait", "throttled")
    assert taken.due_ms - taken.now_ms == pytest.approx(20_000, abs=2_000)


def test_a_probe_that_never_left_is_given_back_to_the_fleet(
    runtime: Runtime, lane: MakeLane
) -> None:
    xiaomi = lane(Vendor.XIAOMI, {"quota": {"public": 0}})
    runtime.lane_states.tell(xiaomi.id, xiaomi.credential.version, 0, 20, refused=False)
    runtime.redis.hset(runtime.keys.lane(xiaomi.id), "until", "0")
    done = round_of(runtime, xiaomi, [work(1)])
    assert [decision for _, decision, _ in done.decided] == [Decision.QUOTA_SPENT]
    assert runtime.lane_states.ask(xiaomi.id, xiaomi.credential.version).probe


def test_an_account_that_is_removed_and_added_again_has_nothing_of_the_one_before(
    runtime: Runtime, lane: MakeLane, space: str
) -> None:
    """A lane that the old one stopped is tried at once; its access token and its connections are
    not used.
    """
    old = lane(Vendor.VIVO, {})
    runtime.lane_states.tell(old.id, old.credential.version, good=0, failed=0, refused=True)
    assert not runtime.lane_states.ask(old.id, old.credential.version).probe
    runtime.credentials.remove("demo", "vivo", space)
    new = lane(Vendor.VIVO, {})
    assert new.id == old.id
    assert new.credential.version > old.credential.version
    assert new.route.pool != old.route.pool
    assert runtime.lane_states.ask(new.id, new.credential.version).probe
