"""The steps from a push to its request batch: the form of the vendor files, and leave to send."""

from __future__ import annotations

from collections.abc import Sequence

from common.contracts import Notification, Target
from common.model import Decision, Kind
from workers.delivery.coalescing import with_summary
from workers.delivery.lane import Lane
from workers.delivery.ports import GRANTED, DeliveryPorts, Permit
from workers.delivery.request_batches import pack
from workers.delivery.results import Results, RoundStep
from workers.delivery.work import PendingPush
from workers.vendors.json_text import compact
from workers.vendors.text import shortest
from workers.vendors.types import PushItem, RequestBatch, VendorSpec

#: Bytes of an opaque payload: half of one is worth nothing, so that it is refused before a vendor
#: cuts it.
BLOB_BYTES_MAX = 3_500


def items(
    works: Sequence[PendingPush], lane: Lane, ports: DeliveryPorts, now_ms: int
) -> RoundStep[tuple[PendingPush, PushItem]]:
    """The pushes in the form of the vendor files: text, badge, seconds left."""
    fit, refused = [], []
    # same words stay one object: they may share a request
    notes: dict[tuple[int, int], Notification] = {}
    refuse = lane.spec.refuse
    for work in works:
        note, target = work.note, work.target
        if work.coalesced_count > 1:
            key = (id(note), work.coalesced_count)
            note = notes.get(key) or notes.setdefault(
                key, with_summary(note, ports.summary_text(note, work.coalesced_count))
            )
        if target.attempts and too_long_before(target, lane.spec):
            note = notes.get((id(note), 0)) or notes.setdefault((id(note), 0), shortest(note))
        left_s = max((note.expires_at_ms - now_ms) // 1000, 0)
        item = PushItem(
            note, target, work.badge, left_s, 1 if not target.attempts else target.tried + 1
        )
        reason = _unfit(item, lane) if note.blob or note.kind is Kind.BADGE else None
        if reason is None and refuse is not None:
            reason = refuse(item, lane.credential)
        if reason is None:
            fit.append((work, item))
        else:
            refused.append((work, Decision.REJECTED, reason))
    return RoundStep(fit, Results(decided=refused)) if refused else RoundStep(fit)


def too_long_before(target: Target, spec: VendorSpec) -> bool:
    return any((attempt.code or attempt.status) in spec.too_long for attempt in target.attempts)


def _unfit(item: PushItem, lane: Lane) -> str | None:
    note = item.note
    if note.kind == Kind.BADGE and not lane.spec.badge_alone:
        return "badge_not_supported"
    return (
        "payload_too_large" if note.blob and len(compact(note.payload)) > BLOB_BYTES_MAX else None
    )


def batched(
    given: Sequence[PushItem], lane: Lane, ports: DeliveryPorts, now_ms: int, burst: int
) -> list[RequestBatch]:
    """The request batches of a lane's pushes; burst: the tokens that may go at once."""
    spec, url = lane.spec, ports.callback_url(lane)
    least = spec.request_tokens_min_list
    singly = 1 < least <= len(given) and ports.gate.lists_spent(lane)
    most = None if lane.limits.rate_unit == "request" else burst
    return pack(given, spec, lane.credential, now_ms, url, singly=singly, tokens_max=most)


def admitted(
    fit: Sequence[tuple[PendingPush, PushItem]],
    batches: Sequence[RequestBatch],
    lane: Lane,
    ports: DeliveryPorts,
) -> RoundStep[tuple[RequestBatch, list[PendingPush]]]:
    """The batches that may go now. The rate counts requests or targets, as the vendor does.

    The gate therefore learns which pushes travel together.
    """
    asks = [(item, number) for number, batch in enumerate(batches) for item in batch.items]
    permits = ports.gate.admit(lane, asks)
    alone = len(batches) == len(fit) and lane.spec.request_tokens_max == 1
    if alone and permits.count(GRANTED) == len(batches):  # each alone, in its order
        return RoundStep([(batch, [work]) for batch, (work, _) in zip(batches, fit, strict=True)])
    leaves, work_of = iter(permits), {id(item): work for work, item in fit}
    granted, refused = [], list[tuple[PendingPush, Permit, int]]()
    for batch in batches:
        kept = []
        for item in batch.items:
            leave = next(leaves)
            if leave.decision is None:
                kept.append(item)
            else:
                refused.append((work_of[id(item)], leave, batch.now_ms))
        if kept:
            granted.append((smaller(batch, kept), [work_of[id(item)] for item in kept]))
    return RoundStep(granted, _without_leave(refused))


def _without_leave(refused: Sequence[tuple[PendingPush, Permit, int]]) -> Results:
    """Holds a push for no longer than it lives.

    One that waits for the vendor's next day is decided `throttled` when it expires, not hours
    later.
    """
    return Results(
        waiting=[
            (work, min(leave.wait_s, (work.note.expires_at_ms - now_ms) / 1000), leave.decision)
            for work, leave, now_ms in refused
            if leave.decision == Decision.THROTTLED
        ],
        decided=[
            (work, leave.decision, "held back by our own count")
            for work, leave, _ in refused
            if leave.decision is not None and leave.decision != Decision.THROTTLED
        ],
    )


def smaller(batch: RequestBatch, kept: Sequence[PushItem]) -> RequestBatch:
    """The batch with these of its items only."""
    if len(kept) == len(batch.items):
        return batch
    return RequestBatch(tuple(kept), batch.now_ms, batch.callback_url, batch.prepared)
