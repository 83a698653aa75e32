"""After an outage: what folds, what leaves first, what was too late; and the numbers an operator is
shown meanwhile.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from common.model import Vendor
from common.storage.backlog import COALESCE_AFTER_MS
from tests.e2e.conftest import Core, now_ms, token, wait_for
from tests.e2e.operator import message, register, simulator
from workers.cli.why import message_trace

pytestmark = [pytest.mark.e2e]


def pause(fleet: Core, app: str, paused: bool) -> None:
    fleet.runtime.credentials.set_paused(app, Vendor.APNS, "ios", paused)
    fleet.runtime.catalog.changed()


def paused_lane(fleet: Core, app: str) -> None:
    """Pauses the lane and waits until a push was really held behind it; none waits afterwards."""
    pause(fleet, app, True)

    def holds() -> bool:
        probe = message("prober", "probe", push={"ttl_s": 1})
        fleet.publish("message.stored", probe, app=app)
        told = fleet.why(probe["message_id"], app)["recipients"]  # none: read after its second
        return bool(told) and told[0]["decision"] == "lane_paused"

    wait_for(holds, "the pause has come through")


def outage_lasts(received_by_ms: int) -> None:
    """Until a backlog whose first push was received by then is old enough to fold."""
    time.sleep(max(received_by_ms + COALESCE_AFTER_MS + 250 - now_ms(), 0) / 1000)


def lines_of_ann(count: int, to: str = "u2") -> list[dict[str, Any]]:
    return [
        message(to, "ann", elements=[{"type": "text", "text": f"line {index}"}])
        for index in range(count)
    ]


def alerts(fleet: Core, token: str) -> list[str]:
    return [push["body"]["aps"]["alert"]["body"] for push in fleet.pushes_to("apns", token)]


def decision(fleet: Core, app: str, data: dict[str, Any]) -> str:
    (row,) = fleet.why(data["message_id"], app)["recipients"]
    return str(row["decision"])


@dataclass
class Backlog:
    """What three people were sent while their lane was paused for long enough to fold it."""

    app: str
    of_ann: list[dict[str, Any]]
    of_eve: dict[str, Any]
    recalled: list[dict[str, Any]]
    short: dict[str, Any]
    phones: dict[str, str]
    early: list[str]


@pytest.fixture(scope="module")
def backlog(fleet: Core, tenants: Iterator[str]) -> Backlog:
    """One outage for all that is told of it."""
    app = next(tenants)
    users = ("u2", "u3", "u4", "prober")
    phones = {user: register(fleet, app, user, "apns", "ios", token()) for user in users}
    paused_lane(fleet, app)
    of_ann, recalled = lines_of_ann(5), lines_of_ann(3, "u3")
    of_eve = message("u2", "eve", elements=[{"type": "text", "text": "just me"}])
    for index, data in enumerate([*of_ann, of_eve, *recalled]):
        fleet.publish("message.stored", data, app=app, ts=now_ms() + index)
    short = message("u4", "ann", push={"ttl_s": 8})
    fleet.publish("message.stored", short, app=app)
    fleet.settled()
    wait_for(lambda: all(waits(fleet, app, one) for one in recalled), "the backlog")
    names = {name: recalled[2][name] for name in ("message_id", "conversation")}
    fleet.publish("message.recalled", names, app=app)
    fleet.settled()
    wait_for(lambda: all(waits(fleet, app, one) for one in [*of_ann, of_eve]), "the backlog")
    outage_lasts(now_ms())
    waiting = [phone for user, phone in phones.items() if user != "prober"]
    early = [alert for phone in waiting for alert in alerts(fleet, phone)]
    late = lines_of_ann(6)[-1]
    fleet.publish("message.stored", late, app=app)
    fleet.settled()
    wait_for(lambda: waits(fleet, app, late), "the late one waits too")
    fleet.why(short["message_id"], app)
    pause(fleet, app, False)
    return Backlog(app, [*of_ann, late], of_eve, recalled, short, phones, early)


def test_a_backlog_behind_a_paused_lane_is_one_push_a_conversation(
    fleet: Core, backlog: Backlog
) -> None:
    assert not backlog.early
    found = [decision(fleet, backlog.app, data) for data in backlog.of_ann]
    assert found == ["folded"] * 5 + ["accepted"], "the late one is part of the backlog"
    assert decision(fleet, backlog.app, backlog.of_eve) == "accepted"
    shown = alerts(fleet, backlog.phones["u2"])
    assert sorted(shown) == ["6 new messages: Ann:line 5", "Ann:just me"]


def test_the_newest_that_was_recalled_leaves_the_word_to_the_one_before(
    fleet: Core, backlog: Backlog
) -> None:
    found = [decision(fleet, backlog.app, data) for data in backlog.recalled]
    assert found == ["folded", "accepted", "recalled"]
    assert alerts(fleet, backlog.phones["u3"]) == ["2 new messages: Ann:line 1"]


def test_what_ran_out_of_time_behind_a_paused_lane_is_told_so(
    fleet: Core, backlog: Backlog
) -> None:
    assert decision(fleet, backlog.app, backlog.short) == "lane_paused"
    assert not alerts(fleet, backlog.phones["u4"])


def test_a_burst_of_fresh_messages_is_not_folded(
    fleet: Core, app: str, iphone: Callable[..., str]
) -> None:
    address = iphone("u2")
    burst = lines_of_ann(20)
    for data in burst:
        fleet.publish("message.stored", data, app=app)
    assert {decision(fleet, app, data) for data in burst} == {"accepted"}
    assert len(alerts(fleet, address)) == 20


def test_what_waited_for_a_moment_comes_singly(
    fleet: Core, app: str, iphone: Callable[..., str]
) -> None:
    """A vendor that stumbles for a second is no outage: nobody reads "4 new messages" for it."""
    address = iphone("u2")
    lines = lines_of_ann(4)
    simulator(fleet, "apns", "faults", {"status": 503, "status_share": 1.0})
    try:
        for index, data in enumerate(lines):
            fleet.publish("message.stored", data, app=app, ts=now_ms() + index)
        fleet.settled()
        wait_for(lambda: all(waits(fleet, app, data) for data in lines), "they wait for a retry")
    finally:
        simulator(fleet, "apns", "faults", {"status": 0, "status_share": 0.0})
    assert [decision(fleet, app, data) for data in lines] == ["accepted"] * 4
    assert sorted(alerts(fleet, address)) == [f"Ann:line {index}" for index in range(4)]


def waits(fleet: Core, app: str, data: dict[str, Any]) -> bool:
    """Whether the message's only push met the outage: its row says that it waits."""
    told = message_trace(fleet.runtime, data["message_id"], app, None, None)
    return bool(
        told and told["recipients"] and "waits" in told["recipients"][0]["steps"][-1]["note"]
    )
