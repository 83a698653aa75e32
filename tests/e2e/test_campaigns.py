"""Campaigns against the running fleet: ill vendors beside healthy ones, a huge group beside chats, traffic that a strict vendor would ban.

Short by default; PUSHFLEET_TEST_LONG=1 plays them at full length (100,000 members, a minute of chats).
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import text

from common.metrics import LANE_STATE
from common.model import Bucket, MessageClass, Vendor
from tests.conftest import open_folder
from tests.e2e.conftest import Core, now_ms, wait_for
from tests.e2e.house import BUSINESS, House, new_token
from tests.e2e.test_urgency import sims
from workers.gate import terms_of
from workers.lane_report import lane_row
from workers.upkeep import Upkeep

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(3_600 if "PUSHFLEET_TEST_LONG" in os.environ else 300)]

LONG = os.environ.get("PUSHFLEET_TEST_LONG") == "1"
#: Chats of one lane in one look at its latency.
CHATS = 600 if LONG else 40
MEMBERS = 100_000 if LONG else 5_000
CHAT_EVERY_S = 0.05
HONEST: dict[str, Any] = {"no_answer": 0.0, "status": 0, "status_share": 0.0, "over_quota": False}


@pytest.fixture(scope="module")
def house(fleet: Core) -> Iterator[House]:
    with open_folder() as folder:
        yield House(fleet, folder)


class Crowd:
    """Many people of one house, each with one phone; what they are sent and what became of it, in few queries."""

    def __init__(self, house: House) -> None:
        self.house, self.redis = house, house.core.redis
        self.sent: dict[str, list[str]] = {}

    def people(self, vendor: str, count: int, first: str = "c") -> list[str]:
        names = [f"{first}-{vendor}-{number}-{time.monotonic_ns() % 10**9}" for number in range(count)]
        for name in names:
            data = {"user": name, "device_id": "phone", "platform": "android", "vendor": vendor, "token": new_token(vendor)}
            self._publish("device.registered", {**data, "business_id": BUSINESS[vendor]})
        wait_for(lambda: not self.redis.xlen("im:events"), "everybody is registered", 120)
        return names

    def chat(self, name: str, to: Sequence[str], every_s: float = 0.0, **push: Any) -> None:
        """One message to each; each from a person of its own, so that each is a conversation of its own."""
        for user in to:
            message_id = f"m-{time.time_ns()}"
            data = self.house.message(f"s-{user}", user, message_id=message_id, push={"ttl_s": 600, **push})
            self.sent.setdefault(name, []).append(self._publish("message.stored", data))
            if every_s:
                time.sleep(every_s)

    def rows(self, name: str) -> list[Any]:
        query = (
            "SELECT l.decision, l.decided_ms - e.received_ms AS ms, l.class_sent, l.downgraded FROM ledger l"
            " JOIN events e USING (day, app, event_id) WHERE l.app = :app AND l.event_id = ANY(:ids)"
        )
        with self.house.core.runtime.engine.connect() as connection:
            return list(connection.execute(text(query), {"app": self.house.app, "ids": self.sent[name]}))

    def count(self, name: str) -> int:
        """Decided rows."""
        query = "SELECT count(decision) FROM ledger WHERE app = :app AND event_id = ANY(:ids)"
        with self.house.core.runtime.engine.connect() as connection:
            return int(connection.execute(text(query), {"app": self.house.app, "ids": self.sent[name]}).scalar_one())

    def decided(self, name: str, seconds: float = 60.0) -> Counter[str]:
        """Decisions, once each message has one."""
        wanted = len(self.sent[name])
        wait_for(lambda: self.count(name) >= wanted, f"all of {name} are decided", seconds)
        return Counter(row.decision for row in self.rows(name))

    def p99_ms(self, name: str) -> float:
        times = sorted(row.ms for row in self.rows(name))
        return float(times[min(int(len(times) * 0.99), len(times) - 1)])

    def _publish(self, kind: str, data: dict[str, Any]) -> str:
        return self.house.core.publish(kind, data, app=self.house.app)


@pytest.fixture
def crowd(house: House) -> Crowd:
    return Crowd(house)


@pytest.fixture
def ill(house: House, fleet: Core) -> Iterator[Callable[..., None]]:
    """ill(vendor, **faults); everybody is well again afterwards, and what they said of our quota is forgotten."""
    touched = set()

    def make(vendor: str, **faults: Any) -> None:
        touched.add(vendor)
        sims(fleet, vendor, "faults", faults or HONEST)

    yield make
    for vendor in touched:
        sims(fleet, vendor, "faults", HONEST)
        lane = fleet.runtime.catalog.lane(house.app, Vendor(vendor), BUSINESS[vendor])
        assert lane is not None
        for bucket in Bucket:
            fleet.runtime.admission.told_open(terms_of(lane, now_ms()), bucket)


def no_slower(ill_ms: float, well_ms: float) -> bool:
    """Generous: the machine of a test run is shared. A lane that waited for another's deadline would be slower by ten seconds."""
    return ill_ms <= max(5 * well_ms, well_ms + 3_000)


def test_three_ill_vendors_cost_the_others_nothing_and_their_pushes_leave_afterwards(
    house: House, crowd: Crowd, ill: Callable[..., None]
) -> None:
    well = {vendor: crowd.people(vendor, CHATS) for vendor in ("apns", "fcm", "xiaomi")}
    sick = {vendor: crowd.people(vendor, 30) for vendor in ("huawei", "honor", "oppo")}
    for vendor, people in well.items():
        crowd.chat(f"{vendor} before", people)
    before = {vendor: (crowd.decided(f"{vendor} before"), crowd.p99_ms(f"{vendor} before"))[1] for vendor in well}

    ill("huawei", no_answer=1.0)
    ill("honor", status=503, status_share=1.0)
    ill("oppo", over_quota=True)
    for vendor, people in sick.items():
        crowd.chat(vendor, people)
    for vendor, people in well.items():
        crowd.chat(f"{vendor} beside", people)
    for vendor in well:
        assert crowd.decided(f"{vendor} beside") == Counter(accepted=CHATS)
        assert no_slower(crowd.p99_ms(f"{vendor} beside"), before[vendor]), (vendor, crowd.p99_ms(f"{vendor} beside"), before[vendor])
    lane = stopped_lane(house, "honor")
    others = crowd.people("honor", 10, "late")
    crowd.chat("honor bulk", sick["honor"][:20], **{"class": "marketing"})
    crowd.chat("honor late", others)
    crowd.chat("honor again", others)
    wait_for(lambda: lane_row(house.core.runtime, lane)["parked"] >= 60, "all of them are parked")

    ill("huawei")
    ill("honor")
    first = len(house.core.record("honor"))
    assert crowd.decided("honor", 90) == Counter(accepted=30)
    assert crowd.decided("honor late") == Counter(folded=10)
    assert crowd.decided("honor again") == Counter(accepted=10), "which speaks for both"
    assert crowd.decided("honor bulk") == Counter(accepted=20)
    assert mean_place(house, first, "private") < mean_place(house, first, "public") + CHATS, "chats did not wait for the campaign"
    assert crowd.decided("oppo") == Counter(quota_spent=30)
    huawei = crowd.decided("huawei", 90)
    assert set(huawei) <= {"accepted", "uncertain"}
    assert sum(huawei.values()) == 30
    wait_for(lambda: lane_row(house.core.runtime, lane)["state"] == "flowing", "the lane flows again")
    assert shown_state(house, "honor") == 0


def stopped_lane(house: House, vendor: str) -> Any:
    """The vendor's lane, once it has stopped; what an operator is shown of it is true."""
    runtime = house.core.runtime
    lane = runtime.catalog.lane(house.app, Vendor(vendor), BUSINESS[vendor])
    assert lane is not None
    wait_for(lambda: lane_row(runtime, lane)["state"] == "stopped" and lane_row(runtime, lane)["parked"] >= 20, f"{vendor} is stopped")
    row = lane_row(runtime, lane)
    assert (row["rate"], row["rate_now"]) == (lane.limits.rate_per_s, lane.limits.rate_per_s)
    assert row["parked"] <= 30
    assert {quota["bucket"]: quota["used"] for quota in row["quotas"]} == {"private": 0, "public": 0}, "what was not taken was given back"
    assert shown_state(house, vendor) in (1, 2)
    return lane


def shown_state(house: House, vendor: str) -> int:
    """What pushfleet_lane_state says, as upkeep sets it."""
    Upkeep(house.core.runtime, lambda: True)._show_lanes()
    return int(LANE_STATE.labels(house.app, vendor, BUSINESS[vendor])._value.get())


def mean_place(house: House, first: int, bucket: str) -> float:
    """Where in the vendor's record, from its `first` line on, the pushes of this bucket stand on average."""
    places = [place for place, line in enumerate(house.core.record("honor")[first:]) if line["class"] == bucket]
    return sum(places) / len(places)


def test_a_huge_group_does_not_delay_the_chats_beside_it(house: House, crowd: Crowd) -> None:
    friends = crowd.people("apns", CHATS, "friend")
    group = f"crowd-{now_ms()}"
    members = crowd.people("apns", MEMBERS, "m")
    for start in range(0, len(members), 5_000):
        house.core.redis.sadd(f"im:members:{{{house.app}:{group}}}", *members[start : start + 5_000])
    crowd.chat("alone", friends, CHAT_EVERY_S)
    crowd.decided("alone")
    data = house.message("shouter", "", conversation={"type": "group", "id": group, "name": "Everybody"})
    del data["recipients"]
    crowd.sent["group"] = [house.core.publish("message.stored", data, app=house.app)]
    crowd.chat("beside", friends, CHAT_EVERY_S)
    assert crowd.decided("beside") == Counter(accepted=CHATS)
    alone, beside = crowd.p99_ms("alone"), crowd.p99_ms("beside")
    assert beside <= max(10 * alone, alone + 4_000), (alone, beside)

    wait_for(lambda: crowd.count("group") == MEMBERS, "the whole group", 1_200 if LONG else 90)
    assert Counter(row.decision for row in crowd.rows("group")) == Counter(accepted=MEMBERS)


@pytest.mark.parametrize("vendor", ["huawei", "honor", "xiaomi", "oppo", "vivo", "meizu"])
def test_a_vendor_that_bans_misclassed_traffic_finds_none(house: House, crowd: Crowd, fleet: Core, vendor: str) -> None:
    lane = fleet.runtime.catalog.lane(house.app, Vendor(vendor), BUSINESS[vendor])
    assert lane is not None
    options = lane.credential.options
    names = {"huawei": "app_id", "honor": "app_id", "vivo": "app_id", "meizu": "app_id", "oppo": "app_key", "xiaomi": "package"}
    sims(fleet, vendor, "guard", {"ban": True})
    sims(fleet, vendor, "accounts", {"account": options[names[vendor]], "rights": sorted(lane.credential.rights)})
    before = counted(fleet, vendor)
    people = crowd.people(vendor, len(MessageClass), "class")
    try:
        for user, message_class in zip(people, MessageClass, strict=True):
            text_ = "[AD] weekend sale" if message_class in ("marketing", "social", "news", "content") else "see you at eight"
            push = {"class": str(message_class), "display": {"body": text_}}
            crowd.chat(f"{vendor} {message_class}", [user], **push)
        for message_class in MessageClass:
            assert crowd.decided(f"{vendor} {message_class}") == Counter(accepted=1), message_class
    finally:
        sims(fleet, vendor, "guard", {"ban": False})
    after = counted(fleet, vendor)
    assert after.get("misclassed", 0) == before.get("misclassed", 0)
    assert after["accepted"] >= before.get("accepted", 0) + len(MessageClass)


def counted(fleet: Core, vendor: str) -> dict[str, int]:
    return dict(sims(fleet, vendor, "stats", {})["counts"])
