"""Who counts as away: by the sessions of the moment when the message was stored."""

from typing import Any

import msgspec
import pytest

from common.model import Decision
from common.ports import Session
from tests.unit.routing.builders import NOW_MS, device, message
from workers.presence.absence import in_front, judge

PHONE, PAD = device(device_id="phone"), device(device_id="pad")
FRONT, BACK = Session("phone", True, "ios"), Session("phone", False, "ios")


def rows(verdicts: Any) -> list[tuple[str | None, Decision]]:
    return [(one.device_id if one else None, decision) for one, decision in verdicts.rows]


STATES = {
    "in front, since when nobody says": (Session("phone", True, "ios"), True),
    "in front since before the message": (Session("phone", True, "ios", NOW_MS), True),
    "in front since after it": (Session("phone", True, "ios", NOW_MS + 1), False),
    "in the background": (Session("phone", False, "ios"), False),
    "in the background since after it": (Session("phone", False, "ios", NOW_MS + 1), True),
}


@pytest.mark.parametrize(("session", "front"), STATES.values(), ids=STATES)
def test_a_state_that_began_after_the_message_is_not_that_of_its_moment(session, front):
    assert in_front(session, NOW_MS) is front


@pytest.mark.parametrize(
    ("after_ms", "received_ms", "online"),
    [
        (400, 720, True),  # the message is of .4 to .72: whoever looked since .4 sees it
        (400, 399, False),  # it was on the stream before that
        (999, 5_000, True),
        (1_000, 5_000, False),
    ],
)
def test_a_message_of_whole_seconds_may_be_of_any_millisecond_of_it(after_ms, received_ms, online):
    whole = NOW_MS // 1000 * 1000
    stored = msgspec.structs.replace(message(), ts_ms=whole, received_ms=whole + received_ms)
    since = Session("phone", True, "ios", whole + after_ms)
    assert (judge(stored, "bob", [since], [PHONE]).away is None) is online
    assert (judge(stored, "bob", [since], []).rows != ()) is online


def test_the_senders_own_devices_get_nothing():
    found = rows(judge(message(), "ann", [BACK], [PHONE, PAD]))
    assert found == [("phone", Decision.SENDER), ("pad", Decision.SENDER)]
    assert rows(judge(message(), "ann", [], [])) == [(None, Decision.SENDER)]


def test_each_device_is_judged_by_its_own_session():
    verdicts = judge(message(), "bob", [FRONT], [PHONE, PAD])
    assert rows(verdicts) == [("phone", Decision.ONLINE)]
    assert verdicts.away is not None
    assert [one.device_id for one in verdicts.away.devices] == ["pad"]
    assert judge(message(), "bob", [FRONT], [PHONE]).away is None


def test_a_gateway_may_know_a_device_by_its_push_id():
    named = device(device_id="phone", push_id="p1")
    found = rows(judge(message(), "bob", [Session("p1", True, "ios")], [named]))
    assert found == [("phone", Decision.ONLINE)]
    assert judge(message(), "bob", [Session("p1", False, "ios")], [named]).away is not None


@pytest.mark.parametrize(
    ("platform", "front", "desktop"),
    [("mac", True, True), ("web", True, True), ("mac", False, False), ("ipad", True, False)],
)
def test_a_desktop_counts_only_in_front(platform, front, desktop):
    away = judge(message(), "bob", [Session("desk", front, platform)], [PHONE]).away
    assert away is not None
    assert away.desktop is desktop


def test_one_without_a_device_is_looked_at_twice():
    assert judge(message(), "bob", [], []).waits
    found = rows(judge(msgspec.structs.replace(message(), second_look=True), "bob", [], []))
    assert found == [(None, Decision.NO_DEVICE)]
    assert rows(judge(message(), "bob", [FRONT], [])) == [(None, Decision.ONLINE)]
