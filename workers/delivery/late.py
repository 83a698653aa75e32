"""Decisions at the moment of sending: the token, the person's consent, the place on the screen.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, Protocol

import msgspec

from common.contracts import Device, Notification
from common.model import Decision, Kind, PushType, Vendor
from workers.delivery.lane import Lane
from workers.delivery.results import Results, RoundStep
from workers.delivery.work import PendingPush

#: A push whose person was judged longer ago is judged once more before it leaves (contract §4).
ASK_AGAIN_MS: Final = 30_000
#: Interval of a push's check that needs an unavailable store.
AWAY_LOOK_S: Final = 2.0
#: Interval of a push's check while another with its collapse id is on the wire.
BUSY_LOOK_S: Final = 0.5
#: A token that was looked up longer ago is compared once more right before the send: an access
#: token may take seconds.
ADDRESS_GOOD_MS: Final = 1_000
#: Leases of entries that were seen longer ago are renewed right before the send: a process that
#: stood still may have lost them to another. Far below the length of a lease.
LEASE_GOOD_MS: Final = 1_000


class Standing(Enum):
    """KEPT: nothing changed. AWAY: it changed, or may have, and the store that knows is away."""

    KEPT = "kept"
    AWAY = "away"


class Screen(Enum):
    """FREE: it may go, and holds the place until it is settled. NEWER: a newer one was shown. BUSY:
    another is on the wire.
    """

    FREE = "free"
    NEWER = "newer"
    BUSY = "busy"


class Addresses(Protocol):
    def where(self, lane: Lane, works: Sequence[PendingPush]) -> Sequence[Device | Standing | None]:
        """For each KEPT if the target's token is still the device's; else the registered device.

        None: not registered, or AWAY.
        """
        ...

    def on_lane_of(self, work: PendingPush, lane: Lane, device: Device) -> Notification | None:
        """The push's notification for the device's own lane; None without such an account."""
        ...


class Consent(Protocol):
    def now(self, works: Sequence[PendingPush]) -> Sequence[Decision | Standing]:
        """For each KEPT where its person still wants it, else why not, as of now; or AWAY."""
        ...


class Screens(Protocol):
    def take(self, works: Sequence[PendingPush]) -> Sequence[Screen]:
        """Takes the place on the screen for each; settled with the push."""
        ...


NO_ACCOUNT: Final = "its device registered with an account that is not there"
LEFT: Final = "logged out, or the token is another's, since it was routed"


def addressed(
    works: Sequence[PendingPush], lane: Lane, addresses: Addresses
) -> RoundStep[PendingPush]:
    """Each push with its device's current token, on the device's lane; else `no_device`."""
    reply = addresses.where(lane, works) if works else ()
    if reply.count(Standing.KEPT) == len(works):
        return RoundStep(works)
    fit, decided, waiting, moved = [], [], [], []
    for work, found in zip(works, reply, strict=True):
        if found is Standing.KEPT:
            fit.append(work)
        elif found is Standing.AWAY:
            waiting.append((work, AWAY_LOOK_S, Decision.UNAVAILABLE))
        elif not isinstance(found, Device):
            decided.append((work, _final(work, Decision.NO_DEVICE), LEFT))
        elif (found.vendor, found.business_id) == (lane.vendor, lane.credential.business_id):
            _readdress(work, found)
            fit.append(work)
        elif _onward(work, lane, found, addresses):
            moved.append(work)
        else:
            decided.append((work, _final(work, Decision.NO_CREDENTIAL), NO_ACCOUNT))
    return RoundStep(fit, Results(decided=decided, waiting=waiting, moved=moved))


def _onward(work: PendingPush, lane: Lane, device: Device, addresses: Addresses) -> bool:
    """Moves a waiting push to the lane that its device has registered with since (contract §3).

    False: no such account.
    """
    note = addresses.on_lane_of(work, lane, device)
    if note is None:
        return False
    work.note, work.lane = note, (device.vendor, device.business_id)
    _readdress(work, device)
    work.target = msgspec.structs.replace(work.target, again=None)  # a cure of the first vendor's
    return True


def _readdress(work: PendingPush, device: Device) -> None:
    """Sets the device's current token; a call without a VoIP token goes as an alert.

    workers/routing/fan_out.py does the same.
    """
    token = device.token
    if work.note.push_type is PushType.VOIP and device.vendor is Vendor.APNS:
        token = device.voip_token or device.token
        if not device.voip_token:
            work.note = msgspec.structs.replace(work.note, push_type=PushType.ALERT, voip=None)
    now = {
        "token": token,
        "platform": device.platform,
        "registered_ms": device.registered_ms,
        "app_version": device.app_version,
    }
    work.target = msgspec.structs.replace(work.target, **now)


def _final(work: PendingPush, decision: Decision) -> Decision:
    return Decision.UNCERTAIN if work.doubtful else decision


def to_ask(work: PendingPush, now_ms: int) -> bool:
    """True when the push's person has to be checked again.

    A recall follows the push that it takes back; a push to a bare token has no person.
    """
    note = work.note
    judged_ms = note.presence_ms or note.routed_ms or note.received_ms
    return (
        now_ms - judged_ms > ASK_AGAIN_MS
        and note.kind in (Kind.MESSAGE, Kind.CALL_INVITE)
        and not note.direct
    )


def consented(
    works: Sequence[PendingPush], consent: Consent, now_ms: int
) -> RoundStep[PendingPush]:
    """Those whose people still want them. A call can't wait for a store that is away: it goes as it
    was judged.
    """
    since_ms = now_ms - ASK_AGAIN_MS
    old = [
        work
        for work in works
        if ((note := work.note).presence_ms or note.routed_ms or note.received_ms) < since_ms
    ]
    stale = [work for work in old if to_ask(work, now_ms)]
    if not stale:
        return RoundStep(works)
    found = dict(zip(map(id, stale), consent.now(stale), strict=True))
    fit, decided, waiting = [], [], []
    for work in works:
        standing = found.get(id(work), Standing.KEPT)
        if isinstance(standing, Decision):
            decided.append((work, _final(work, standing), "by what holds now: it had waited"))
        elif standing is Standing.AWAY and work.note.kind is not Kind.CALL_INVITE:
            waiting.append((work, AWAY_LOOK_S, Decision.UNAVAILABLE))
        else:
            fit.append(work)
    return RoundStep(fit, Results(decided=decided, waiting=waiting))


#: The note of a push that a newer one with its collapse id has overtaken.
OVERTAKEN: Final = "a newer push with its collapse id went out"


def replaces(work: PendingPush) -> bool:
    """True when the push shares its place on the screen with pushes of other messages or events.

    A message's own id is not shared.
    """
    note = work.note
    return note.collapse_id != note.message_id or note.kind in (Kind.CALL_INVITE, Kind.CALL_CANCEL)


def _asks(work: PendingPush) -> bool:
    """True when a newer push may have the place: also that of a message's own id, which an edit of
    it names as its collapse key. Such a push comes late as a retry, after a wait or as a recall.
    """
    late = work.target.tried > 0 or work.target.held_by is not None
    return late or replaces(work) or work.note.kind == Kind.RECALL


def place_of(work: PendingPush) -> tuple[str, str, str, str]:
    return work.note.app, work.target.user, work.target.device, work.note.collapse_id


def in_their_places(works: Sequence[PendingPush], screens: Screens) -> RoundStep[PendingPush]:
    """Of pushes with one place the newest goes for all; none replaces a newer one."""
    if not any(map(_asks, works)):
        return RoundStep(works)
    groups, alone = _sharing(works)
    heads = [*map(_head, groups), *alone]
    reply = dict(zip(map(id, heads), screens.take(heads), strict=True))
    led = {id(work) for group in groups for work in group}
    fit, newer, busy = list[PendingPush](), list[PendingPush](), list[PendingPush]()
    for work in works:
        screen = reply.get(id(work), None if id(work) in led else Screen.FREE)
        if screen is Screen.FREE:
            fit.append(work)
        elif screen is not None:
            (newer if screen is Screen.NEWER else busy).extend((work, *work.coalesced))
            work.coalesced = ()
    for work in newer:
        work.overtaken = True
    return RoundStep(
        fit,
        Results(
            decided=[(work, _final(work, Decision.FOLDED), OVERTAKEN) for work in newer],
            waiting=[
                (work, BUSY_LOOK_S, Decision(work.target.held_by or Decision.UNAVAILABLE))
                for work in busy
            ],
        ),
    )


def _sharing(works: Sequence[PendingPush]) -> tuple[list[list[PendingPush]], list[PendingPush]]:
    """Those that share a place, and those that ask for themselves.

    A message's own id is one of its conversation only: other chats may have the same.
    """
    groups: dict[tuple[str, str, str, str], list[PendingPush]] = {}
    for work in filter(replaces, works):
        groups.setdefault(place_of(work), []).append(work)
    alone = []
    for work in works:
        if replaces(work):
            continue
        group = groups.get(place_of(work), [])
        if any(_chat(other) == _chat(work) for other in group):
            group.append(work)
        elif _asks(work):
            alone.append(work)
    return list(groups.values()), alone


def _chat(work: PendingPush) -> tuple[str, str]:
    return work.note.conversation_type, work.note.conversation_id


def _head(group: Sequence[PendingPush]) -> PendingPush:
    """The newest by the event's ts, of equal ones the last; it replaces the older ones.

    They share its fate (settle.py).
    """
    head = max(enumerate(group), key=lambda one: (one[1].note.ts_ms, one[0]))[1]
    others = tuple(work for work in group if work is not head)
    head.coalesced = (*head.coalesced, *(one for work in others for one in (work, *work.coalesced)))
    for work in others:
        work.coalesced = ()
    return head
