"""Coalesces an outage's backlog into one push per conversation and device: the newest. Pure.

The push shows the count. A short wait is no outage: its pushes go out singly, in order
(common/storage/backlog.py: FOLD_AFTER_MS).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from common.contracts import Notification
from common.model import Decision, Kind, MessageClass, PushType
from workers.delivery.outcomes import OUTAGES
from workers.delivery.work import PendingPush

#: A push that is older has waited somewhere, though no lane held it (our own workers were down).
OLD_S: Final = 60


@dataclass(frozen=True, slots=True)
class View:
    """One held push's group, fleet-wide (common/storage/backlog.py: Seen).

    due: it has waited long enough to be coalesced.
    """

    upto_ms: int
    newest: str
    newest_ms: int
    waiting: int
    waits_for_newest: bool
    due: bool = True


@dataclass(slots=True)
class Coalesced:
    """go: to be sent, some with others (`coalesced`). folded: a newer one replaced them already.

    later: their newest is on its way.
    """

    go: list[PendingPush] = field(default_factory=list)
    folded: list[PendingPush] = field(default_factory=list)
    later: list[PendingPush] = field(default_factory=list)


Group = tuple[str, ...]


def group_of(work: PendingPush) -> Group:
    """The key of pushes that may replace one another: conversation, person, device and class.

    The class is part of it, lest an order hides an advert.
    """
    note, target = work.note, work.target
    return (
        note.app,
        note.conversation_type,
        note.conversation_id,
        target.user,
        target.device,
        note.message_class,
    )


def may_coalesce(work: PendingPush) -> bool:
    """True for plain messages; false for calls, and for pushes that may be on a screen."""
    note = work.note
    plain = (
        note.kind == Kind.MESSAGE
        and note.push_type == PushType.ALERT
        and note.message_class != MessageClass.CALL
    )
    return plain and not note.blob and work.target.held_by != Decision.UNCERTAIN


def joins(work: PendingPush, held_by: str | None) -> bool:
    """True when a push that has to wait now joins an outage's backlog."""
    return may_coalesce(work) and held_by in OUTAGES


def coalesce(
    works: Sequence[PendingPush], views: Mapping[str, View], now_ms: int, *, waits: bool = True
) -> Coalesced:
    """Coalesces: each push ends in exactly one list, or in the `coalesced` of one that goes.

    views: by push id, of those that an outage held. waits: False for a probe: the newest of a
    conversation does not return before it, so one push replaces those that are here.
    """
    done = Coalesced()
    groups: dict[Group, list[PendingPush]] = {}
    for work in works:
        if may_coalesce(work) and (work.target.push_id in views or _old(work, now_ms)):
            groups.setdefault(group_of(work), []).append(work)
    turns: dict[int, PendingPush] = {}  # whose turn it is where this one stood
    held: set[int] = set()
    for group in groups.values():
        held |= {id(work) for work in group}
        turns |= _turns(group, views, now_ms, done, waits)
    done.go = [
        turns.get(id(work), work) for work in works if id(work) in turns or id(work) not in held
    ]
    return done


def _turns(
    group: Sequence[PendingPush],
    views: Mapping[str, View],
    now_ms: int,
    done: Coalesced,
    waits: bool,
) -> dict[int, PendingPush]:
    """The pushes of the group that go now, keyed by the id of the push whose place they take."""
    view = next(
        (views[work.target.push_id] for work in group if work.target.push_id in views), None
    )
    upto_ms = view.upto_ms if view is not None else 0
    done.folded += [
        work for work in group if work.target.push_id in views and work.note.ts_ms <= upto_ms
    ]
    left = [work for work in group if work.target.push_id not in views or work.note.ts_ms > upto_ms]
    in_order = sorted(left, key=_age)
    if not any(_due(work, views, now_ms) for work in left):
        return {id(place): work for place, work in zip(left, in_order, strict=True)}
    head = _head(in_order, views, view, done, waits)
    return {} if head is None else {id(head): head}


def _head(
    left: Sequence[PendingPush],
    views: Mapping[str, View],
    view: View | None,
    done: Coalesced,
    waits: bool,
) -> PendingPush | None:
    """The one that goes for all of them, None while their newest is worth waiting for. left: oldest
    first, not empty.
    """
    head = left[-1]
    newer = view is not None and (view.newest_ms, view.newest) > _age(head)
    if view is not None and view.waits_for_newest and newer and waits:
        done.later += left
        return None
    elsewhere = view.waiting if view is not None and (waits or not newer) else 0
    strangers = sum(work.target.push_id not in views for work in left)
    head.coalesced = tuple(left[:-1])
    head.coalesced_count = max(len(left), elsewhere + strangers)
    return head


def _due(work: PendingPush, views: Mapping[str, View], now_ms: int) -> bool:
    view = views.get(work.target.push_id)
    return _old(work, now_ms) or (view is not None and view.due)


def _age(work: PendingPush) -> tuple[int, str]:
    return work.note.ts_ms, work.target.push_id


def _old(work: PendingPush, now_ms: int) -> bool:
    return now_ms - work.note.received_ms > OLD_S * 1000


def with_summary(note: Notification, summary: str) -> Notification:
    """The newest message's text, prefixed by `summary` ("5 new messages"); redaction is kept."""
    if note.hidden:
        return msgspec.structs.replace(note, body=summary, text=summary)
    prefix = f"{summary}: {note.prefix}"
    return msgspec.structs.replace(
        note,
        body=f"{summary}: {note.body}",
        prefix=prefix,
        text=f"{summary}: {note.text or note.body}",
    )
