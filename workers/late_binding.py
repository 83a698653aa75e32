"""Implements the ports of workers/delivery/late.py: Redis has the changes, SQL the state."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from common.contracts import (
    Conversation,
    Device,
    Gate,
    Message,
    Notification,
    PushFields,
    Recipient,
    Sender,
)
from common.model import Decision, Kind, Vendor
from common.ports import DeviceDirectory, PreferenceBook, Presences, Session
from common.storage import screens as screen_store
from common.storage.bindings import Bindings, holds
from common.storage.claims import Claims, ReturnedClaim
from common.storage.row_numbers import Lot, RowAsks
from common.storage.unavailable import database_unavailable, store_unavailable
from common.tokens import all_canonical, canonical
from common.whole_seconds import latest_ms
from workers.delivery.alike import AlikeRound
from workers.delivery.claiming import badge_step
from workers.delivery.lane import Lane
from workers.delivery.late import Screen, Standing, place_of, replaces
from workers.delivery.outcomes import SEEN
from workers.delivery.settle import FinalOutcome, Settled
from workers.delivery.work import PendingPush
from workers.presence.absence import DESKTOPS
from workers.routing.consent import refusal
from workers.routing.fan_out import Tenancy
from workers.routing.other_lane import for_lane
from workers.vendors.types import Credential

_SCREENS: Final = (Screen.FREE, Screen.NEWER, Screen.BUSY)


class AccountBook(Protocol):
    def newest_credential(
        self, app: str, vendor: Vendor, business_id: str, since: float
    ) -> Credential | None:
        """None: there was no such account at this monotonic time, or later."""
        ...


class BoundAddresses:
    """One call of Redis a round; SQL is asked for those only whose binding changed."""

    def __init__(self, bindings: Bindings, devices: DeviceDirectory, accounts: AccountBook) -> None:
        self._bindings = bindings
        self._devices = devices
        self._accounts = accounts
        self._looked_at = 0.0

    def on_lane_of(self, work: PendingPush, lane: Lane, device: Device) -> Notification | None:
        account = (work.note.app, device.vendor, device.business_id)
        credential = self._accounts.newest_credential(*account, self._looked_at)
        return (
            for_lane(work.note, lane.vendor, device, credential) if credential is not None else None
        )

    def look(self, works: Sequence[PendingPush]) -> list[str | None]:
        """The bindings of these works' devices, of any lanes."""
        self._looked_at = time.monotonic()
        return self._bindings.look(
            [(work.note.app, (target := work.target).user, target.device) for work in works]
        )

    def where(self, lane: Lane, works: Sequence[PendingPush]) -> Sequence[Device | Standing | None]:
        return self.judge(lane, works, self.look(works))

    def judge(
        self, lane: Lane, works: Sequence[PendingPush], bindings: Sequence[str | None]
    ) -> Sequence[Device | Standing | None]:
        """As `where`, of works whose bindings were looked up."""
        app, vendor, business_id = (
            lane.credential.app,
            str(lane.vendor),
            lane.credential.business_id,
        )
        found: list[Device | Standing | None] = [Standing.KEPT] * len(works)
        changed = [
            index
            for index, (work, binding) in enumerate(zip(works, bindings, strict=True))
            # A spelling that the registry no longer keeps was routed before the registry changed.
            if canonical(vendor, token := work.target.token) != token
            or (binding is not None and not holds(binding, vendor, business_id, token))
        ]
        # its token is the sender's word
        changed = [index for index in changed if not works[index].note.direct]
        if not changed:
            return found
        try:
            devices = self._devices.of_users(
                app, sorted({works[index].target.user for index in changed})
            )
        except database_unavailable():
            devices = None
        for index in changed:
            found[index] = Standing.AWAY if devices is None else _device(devices, works[index])
        return found


def _device(devices: Mapping[str, Sequence[Device]], work: PendingPush) -> Device | None:
    own = devices.get(work.target.user, ())
    return next((device for device in own if device.device_id == work.target.device), None)


class ClaimedRows:
    """The stage's port over the store: numbers of usual pushes, and a check of their tokens.

    One look for both.
    """

    def __init__(self, store: Claims, bindings: Bindings) -> None:
        self._store = store
        self._bindings = bindings

    def take(self, rounds: Sequence[tuple[Lane, AlikeRound]]) -> list[list[tuple[int, str]] | None]:
        return self.taken(rounds, [self] * len(rounds))

    def taken(
        self, rounds: Sequence[tuple[Lane, AlikeRound]], owners: Sequence[ClaimedRows]
    ) -> list[list[tuple[int, str]] | None]:
        """As `take`, of rounds of several shards on this server. owners: each one's shard's."""
        found: list[list[tuple[int, str]] | None] = [None] * len(rounds)
        lots = [
            (place, own.lot(lane, one))
            for place, ((lane, one), own) in enumerate(zip(rounds, owners, strict=True))
            if own.is_own(lane, one)
        ]
        taken = self._store.take_rows([lot for _, lot in lots]) if lots else ()
        for (place, _), numbers in zip(lots, taken, strict=True):
            found[place] = numbers
        return found

    def is_own(self, lane: Lane, one: AlikeRound) -> bool:
        """True when all pushes are of the lane's tenant and spelt as the registry spells them, and
        their people's devices are known on this server.
        """
        vendor, app = str(lane.vendor), lane.credential.app
        return (
            all(batch.app == app for _, batch in one.entries)
            and all_canonical(vendor, [row.token for row in one.rows])
            and self._bindings.own((app, row.user) for row in one.rows)
        )

    def lot(self, lane: Lane, one: AlikeRound) -> Lot:
        vendor, business_id, rows = str(lane.vendor), lane.credential.business_id, one.rows
        asks = RowAsks(
            self._store.keys,
            self._store.holders(one.hold.lane),
            one.hold.word,
            lane.credential.app,
            [(name, len(batch.rows), batch.like.badge_increment) for name, batch in one.entries],
            [row.user for row in rows],
            [row.device for row in rows],
            [
                f"{kind}:{row.conversation_id}"
                for _, batch in one.entries
                for kind in (batch.like.conversation_type,)
                for row in batch.rows
            ],
            [row.message_id for row in rows],
            [latest_ms(row.ts_ms, row.received_ms) for row in rows],
        )

        def kept(bindings: Sequence[bytes | None]) -> bool:
            if bindings.count(None) == len(bindings):
                return True
            return all(
                binding is None or holds(binding.decode(), vendor, business_id, row.token)
                for binding, row in zip(bindings, rows, strict=True)
            )

        return asks, kept


class PresentConsent:
    """Presence, settings and devices of people to check again: three calls a round and tenant."""

    def __init__(
        self,
        presence: Presences,
        preferences: PreferenceBook,
        devices: DeviceDirectory,
        tenancy: Tenancy,
        clock: Any,
    ) -> None:
        self._presence = presence
        self._preferences = preferences
        self._devices = devices
        self._tenancy = tenancy
        self._now_ms = clock

    def now(self, works: Sequence[PendingPush]) -> Sequence[Decision | Standing]:
        people = [(work.note.app, work.target.user) for work in works]
        try:
            sessions, _ = self._presence.sessions(people)
            known = {
                app: self._known(app, [work for work in works if work.note.app == app])
                for app in {app for app, _ in people}
            }
        except store_unavailable():
            return [Standing.AWAY] * len(works)
        return [
            Standing.AWAY
            if own is None
            else self._judge(work, own, *known[work.note.app]) or Standing.KEPT
            for work, own in zip(works, sessions, strict=True)
        ]

    def _known(
        self, app: str, works: Sequence[PendingPush]
    ) -> tuple[Mapping[str, Mapping[str, Any]], Mapping[str, Sequence[Device]]]:
        users = sorted({work.target.user for work in works})
        conversations = sorted({_conversation(work) for work in works})
        return self._preferences.of_users(app, users, conversations), self._devices.of_users(
            app, users
        )

    def _judge(
        self,
        work: PendingPush,
        sessions: Sequence[Session],
        settings: Mapping[str, Mapping[str, Any]],
        devices: Mapping[str, Sequence[Device]],
    ) -> Decision | None:
        user, own = work.target.user, tuple(devices.get(work.target.user, ()))
        front = {session.device_id for session in sessions if session.foreground}
        device = _device(devices, work)
        names = {work.target.device, device.push_id if device is not None else None}
        if front & names:
            return Decision.ONLINE
        desktop = any(session.foreground and session.platform in DESKTOPS for session in sessions)
        wishes = settings.get(user) or {}
        mute = f"mute:{_conversation(work)}"
        wishes = {**wishes, "mute": wishes[mute]} if mute in wishes else wishes
        tz = self._tenancy.tenant(work.note.app).tz
        # as fan_out.py has it: a window without a zone is read on this device's clock
        who = Recipient(user, own if device is None else (device,), desktop)
        return refusal(_message(work), who, wishes, True, tz, self._now_ms())


def _conversation(work: PendingPush) -> str:
    return f"{work.note.conversation_type}:{work.note.conversation_id}"


def _message(work: PendingPush) -> Message:
    """As much of the message as consent asks about."""
    note = work.note
    return Message(
        app=note.app,
        event_id=note.event_id,
        type="",
        message_id=note.message_id,
        kind=Kind(note.kind),
        ts_ms=note.ts_ms,
        received_ms=note.received_ms,
        expires_at_ms=note.expires_at_ms,
        conversation=Conversation(
            type="group" if note.conversation_type == "group" else "c2c", id=note.conversation_id
        ),
        sender=Sender(id=note.sender_id),
        mentions=(work.target.user,) if note.mentioned else (),
        push=PushFields(message_class=note.message_class, gate=Gate(respect_dnd=note.respect_dnd)),
    )


class PlacesOnScreens:
    """The stage's port over the store."""

    def __init__(self, store: screen_store.ScreenStore) -> None:
        self._store = store

    def take(self, works: Sequence[PendingPush]) -> Sequence[Screen]:
        """A push with its message's own id takes none: it only asks."""
        asks = [
            (place_of(work), work.target.push_id if replaces(work) else "", work.note.ts_ms)
            for work in works
        ]
        return [_SCREENS[name] for name in self._store.take(asks)]


def given_back(settled: Settled) -> list[ReturnedClaim]:
    """The claims of waiting pushes and of those that ended unseen: their badge numbers are free."""
    given = [
        _given(wait.work, seen=wait.target.held_by == Decision.UNCERTAIN)
        for wait in settled.waits
        if not wait.work.by_entry
    ]
    for one in settled.ended:
        if not one.work.by_entry and not _stands(one) and badge_step(one.work) > 0:
            given.append(_given(one.work, seen=False))
    return given


def uncounted(settled: Settled) -> list[PendingPush]:
    """Pushes without claims whose badge numbers are free: waiting or ended, surely unseen."""
    free = [
        one.work
        for one in settled.ended
        if one.work.counted and one.work.by_entry and not _stands(one)
    ]
    return free + [
        wait.work
        for wait in settled.waits
        if wait.work.counted and wait.work.by_entry and not wait.target.counted
    ]


def _stands(one: FinalOutcome) -> bool:
    """True when the push remains counted in the badge."""
    return one.decision in SEEN or (one.decision == Decision.FOLDED and not one.work.overtaken)


def _given(work: PendingPush, *, seen: bool) -> ReturnedClaim:
    note, target = work.note, work.target
    return ReturnedClaim(target.push_id, note.ts_ms, note.app, target.user, target.device, seen)


def on_screens(settled: Settled, now_ms: int) -> list[screen_store.Settling]:
    """The results of pushes that share their place on the screen with others."""
    bindings = [(one.work, one.decision in SEEN) for one in settled.ended]
    bindings += [(wait.work, wait.target.held_by == Decision.UNCERTAIN) for wait in settled.waits]
    return [
        screen_store.Settling(
            place_of(work),
            work.target.push_id,
            work.note.ts_ms,
            shown,
            work.note.expires_at_ms - now_ms,
        )
        for work, shown in bindings
        if replaces(work)
    ]
