"""Who wants no push: blocks, friends, mutes, do-not-disturb windows; and what goes through in spite
of them.
"""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.model import Decision, Kind
from tests.unit.routing.builders import NOW_MS, device, group, message, who
from workers.routing.consent import disturbed, muted, named_by, refusal, unknown_zone

SHANGHAI = ZoneInfo("Asia/Shanghai")


def at(clock: str, zone: str = "Asia/Shanghai", day: str = "2025-11-22") -> int:
    return int(
        datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000
    )


def refused(
    about: Any,
    settings: dict[str, Any],
    now_ms: int = NOW_MS,
    friend: bool = True,
    desktop: bool = False,
    tenant_tz: str = "Asia/Shanghai",
    **of_device: Any,
) -> Any:
    return refusal(
        about, who(device(**of_device), desktop=desktop), settings, friend, tenant_tz, now_ms
    )


WINDOWS = {
    "before it begins": ("09:59", "10:00", "12:00", False),
    "the first minute": ("10:00", "10:00", "12:00", True),
    "inside": ("11:59:59", "10:00", "12:00", True),
    "the last minute is not in it": ("12:00", "10:00", "12:00", False),
    "across midnight, evening": ("23:30", "22:00", "07:00", True),
    "across midnight, night": ("00:00", "22:00", "07:00", True),
    "across midnight, morning": ("07:00", "22:00", "07:00", False),
    "across midnight, day": ("21:59", "22:00", "07:00", False),
    "start and end the same: the whole day": ("03:00", "08:00", "08:00", True),
}


@pytest.mark.parametrize(("clock", "start", "end", "held"), WINDOWS.values(), ids=WINDOWS)
def test_a_window_holds_from_its_start_to_before_its_end(clock, start, end, held):
    assert disturbed({"start": start, "end": end}, SHANGHAI, at(clock)) is held


def test_no_window_disturbs_nobody():
    assert not disturbed(None, SHANGHAI, NOW_MS)


@given(start=st.integers(0, 1439), length=st.integers(1, 1439), minute=st.integers(0, 1439))
def test_a_window_holds_exactly_its_own_minutes(start, length, minute):
    def clock(value: int) -> str:
        return f"{value % 1440 // 60:02d}:{value % 60:02d}"

    held = disturbed(
        {"start": clock(start), "end": clock(start + length)}, SHANGHAI, at(clock(minute))
    )
    assert held is ((minute - start) % 1440 < length)


NIGHT = {"start": "22:00", "end": "07:00"}


def zone(
    now_ms: int,
    *,
    tz: str | None = None,
    device: str | None = None,
    tenant: str = "Asia/Shanghai",
    held: bool = True,
) -> tuple[dict[str, Any], dict[str, Any], str, int, bool]:
    """A row of ZONES: whose zone is which, and whether a push is held then."""
    window = NIGHT if tz is None else {**NIGHT, "tz": tz}
    return window, {} if device is None else {"tz": device}, tenant, now_ms, held


ZONES: dict[str, tuple[dict[str, Any], dict[str, Any], str, int, bool]] = {
    "its own zone": zone(at("23:00", "Europe/Berlin"), tz="Europe/Berlin"),
    "its own zone, before the device's": zone(
        at("23:00"), tz="Europe/Berlin", device="Asia/Shanghai", tenant="UTC", held=False
    ),
    "the device's": zone(at("23:00", "America/New_York"), device="America/New_York"),
    "the tenant's": zone(at("22:30", "Asia/Tokyo"), tenant="Asia/Tokyo"),
    "a name nobody knows: the next one": zone(
        at("22:30", "Asia/Tokyo"), tz="Mars/Base", device="../etc/passwd", tenant="Asia/Tokyo"
    ),
    "a phone's own way, west": zone(at("23:00", "Etc/GMT+5"), device="GMT-05:00"),
    "a phone's own way, without a colon": zone(
        at("22:00", "Asia/Kolkata"), device="GMT+0530", tenant="UTC"
    ),
    "an offset": zone(at("22:00"), tz="+08:00", tenant="UTC"),
    "hours alone": zone(at("21:59"), tz="UTC+8", tenant="UTC", held=False),
    "an offset that no place has": zone(
        at("22:30", "Asia/Tokyo"), tz="+99:00", tenant="Asia/Tokyo"
    ),
    "a folder is no zone": zone(at("22:30", "Asia/Tokyo"), tz="Asia", tenant="Asia/Tokyo"),
    "nothing known: Shanghai": zone(at("22:30"), device="?", tenant="?"),
}


@pytest.mark.parametrize(("dnd", "of_device", "tz", "now_ms", "held"), ZONES.values(), ids=ZONES)
def test_a_window_is_read_in_its_own_zone_then_the_devices_then_the_tenants(
    dnd, of_device, tz, now_ms, held
):
    found = refused(message(), {"dnd": dnd}, now_ms, tenant_tz=tz, **of_device)
    assert found == (Decision.DND if held else None)


def test_a_window_keeps_its_wall_clock_through_a_change_to_summer_time():
    zone = ZoneInfo("Europe/Berlin")
    window = {"start": "02:00", "end": "04:00"}
    assert disturbed(window, zone, at("03:30", "Europe/Berlin", "2026-03-29"))
    assert not disturbed(window, zone, at("01:59", "Europe/Berlin", "2026-03-29"))
    assert disturbed(window, zone, at("02:30", "Europe/Berlin", "2026-10-25"))


MUTES = {
    "not muted": (None, (), False),
    "all": ({"mode": "all"}, (), True),
    "all, and mentioned": ({"mode": "all"}, ("bob",), True),
    "none": ({"mode": "none"}, (), False),
    "mention, not mentioned": ({"mode": "mention"}, ("eve",), True),
    "mention, mentioned": ({"mode": "mention"}, ("bob",), False),
    "mention, everybody mentioned": ({"mode": "mention"}, ("@all",), False),
    "over": ({"mode": "all", "until_ms": NOW_MS}, (), False),
    "not over yet": ({"mode": "all", "until_ms": NOW_MS + 1}, (), True),
    "without an end": ({"mode": "all", "until_ms": None}, (), True),
}


@pytest.mark.parametrize(("mute", "mentions", "silent"), MUTES.values(), ids=MUTES)
def test_a_mute_holds_by_its_mode_and_its_end(mute, mentions, silent):
    about = group(mentions=mentions)
    assert muted(named_by(about).mentions("bob"), mute, NOW_MS) is silent
    assert refused(about, {"mute": mute}) == (Decision.MUTED if silent else None)


def test_a_mention_is_of_a_person_or_of_all():
    assert named_by(group(mentions=["bob"])).mentions("bob")
    assert not named_by(group(mentions=["eve"])).mentions("bob")


@pytest.mark.parametrize(
    "call",
    [
        {"kind": Kind.CALL_INVITE},
        {"kind": Kind.CALL_INVITE, "push": {"class": "call"}},
        {"push": {"class": "call"}},
    ],
)
def test_a_mute_is_about_messages_calls_ring(call):
    assert refused(message(**call), {"mute": {"mode": "all"}}) is None
    found = refused(message(**call), {**WHOLE_DAY, "mute": {"mode": "all"}})
    assert found == Decision.DND, "but nobody is called in the night"
    assert refused(message(), {"mute": {"mode": "all"}}) == Decision.MUTED


FORCES = {
    "no block": (group(), False),
    "off": (group(push={"force": {"on": False, "all": True}}), False),
    "everybody, said so": (group(push={"force": {"on": True, "all": True, "ids": []}}), True),
    "no list: everybody": (group(push={"force": {"on": True}}), True),
    "an empty list: nobody": (group(push={"force": {"on": True, "ids": []}}), False),
    "in the list": (group(push={"force": {"on": True, "ids": ["bob"]}}), True),
    "not in the list": (group(push={"force": {"on": True, "ids": ["eve"]}}), False),
    "a chat of two is never forced": (message(push={"force": {"on": True, "all": True}}), False),
}
WHOLE_DAY = {"dnd": {"start": "00:00", "end": "00:00"}}


@pytest.mark.parametrize(("about", "through"), FORCES.values(), ids=FORCES)
def test_a_forced_push_goes_through_mute_and_window_but_not_through_a_block(about, through):
    assert named_by(about).forces("bob") is through
    assert refused(about, WHOLE_DAY) == (None if through else Decision.DND)
    assert refused(about, {"mute": {"mode": "all"}}) == (None if through else Decision.MUTED)
    assert refused(about, {**WHOLE_DAY, "blocked": ["ann"]}) == Decision.BLOCKED


ORDER: dict[str, tuple[dict[str, Any], dict[str, Any], Any]] = {
    "nothing against it": ({}, {}, None),
    "another one is blocked": ({"blocked": ["eve"]}, {}, None),
    "blocks were cleared": ({"blocked": None}, {}, None),
    "blocked before muted": ({"blocked": ["ann"], "mute": {"mode": "all"}}, {}, Decision.BLOCKED),
    "muted before the window": ({**WHOLE_DAY, "mute": {"mode": "all"}}, {}, Decision.MUTED),
    "the message does not respect them": (
        WHOLE_DAY,
        {"push": {"gate": {"respect_dnd": False}}},
        None,
    ),
    "... but a block": (
        {**WHOLE_DAY, "blocked": ["ann"]},
        {"push": {"gate": {"respect_dnd": False}}},
        Decision.BLOCKED,
    ),
}


@pytest.mark.parametrize(("settings", "changes", "decision"), ORDER.values(), ids=ORDER)
def test_the_first_reason_counts(settings, changes, decision):
    assert refused(message(**changes), settings) == decision


@pytest.mark.parametrize(
    ("wanted", "friend", "decision"),
    [(True, False, Decision.NOT_FRIEND), (True, True, None), (False, False, None)],
)
def test_a_stranger_is_refused_where_friends_are_asked_for(wanted, friend, decision):
    found = refused(message(push={"gate": {"require_friend": wanted}}), {}, friend=friend)
    assert found == decision


@pytest.mark.parametrize(
    ("desktop", "wish", "decision"),
    [
        (True, False, Decision.ONLINE_ELSEWHERE),
        (True, True, None),
        (True, None, None),
        (False, False, None),
    ],
)
def test_phones_are_held_back_only_by_wish_and_while_a_desktop_is_in_front(desktop, wish, decision):
    wishes = {} if wish is None else {"mobile_when_desktop_online": wish}
    assert refused(message(), wishes, desktop=desktop) == decision
    if decision:
        # presence has the first word
        assert refused(message(), {**wishes, "mute": {"mode": "all"}}, desktop=True) == decision


@pytest.mark.parametrize(("tz", "told"), [("Mars/Base", "Mars/Base"), ("Asia/Tokyo", None)])
def test_an_unknown_zone_is_named_where_do_not_disturb_was_judged_by_another(tz, told):
    person = who(device(tz=tz))
    assert unknown_zone(message(), person, {"dnd": NIGHT}) == told
    assert unknown_zone(message(), person, {}) is None
