"""The short path of a round of usual pushes: first attempts, each in a request of its own.

Its conditions and outcomes are those of deliver.py, in fewer steps per push. A push that differs
continues as in any other round, with the numbers, the permit and the answers it has by then.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from msgspec import structs

from common.model import BadgeMode, Kind, PushType, Verdict
from workers.delivery import late
from workers.delivery.claiming import badge_step
from workers.delivery.coalescing import OLD_S
from workers.delivery.deliver import Ready, concluded, deliver
from workers.delivery.lane import Lane
from workers.delivery.pacing import goes_whole
from workers.delivery.ports import ClaimAnswer, DeliveryPorts, LaneTurn
from workers.delivery.results import Delivered
from workers.delivery.work import PendingPush
from workers.vendors.types import AccessRefused, Outcome, PushItem, RequestBatch
from workers.wire import HttpResponse, NoAnswer

#: For tests, which compare both paths: this environment variable sends everything the general way.
GENERAL_ONLY: Final = "GENERAL_WAY_ONLY"
#: A push that lives no longer is no usual one: its time may run out on the way.
LIVES_MS: Final = 5_000
#: An older push is checked again, or an outage may have held it.
FRESH_MS: Final = min(late.ASK_AGAIN_MS, OLD_S * 1_000)


def fits(lane: Lane) -> bool:
    """True when the lane is limited by nothing but its rate, and a request carries one push."""
    spec, limits = lane.spec, lane.limits
    counted = (
        limits.quota_private,
        limits.quota_public,
        limits.device_cap_private,
        limits.device_cap_public,
        limits.public_hours,
    )
    plain = (
        spec.request_tokens_max == 1
        and spec.follow is None
        and spec.images is None
        and spec.quota_reported is None
        and not lane.reserve
    )
    return plain and all(limit is None for limit in counted) and GENERAL_ONLY not in os.environ


def is_usual(work: PendingPush, now_ms: int) -> bool:
    """True when the general path would check nothing more of this push."""
    note, target = work.note, work.target
    return (
        note.kind is Kind.MESSAGE
        and note.push_type is PushType.ALERT
        and note.badge_mode is BadgeMode.INCREMENT
        and note.collapse_id == note.message_id
        and not note.blob
        and note.reply_key is None
        and note.expires_at_ms - now_ms > LIVES_MS
        and now_ms - note.received_ms < FRESH_MS
        and work.by_entry
        and not target.attempts
        and target.held_by is None
        and target.again is None
        and not target.counted
        and not target.earlier
        and work.kept_by is None
    )


def in_time(began_ms: int, now_ms: int) -> bool:
    """True when what was asked at began_ms, tokens and claims, is good enough for a send now."""
    return now_ms - began_ms <= min(late.ADDRESS_GOOD_MS, late.LEASE_GOOD_MS)


def tried(
    works: Sequence[PendingPush], lane: Lane, ports: DeliveryPorts, turn: LaneTurn
) -> Delivered:
    """As `deliver`. `whole` in the result: the vendor accepted each at once, with nothing else."""
    began_ms = ports.now_ms()
    if turn.state is not None or not all(is_usual(work, began_ms) for work in works):
        return deliver(works, lane, ports, turn)
    claims = ports.claims.lease(works, [badge_step(work) for work in works])
    items = _items(works, claims, lane, ports, began_ms)
    access = ports.access.get(lane, began_ms) if items is not None else None
    if (
        items is None
        or isinstance(access, AccessRefused)
        or not goes_whole(turn.pacer, len(items))
        or turn.lost
        or not in_time(began_ms, sent_ms := ports.now_ms())
    ):
        known = replace(ports, claims=KnownClaims(works, claims))
        return deliver(works, lane, known, structs.replace(turn, leased_ms=began_ms))
    turn.pacer.spend(len(items))
    batches = _batches(items, lane, ports, sent_ms)
    requests = [lane.spec.build(batch, lane.credential, access) for batch in batches]
    answers = lane.send_many(ports.transport, requests, ports.deadline_s)
    done = Delivered(lost=turn.lost, requests=len(requests), addressed_ms=began_ms)
    outcomes = _accepted(batches, answers, lane)
    for work, answer in zip(works, claims, strict=True):
        work.sent_ms, work.badge, work.counted, work.leased = (
            sent_ms,
            answer.badge,
            answer.counted,
            True,
        )
    if outcomes is None:
        _otherwise(works, batches, answers, Ready(lane, done, (), access), ports)
    else:
        ports.observe(lane, answers)
        done.outcomes, done.whole = list(zip(works, outcomes, strict=True)), True
    return done


def _items(
    works: Sequence[PendingPush],
    claims: Sequence[ClaimAnswer],
    lane: Lane,
    ports: DeliveryPorts,
    now_ms: int,
) -> list[PushItem] | None:
    """None where one of them may not go, or not so."""
    if not all(answer.state == "ours" and not answer.why for answer in claims):
        return None
    valid, refuse = lane.spec.token_valid, lane.spec.refuse
    if not all(valid(work.target.token) for work in works):
        return None
    if list(ports.addresses.where(lane, works)).count(late.Standing.KEPT) != len(works):
        return None
    items = [
        PushItem(
            note := work.note, work.target, answer.badge, (note.expires_at_ms - now_ms) // 1000
        )
        for work, answer in zip(works, claims, strict=True)
    ]
    if refuse is not None and not all(refuse(item, lane.credential) is None for item in items):
        return None
    return items


def _batches(
    items: Sequence[PushItem], lane: Lane, ports: DeliveryPorts, now_ms: int
) -> list[RequestBatch]:
    """One request each; the common part of a notification's pushes is made once."""
    spec, credential, url = lane.spec, lane.credential, ports.callback_url(lane)
    prepare, prepared, batches = (
        spec.prepare if not spec.mixed else None,
        dict[int, object](),
        list[RequestBatch](),
    )
    for item in items:
        ready, name = None, id(item.note)
        if prepare is not None and (ready := prepared.get(name)) is None:
            ready = prepared[name] = prepare(item.note, credential)
        batches.append(RequestBatch((item,), now_ms, url, ready))
    return batches


def _accepted(
    batches: Sequence[RequestBatch], answers: Sequence[HttpResponse | NoAnswer], lane: Lane
) -> list[Outcome] | None:
    """The outcome of each; None where one is not accepted, or reports something about the lane."""
    classify, found = lane.spec.classify, list[Outcome]()
    for batch, answer in zip(batches, answers, strict=True):
        outcomes = classify(batch, answer)
        outcome = outcomes[0]
        if (
            len(outcomes) != 1
            or outcome.verdict is not Verdict.ACCEPTED
            or outcome.alarm
            or outcome.lists_spent
        ):
            return None
        found.append(outcome)
    return found


def _otherwise(
    works: Sequence[PendingPush],
    batches: Sequence[RequestBatch],
    answers: Sequence[HttpResponse | NoAnswer],
    ready: Ready,
    ports: DeliveryPorts,
) -> None:
    """The answers of a round that was not accepted as a whole, judged in the general way."""
    concluded(
        [(batch, [work]) for batch, work in zip(batches, works, strict=True)], answers, ready, ports
    )


class KnownClaims:
    """The port of claims for pushes that have been asked for already."""

    def __init__(self, works: Sequence[PendingPush], claims: Sequence[ClaimAnswer]) -> None:
        self._claims = {id(work): answer for work, answer in zip(works, claims, strict=True)}

    def lease(
        self, works: Sequence[PendingPush], badge_steps: Sequence[int]
    ) -> Sequence[ClaimAnswer]:
        del badge_steps  # the numbers are taken
        return [self._claims[id(work)] for work in works]
