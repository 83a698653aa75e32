"""Mute, do not disturb, mentions, blocks. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any, Final

from common.contracts import ALL, Message, Recipient
from common.model import Decision, Kind, MessageClass
from common.time_zones import zone_named as iana_zone

FALLBACK_TZ = "Asia/Shanghai"


@dataclass(frozen=True, slots=True)
class Named:
    """The people named by a message, as sets made once: a list may hold thousands.

    forced: None: all.
    """

    people: frozenset[str]
    forced: frozenset[str] | None

    def mentions(self, user: str) -> bool:
        return user in self.people or ALL in self.people

    def forces(self, user: str) -> bool:
        """NIM's forced push: members who get it in spite of mute and do-not-disturb."""
        return self.forced is None or user in self.forced


_NOBODY: Final[frozenset[str]] = frozenset()


def named_by(message: Message) -> Named:
    force = message.push.force
    people = frozenset(message.mentions) if message.mentions else _NOBODY
    if force is None or not force.on or message.conversation.type != "group":
        return Named(people, _NOBODY)
    return Named(people, None if force.all or force.ids is None else frozenset(force.ids))


def refusal(
    message: Message,
    who: Recipient,
    settings: Mapping[str, Any],
    is_friend: bool,
    tenant_tz: str,
    now_ms: int,
    named: Named | None = None,
) -> Decision | None:
    """The reason that this person gets no push of this message; None when they get it.

    named: of the message, for callers that ask about many people.
    """
    named = named or named_by(message)
    if who.desktop and settings.get("mobile_when_desktop_online") is False:
        return Decision.ONLINE_ELSEWHERE  # presence has the first word (contract §7)
    if message.sender.id in (settings.get("blocked") or ()):
        return Decision.BLOCKED
    if message.push.gate.require_friend and not is_friend:
        return Decision.NOT_FRIEND
    if message.push.gate.respect_dnd and not named.forces(who.user):
        if not rings(message) and muted(named.mentions(who.user), settings.get("mute"), now_ms):
            return Decision.MUTED
        dnd = settings.get("dnd")
        if dnd is not None and disturbed(dnd, _zone_of(who, settings, tenant_tz), now_ms):
            return Decision.DND
    return None


def rings(message: Message) -> bool:
    """True for a call: a mute concerns messages (contract §3)."""
    return message.kind == Kind.CALL_INVITE or message.push.message_class == MessageClass.CALL


def muted(mentioned: bool, mute: Mapping[str, Any] | None, now_ms: int) -> bool:
    """all: always; mention: unless the person is named; none: never. A mute may have an end."""
    if (
        mute is None
        or mute["mode"] == "none"
        or (mute.get("until_ms") is not None and mute["until_ms"] <= now_ms)
    ):
        return False
    return mute["mode"] == "all" or not mentioned


def disturbed(dnd: Mapping[str, Any] | None, zone: tzinfo, now_ms: int) -> bool:
    """True inside the window, start included, end excluded.

    A window may cross midnight; start = end is the whole day.
    """
    if dnd is None:
        return False
    now = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone)
    minute, start, end = now.hour * 60 + now.minute, _minute(dnd["start"]), _minute(dnd["end"])
    if start == end:
        return True
    return start <= minute < end if start < end else minute >= start or minute < end


def _minute(clock: str) -> int:
    hour, minute = clock.split(":")
    return int(hour) * 60 + int(minute)


def by_clock(who: Recipient, settings: Mapping[str, Any]) -> Sequence[Recipient]:
    """The person; each device alone where a window without a zone meets clocks that differ.

    The window is the device's then (contract §3): a phone at home sleeps, one abroad does not.
    """
    dnd = settings.get("dnd")
    if dnd is None or len({device.tz for device in who.devices}) < 2:
        return (who,)
    if (own := dnd.get("tz")) and zone_named(own) is not None:
        return (who,)
    return [Recipient(who.user, (device,), who.desktop) for device in who.devices]


def _zone_of(who: Recipient, settings: Mapping[str, Any], tenant_tz: str) -> tzinfo:
    """The window's zone, else a device's, else the tenant's; an unknown name counts as none."""
    found = (zone_named(name) for name in (*_zones(who, settings), tenant_tz, FALLBACK_TZ) if name)
    return next(zone for zone in found if zone is not None)


def _zones(who: Recipient, settings: Mapping[str, Any]) -> Sequence[str | None]:
    own = (settings.get("dnd") or {}).get("tz")
    return own, *(device.tz for device in who.devices)


def unknown_zone(message: Message, who: Recipient, settings: Mapping[str, Any]) -> str | None:
    """The name that counted as none where do-not-disturb was judged by another zone."""
    if settings.get("dnd") is None or message.direct or not message.push.gate.respect_dnd:
        return None
    first = next((name for name in _zones(who, settings) if name), None)
    return first if first is not None and zone_named(first) is None else None


@lru_cache(maxsize=1024)
def zone_named(name: str) -> tzinfo | None:
    """The zone of a name from a phone, also `GMT+08:00`, `GMT+0800`, `UTC+8` and `+08:00`."""
    try:
        return iana_zone(name)
    except (KeyError, ValueError, OSError):  # unknown, no name at all, the name of a folder
        return _offset(name)


_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])([0-9]{1,2})(?::?([0-5][0-9]))?")


def _offset(name: str) -> timezone | None:
    """A zone that is nothing but its distance from UTC, up to 14 hours."""
    found = _OFFSET.fullmatch(name)
    if found is None or int(found[2]) > 14:
        return None
    east = timedelta(hours=int(found[2]), minutes=int(found[3] or 0))
    return timezone(east if found[1] == "+" else -east)
