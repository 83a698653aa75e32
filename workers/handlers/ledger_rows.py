"""Decisions -> ledger records: one row a recipient and device."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from common.contracts import PLAIN, Device, Message
from common.ledger_records import EventRecord, NoteRecord, PageRecord, Record, RowRecord, pack_users
from common.model import Decision, Kind, PushType, Vendor
from workers.delivery import settle as settling
from workers.delivery.work import PendingPush
from workers.presence import offline_recipients as presence
from workers.routing import fan_out as routing
from workers.routing.wordless import shared_wishes

#: Pushes about a push: they have no row of their own but a step in the first one's (contract §7).
FOLLOW_UP_KINDS = frozenset({Kind.RECALL, Kind.CALL_CANCEL})
#: People of one event and decision from which on they share a record, and how many do at most.
PAGE_MIN = 8
PAGE_MAX = 2_000


def presence_records(
    rows: Sequence[presence.PresenceRow],
    deviceless: Sequence[presence.Deviceless],
    now: int,
    old_ledger: Callable[[], bool],
) -> list[Record]:
    """One record a row; of many people of one event whom no device came near, one a page.

    old_ledger: as in PresenceHandler.
    """
    found: list[Record] = [
        _presence_row(row.message, row.user, row.device, row.decision, now) for row in rows
    ]
    apart: dict[tuple[str, str, Decision], tuple[Message, list[str]]] = {}
    for part in deviceless:
        message, decision = part.message, part.decision
        apart.setdefault((message.app, message.event_id, decision), (message, []))[1].extend(
            part.users
        )
    for (*_, decision), (message, users) in apart.items():
        if len(users) < PAGE_MIN or old_ledger():
            found += [_presence_row(message, user, None, decision, now) for user in users]
        else:
            found += [
                _page(message, decision, users[start : start + PAGE_MAX], now)
                for start in range(0, len(users), PAGE_MAX)
            ]
    return found


def _page(message: Message, decision: Decision, users: Sequence[str], now: int) -> PageRecord:
    return PageRecord(
        app=message.app,
        event_id=message.event_id,
        ts_ms=message.ts_ms,
        decision=decision,
        message_class=message.push.message_class,
        presence_ms=now,
        decided_ms=now,
        note="",
        count=len(users),
        users=pack_users(users),
    )


def _presence_row(
    message: Message, user: str, device: Device | None, decision: Decision, now: int
) -> RowRecord:
    return RowRecord(
        app=message.app,
        event_id=message.event_id,
        ts_ms=message.ts_ms,
        user=user,
        device=device.device_id if device else "",
        vendor=device.vendor if device else "",
        business_id=device.business_id if device else "",
        decision=decision,
        message_class=message.push.message_class,
        presence_ms=now,
        routed_ms=0,
        decided_ms=now,
        note="",
    )


def routing_row(row: routing.RoutingRow, now: int) -> Record:
    message, device = row.message, row.device
    if message.kind in FOLLOW_UP_KINDS:
        text = f"{message.kind}: {row.decision}"
        return step(
            message.app,
            message.event_id,
            message.ts_ms,
            row.user,
            device.device_id,
            "routing",
            now,
            text,
        )
    return RowRecord(
        app=message.app,
        event_id=message.event_id,
        ts_ms=message.ts_ms,
        user=row.user,
        device=device.device_id,
        vendor=device.vendor,
        business_id=device.business_id,
        decision=row.decision,
        message_class=message.push.message_class,
        presence_ms=row.presence_ms,
        routed_ms=now,
        decided_ms=now,
        note="",
    )


def delivery_row(one: settling.FinalOutcome, vendor: Vendor, business_id: str, now: int) -> Record:
    return work_row(one.work, vendor, business_id, one.decision, one.attempts, now, one.note)


def pending_row(wait: settling.Deferral, vendor: Vendor, business_id: str, now: int) -> Record:
    held = wait.target.held_by  # the ledger knows by this word what may be on a screen
    reason = (
        wait.reason
        if held != Decision.UNCERTAIN or wait.reason == held
        else f"{held}, then {wait.reason}"
    )
    note = f"waits: {reason}" + ("" if wait.delay_s is None else f", again in {wait.delay_s:.1f} s")
    vendor, business_id = wait.work.lane or (vendor, business_id)
    return work_row(wait.work, vendor, business_id, None, wait.target.attempts, now, note)


def work_row(
    work: PendingPush,
    vendor: Vendor,
    business_id: str,
    decision: Decision | None,
    attempts: Any,
    now: int,
    words: str,
) -> Record:
    note, target = work.note, work.target
    if note.kind in FOLLOW_UP_KINDS:
        text = f"{note.kind}: {decision or words}"
        return step(
            note.app, note.event_id, note.ts_ms, target.user, target.device, "delivery", now, text
        )
    return RowRecord(
        app=note.app,
        event_id=note.event_id,
        ts_ms=note.ts_ms,
        user=target.user,
        device=target.device,
        vendor=vendor,
        business_id=business_id,
        decision=decision,
        downgraded=note.downgraded,
        message_class=note.message_class,
        class_sent=note.class_sent,
        push_id=target.push_id,
        attempts=attempts,
        presence_ms=note.presence_ms,
        routed_ms=note.routed_ms,
        decided_ms=now,
        note=words,
        kind="" if note.kind == Kind.MESSAGE else note.kind,
    )


def odd_zone(message: Message, user: str, name: str, now: int) -> NoteRecord:
    """A step of a person whose do-not-disturb names a zone that nobody knows."""
    words = f"the time zone {name!r} is unknown: the next known one counts for do-not-disturb"
    return step(message.app, message.event_id, message.ts_ms, user, "", "routing", now, words)


def step(
    app: str, event_id: str, ts_ms: int, user: str, device: str, stage: str, now: int, text: str
) -> NoteRecord:
    return NoteRecord(
        app=app,
        event_id=event_id,
        ts_ms=ts_ms,
        user=user,
        device=device,
        kind="step",
        stage=stage,
        at_ms=now,
        note=text,
    )


def event_record(message: Message, decision: Decision | None, note: str = "") -> EventRecord:
    conversation = message.conversation
    return EventRecord(
        app=message.app,
        event_id=message.event_id,
        message_id=message.message_id,
        type=message.type,
        conversation=f"{conversation.type}:{conversation.id}",
        ts_ms=message.ts_ms,
        received_ms=message.received_ms,
        decision=decision,
        note=note,
        screen=_screen(message),
        # what has no rows is filed by its coming: an old event's own day would be dropped too soon,
        # or at once
        filed_ms=message.received_ms if decision is not None else 0,
        kind=message.kind if message.direct else "",
    )


def _screen(message: Message) -> str:
    """The values that a recall or cancel must share with this message, JSON; "" for the id only."""
    push = message.push
    if push is PLAIN:
        return ""
    shared: dict[str, Any] = {
        "collapse_key": push.collapse_key,
        "strategy_id": push.strategy_id,
        **shared_wishes(push),
    }
    shared["push_type"] = push.push_type if push.push_type != PushType.ALERT else None
    if message.kind == Kind.BADGE:  # an alert to Apple, but nobody sees anything
        shared["push_type"] = PushType.SILENT
    # A push that is silent at Apple only was not shown there.
    shared["apns"] = (
        str(PushType.SILENT)
        if (push.vendor or {}).get(Vendor.APNS, {}).get("push_type") == PushType.SILENT
        else None
    )
    found = {name: value for name, value in shared.items() if value}
    return json.dumps(found, ensure_ascii=False) if found else ""
