"""What people set for themselves holds for the very next message: windows, mutes, blocks, friends,
desktops, forced pushes.
"""

import datetime
import json
from typing import Any

import pytest

from tests.builders import core_event
from tests.e2e.house import decision, now_ms
from tests.e2e.operator import metric
from tests.e2e.town import Town
from tests.tables import table

pytestmark = [pytest.mark.e2e]


def after(town: Town, settings: dict[str, Any], **more: Any) -> str:
    """The decision on a message published right behind these settings, both in one round trip."""
    user = town.person()
    town.register(user, **{key: more.pop(key) for key in ("tz",) if key in more})
    return behind(town, user, settings, **more)


def written(town: Town, events: list[tuple[str, Any]], at_once: bool = False) -> None:
    """As the core writes events, one behind the other. at_once: both are in one read of ours."""
    with town.core.redis.pipeline(transaction=at_once) as pipe:
        for kind, body in events:
            pipe.xadd("im:events", {"e": json.dumps(core_event(town.app, kind, body))})
        pipe.execute()


def behind(town: Town, user: str, settings: dict[str, Any], **more: Any) -> str:
    data = town.of_ann(user, **more)
    events = [("settings.updated", {"user": user, **settings}), ("message.stored", data)]
    written(town, events)
    return decision(town.why(data["message_id"]))


UNKNOWN_ZONES = table("""
    the window's | {"dnd": {"start": "00:00", "end": "00:00", "tz": "Mars/Phobos"}} | {} | dnd
      | Mars/Phobos
    the device's | {"dnd": {"start": "00:00", "end": "00:00"}} | {"tz": "CN"} | dnd | CN
    of no window that is open | {"dnd": {"start": "00:00", "end": "00:01", "tz": "../../etc"}} | {}
      | accepted | ../../etc
""")


@pytest.mark.parametrize(
    ("settings", "more", "decided", "name"), UNKNOWN_ZONES.values(), ids=UNKNOWN_ZONES
)
def test_a_zone_that_nobody_knows_is_counted_and_told(
    town: Town, settings: dict[str, Any], more: dict[str, Any], decided: str, name: str
) -> None:
    before = metric(town.core, "pushfleet_ignored_total", reason="unknown_tz")
    user = town.person()
    town.register(user, **{key: more.pop(key) for key in ("tz",) if key in more})
    town.event("settings.updated", {"user": user, **settings})
    (row,) = town.send(town.of_ann(user, **more))["recipients"]
    words = f"the time zone {name!r} is unknown: the next known one counts for do-not-disturb"
    assert row["decision"] == decided
    assert words in [step["note"] for step in row["steps"]]
    assert metric(town.core, "pushfleet_ignored_total", reason="unknown_tz") == before + 1


LATER = {
    "a mute": {"mute": {"conversation": {"type": "c2c", "id": "ann"}, "mode": "all"}},
    "a window": {"dnd": {"start": "00:00", "end": "00:00", "tz": "UTC"}},
    "a block": {"blocked": ["ann"]},
}


@pytest.mark.parametrize("settings", LATER.values(), ids=LATER)
def test_what_is_set_behind_a_message_in_one_read_is_for_the_next_one(
    town: Town, settings: dict[str, Any]
) -> None:
    user = town.person()
    town.register(user)
    first, second = town.of_ann(user), town.of_ann(user)
    events = [("message.stored", first), ("settings.updated", {"user": user, **settings})]
    written(town, events, at_once=True)
    assert decision(town.why(first["message_id"])) == "accepted"
    town.event("message.stored", second)
    assert decision(town.why(second["message_id"])) in ("muted", "dnd", "blocked")


# ---------------------------------------------------------------- windows


def window(zone: str, begins_min: int, ends_min: int) -> dict[str, str]:
    """A window from so many to so many minutes from now, on the wall clock of a zone."""
    import zoneinfo

    now = datetime.datetime.now(zoneinfo.ZoneInfo(zone))
    window = (begins_min, ends_min)
    clock = [(now + datetime.timedelta(minutes=minutes)).strftime("%H:%M") for minutes in window]
    return {"start": clock[0], "end": clock[1]}


def zone_at(hour: int) -> str:
    """A zone (POSIX names turn the sign around) where it is this hour now."""
    offset = (hour - datetime.datetime.now(datetime.UTC).hour + 11) % 24 - 11
    return f"Etc/GMT{-offset:+d}" if offset else "Etc/GMT"


WINDOWS: dict[str, tuple[str, int, int, str]] = {
    "inside": ("Asia/Shanghai", -60, 60, "dnd"),
    "over": ("Asia/Shanghai", -120, -60, "accepted"),
    "not begun": ("Asia/Shanghai", 60, 120, "accepted"),
    "of another zone": ("America/New_York", -60, 60, "dnd"),
    "across midnight, before it": (zone_at(23), -30, 120, "dnd"),
    "across midnight, after it": (zone_at(0), -120, 90, "dnd"),
    "across midnight, outside": (zone_at(12), 360, -360, "accepted"),
    "the whole day": ("Asia/Tokyo", 0, 0, "dnd"),
}


@pytest.mark.parametrize(("zone", "begins", "ends", "wanted"), WINDOWS.values(), ids=WINDOWS)
def test_a_window_holds_in_its_own_zone_also_across_midnight(
    town: Town, zone: str, begins: int, ends: int, wanted: str
) -> None:
    assert after(town, {"dnd": {**window(zone, begins, ends), "tz": zone}}) == wanted


def test_a_window_without_a_zone_is_read_on_the_devices_clock(town: Town) -> None:
    there = window("America/New_York", -60, 60)
    assert after(town, {"dnd": there}, tz="America/New_York") == "dnd"
    assert after(town, {"dnd": there}, tz="Asia/Shanghai") == "accepted"


# ---------------------------------------------------------------- the others

ANN = {"type": "c2c", "id": "ann"}
OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    **table("""
    another conversation muted
      | {"mute": {"conversation": {"type": "group", "id": "ann"}, "mode": "all"}} | {} | accepted
    blocked | {"blocked": ["eve", "ann"]} | {} | blocked
    another blocked | {"blocked": ["eve"]} | {} | accepted
    blocked, the message respects nothing | {"blocked": ["ann"]}
      | {"push": {"gate": {"respect_dnd": false}}} | blocked
    """),
    "muted": ({"mute": {"conversation": ANN, "mode": "all"}}, {}, "muted"),
    "muted, mode none": ({"mute": {"conversation": ANN, "mode": "none"}}, {}, "accepted"),
    "muted except mentions": ({"mute": {"conversation": ANN, "mode": "mention"}}, {}, "muted"),
    "muted except mentions, all mentioned": (
        {"mute": {"conversation": ANN, "mode": "mention"}},
        {"mentions": ["@all"]},
        "accepted",
    ),
    "muted until a while ago": (
        {"mute": {"conversation": ANN, "mode": "all", "until_ms": 1_700_000_000_000}},
        {},
        "accepted",
    ),
    "muted, the message does not respect it": (
        {"mute": {"conversation": ANN, "mode": "all"}},
        {"push": {"gate": {"respect_dnd": False}}},
        "accepted",
    ),
}


@pytest.mark.parametrize(("settings", "message", "wanted"), OTHERS.values(), ids=OTHERS)
def test_a_setting_holds_for_the_message_right_behind_it(
    town: Town, settings: dict[str, Any], message: dict[str, Any], wanted: str
) -> None:
    assert after(town, settings, **message) == wanted


CLEARED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "window": ({"dnd": {"start": "00:00", "end": "00:00"}}, {"dnd": None}, "dnd"),
    "mute": ({"mute": {"conversation": ANN, "mode": "all"}}, {"mute": None}, "muted"),
    "blocks": ({"blocked": ["ann"]}, {"blocked": None}, "blocked"),
    "blocks, by an empty list": ({"blocked": ["ann"]}, {"blocked": []}, "blocked"),
}


@pytest.mark.parametrize(("first", "then", "wanted"), CLEARED.values(), ids=CLEARED)
def test_null_clears_and_the_next_message_is_pushed(
    town: Town, first: dict[str, Any], then: dict[str, Any], wanted: str
) -> None:
    user = town.person()
    town.register(user)
    assert behind(town, user, first) == wanted
    assert behind(town, user, then) == "accepted"


def test_an_older_setting_that_comes_late_changes_nothing(town: Town) -> None:
    user = town.person()
    town.register(user)
    ts = now_ms()
    town.event("settings.updated", {"user": user, "dnd": None, "mute": None, "blocked": []}, ts=ts)
    mute = {"conversation": ANN, "mode": "all"}
    late = {"dnd": {"start": "00:00", "end": "00:00"}, "mute": mute, "blocked": ["ann"]}
    town.event("settings.updated", {"user": user, **late}, ts=ts - 1000)
    assert decision(town.send(town.of_ann(user))) == "accepted"


def test_a_message_for_friends_asks_the_receivers_own_list(town: Town) -> None:
    user = town.person()
    town.register(user)
    wants = {"push": {"gate": {"require_friend": True}}}
    assert decision(town.send(town.of_ann(user, **wants))) == "not_friend"
    town.core.redis.sadd(f"im:friends:{{{town.app}:{user}}}", "ann")
    assert decision(town.send(town.of_ann(user, **wants))) == "accepted"


def test_phones_are_held_back_only_while_a_desktop_is_in_front_and_only_by_wish(town: Town) -> None:
    user = town.person()
    town.register(user)
    assert behind(town, user, {"mobile_when_desktop_online": False}) == "accepted"
    for platform in ("windows", "mac", "linux", "web"):
        town.core.presence(town.app, user, "desk", "foreground", platform)
        assert decision(town.send(town.of_ann(user))) == "online_elsewhere"
    town.core.presence(town.app, user, "desk", "background", "mac")
    assert decision(town.send(town.of_ann(user))) == "accepted"
    town.core.presence(town.app, user, "desk", "foreground", "ipad")
    assert decision(town.send(town.of_ann(user))) == "accepted"
    town.core.presence(town.app, user, "desk", "foreground", "mac")
    assert behind(town, user, {"mobile_when_desktop_online": True}) == "accepted"


def test_a_forced_push_reaches_those_in_its_list_with_its_own_text(town: Town) -> None:
    people = {name: town.person(name) for name in ("muted", "window", "blocks", "unlisted", "open")}
    tokens = {name: town.register(user) for name, user in people.items()}
    group = town.person("g")
    conversation = {"type": "group", "id": group, "name": "Team"}
    mute = {"mute": {"conversation": {"type": "group", "id": group}, "mode": "all"}}
    wishes: dict[str, dict[str, Any]] = {
        "muted": mute,
        "window": {"dnd": {"start": "00:00", "end": "00:00"}},
        "blocks": {**mute, "blocked": ["ann"]},
        "unlisted": mute,
    }
    for name, wish in wishes.items():
        town.event("settings.updated", {"user": people[name], **wish})
    town.core.redis.sadd(f"im:members:{{{town.app}:{group}}}", *people.values())
    listed = [people[name] for name in ("muted", "window", "blocks")]
    force = {"on": True, "ids": listed, "body": "紧急通知"}
    push = {"force": force, "display": {"body": "普通通知"}}
    told = town.send(town.of_ann(None, conversation=conversation, push=push), rows=5)
    decisions = {row["user"]: row["decision"] for row in told["recipients"]}
    wanted = {
        "muted": "accepted",
        "window": "accepted",
        "blocks": "blocked",
        "unlisted": "muted",
        "open": "accepted",
    }
    assert decisions == {people[name]: one for name, one in wanted.items()}
    shown = {
        name: [push["body"]["aps"]["alert"]["body"] for push in town.pushes(token)]
        for name, token in tokens.items()
    }
    assert shown == {
        "muted": ["紧急通知"],
        "window": ["紧急通知"],
        "blocks": [],
        "unlisted": [],
        "open": ["普通通知"],
    }
