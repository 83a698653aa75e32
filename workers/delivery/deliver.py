"""Push -> Outcomes: claim, admit, build, send once, classify. Plain functions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from common.contracts import Notification, Target
from common.model import Again, BadgeMode, Bucket, Decision, Kind, PushType, Verdict
from common.values import Value
from workers.delivery import late
from workers.delivery.causes import cause_of
from workers.delivery.coalescing import (
    OLD_S,
    Group,
    View,
    coalesce,
    group_of,
    may_coalesce,
    with_summary,
)
from workers.delivery.images import Images, shown
from workers.delivery.lane import Lane
from workers.delivery.outcomes import ACCESS, DOWN, NOT_TAKEN
from workers.delivery.pacing import Pace, Unpaced
from workers.delivery.request_batches import pack
from workers.delivery.work import PendingPush
from workers.vendors.attempts import in_a_row
from workers.vendors.json_text import compact
from workers.vendors.text import shortest
from workers.vendors.types import (
    AccessRefused,
    AccessToken,
    Outcome,
    PushItem,
    RequestBatch,
    VendorSpec,
)
from workers.wire import HttpResponse, NoAnswer, Request, Transport

if TYPE_CHECKING:
    from workers.delivery.alike import AlikeRound

#: Most pushes of one process on the wire: the most that a SIGKILL may double (contract §7).
IN_FLIGHT_MAX = 500


Granted = Sequence[tuple[RequestBatch, list[PendingPush]]]


@dataclass(slots=True)
class Delivered:
    """The result of a round of pushes of one lane.

    outcomes: the answer, the vendor's or ours, for each push that was attempted. decided: ended
    without a request. waiting: delayed by the rate, seconds from now. on_hold: the lane is stopped,
    with the cause. dropped: another entry's. left: no token of the lane's rate remained; it stays
    in its entry. moved: its device has another lane, where it continues. addressed_ms: when the
    tokens were compared with their devices'. stays: part of the round's entries returns to the
    queue. whole: a round of usual pushes that were all accepted at once (usual.py). accepted:
    accepted pushes that are not in the outcomes (alike.py).
    A push coalesced into another (`PendingPush.coalesced`) is in no list: it shares the other's
    fate.
    """

    outcomes: list[tuple[PendingPush, Outcome]] = field(default_factory=list)
    decided: list[tuple[PendingPush, Decision, str]] = field(default_factory=list)
    waiting: list[tuple[PendingPush, float, Decision]] = field(default_factory=list)
    on_hold: list[tuple[PendingPush, Decision]] = field(default_factory=list)
    dropped: list[PendingPush] = field(default_factory=list)
    left: list[PendingPush] = field(default_factory=list)
    moved: list[PendingPush] = field(default_factory=list)
    requests: int = 0
    addressed_ms: int = 0
    stays: bool = False
    lost: Collection[str] = ()  # see LaneTurn
    whole: bool = False
    accepted: int = 0
    probe: bool = False  # this round is the one push that tries a stopped lane


class ClaimAnswer(Value, frozen=True):
    """state: ours, done, elsewhere or gone; badge: the number taken; why: the decision when gone.

    why is `uncertain` when ours a second time. counted: for a push without a claim of its own, its
    number from now on (`Target.counted`).
    """

    state: str
    badge: int | None
    why: str
    counted: str = ""


class Permit(Value, frozen=True):
    """Leave to send. decision: None = granted; THROTTLED with wait_s = later; QUOTA_SPENT,
    DEVICE_CAP = not today.
    """

    decision: Decision | None
    wait_s: float = 0.0


GRANTED = Permit(None)


@dataclass(frozen=True, slots=True)
class BreakerOpen:
    """A lane that sends nothing now. why: the decision of its pushes when they expire."""

    why: Decision


@dataclass(frozen=True, slots=True)
class BreakerProbe:
    """A stopped lane that takes one push now, as a probe. why: as in BreakerOpen."""

    why: Decision


@dataclass(frozen=True, slots=True)
class LaneTurn:
    """The results of a lane's take. state: None = the breaker is closed; pacer: each push's time.

    lost: names of entries that another sender claims meanwhile; it grows while the round waits.
    waits_for_newest: False when probes have waited long enough for the newest of their
    conversations.
    """

    state: BreakerProbe | None
    pacer: Pace
    lost: Collection[str] = ()
    waits_for_newest: bool = True


class Claims(Protocol):
    def lease(
        self, works: Sequence[PendingPush], badge_steps: Sequence[int]
    ) -> Sequence[ClaimAnswer]: ...


class RowNumberPort(Protocol):
    def take(self, lane: Lane, one: AlikeRound) -> Sequence[tuple[int, str]] | None:
        """The badge of each push and the number taken for it, when all may go to their tokens.

        None: not all may go, and nothing was taken without being noted.
        """
        ...


class AdmissionGate(Protocol):
    def admit(self, lane: Lane, asks: Sequence[tuple[PushItem, int]]) -> Sequence[Permit]:
        """A permit for each (item, number of its request), all or nothing per item, in one call."""
        ...

    def refund(self, lane: Lane, works: Sequence[PendingPush]) -> None:
        """Ends the round; refunds pushes that were definitely not accepted."""
        ...

    def report_quota_spent(self, lane: Lane, bucket: Bucket) -> None:
        """Records the vendor's answer that this bucket's quota of the day is spent."""
        ...

    def report_quota(self, lane: Lane, bucket: Bucket, used: int, limit: int) -> None:
        """The vendor's own numbers of the day."""
        ...

    def report_lists_spent(self, lane: Lane) -> None:
        """The vendor takes no more requests for several tokens today."""
        ...

    def lists_spent(self, lane: Lane) -> bool: ...

    def report_capped(self, lane: Lane, works: Sequence[PendingPush]) -> None:
        """Records the vendor's answer that these devices have reached their daily cap."""
        ...


class Breaker(Protocol):
    def open_for(self, lane: Lane) -> BreakerProbe | BreakerOpen | None:
        """None: the lane flows."""
        ...

    def report(
        self,
        lane: Lane,
        good: int,
        failed: int,
        refused: bool,
        retry_after_s: float | None,
        throttled: int = 0,
        cause: str = "",
    ) -> None:
        """Reports a round's result. cause: of the failures, as causes.py names it.

        throttled: answers of the lane's flow control; nothing may be sent before retry_after_s. A
        probe that was never sent reports 0, 0, False, None; another push may then be the probe.
        """
        ...


class AccessTokens(Protocol):
    def get(self, lane: Lane, now_ms: int) -> AccessToken | AccessRefused | None: ...
    def refused(self, lane: Lane, token: AccessToken, now_ms: int) -> None:
        """The vendor would not take this token: fetch another, once for the whole fleet."""
        ...


class HeldPushStore(Protocol):
    def look(self, asks: Sequence[tuple[Group, str, int]]) -> Sequence[View | None]:
        """Each held push's group, None where no outage held it.

        asks: group, push id, received ms.
        """
        ...


@dataclass(frozen=True, slots=True)
class DeliveryPorts:
    """The ports of delivery.

    summary_text: (notification, count) -> the text of a coalesced push.
    """

    claims: Claims
    backlog: HeldPushStore
    summary_text: Callable[[Notification, int], str]
    gate: AdmissionGate
    breaker: Breaker
    access: AccessTokens
    transport: Transport
    now_ms: Callable[[], int]
    deadline_s: float
    callback_url: Callable[[Lane], str | None]
    observe: Callable[[Lane, Sequence[HttpResponse | NoAnswer]], None]
    images: Images
    addresses: late.Addresses
    consent: late.Consent
    screens: late.Screens
    rows: RowNumberPort | None = None


def deliver(
    works: Sequence[PendingPush], lane: Lane, world: DeliveryPorts, turn: LaneTurn | None = None
) -> Delivered:
    """Delivers one round: at most IN_FLIGHT_MAX pushes of one lane.

    Every push ends in exactly one list of the result, or is coalesced into one that does. turn:
    None when the lane's state and rate are not known yet: then the breaker is asked and nothing is
    paced.
    """
    ready = prepared(works, lane, world, turn)
    return sent(ready, world, Unpaced() if turn is None else turn.pacer)


def sent(ready: Ready, world: DeliveryPorts, pacer: Pace) -> Delivered:
    """The rest of a round that was prepared."""
    lane, access = ready.lane, ready.access
    if ready.granted:
        granted, answers = _asked(
            shown(ready.granted, lane, access, world), lane, access, world, ready.done, pacer
        )
        concluded(granted, answers, ready, world)
    return ready.done


@dataclass(slots=True)
class Ready:
    """A round before its send. granted: the requests that may go; empty: the round is over."""

    lane: Lane
    done: Delivered
    granted: Granted = ()
    access: AccessToken | None = None

    @property
    def costs(self) -> list[int]:
        """The costs of the requests, in the unit of the lane's rate."""
        return _costs(self.granted, self.lane)


def prepared(
    works: Sequence[PendingPush], lane: Lane, world: DeliveryPorts, turn: LaneTurn | None = None
) -> Ready:
    """The round up to its send: nothing has left, and no token of the rate is taken."""
    ready = Ready(lane, Delivered(lost=turn.lost if turn is not None else ()))
    done = ready.done
    mine = _claimed(works, world.now_ms(), world, done)
    mine = _wellformed(_addressed(mine, lane, world, done), lane, done)
    if mine:
        state = world.breaker.open_for(lane) if turn is None else turn.state
        mine = _through_the_breaker(
            mine, state, world, done, waits_for_newest=turn is None or turn.waits_for_newest
        )
    done.probe = done.probe or (turn is not None and turn.state is not None)
    if not mine:
        _hand_back(lane, world, done)
        return ready
    access = world.access.get(lane, world.now_ms())
    if isinstance(access, AccessRefused):
        _no_access(mine, lane, access, world, done)
        return ready
    now_ms = world.now_ms()  # fetching an access token takes its time
    pacer: Pace = Unpaced() if turn is None else turn.pacer
    granted = _admitted(
        _sendable(mine, lane, world, now_ms, done), lane, now_ms, world, done, pacer
    )
    ready.granted, ready.access = _in_time(granted, lane, world, done) if granted else (), access
    if not ready.granted:
        _hand_back(lane, world, done)
    return ready


def keep_in_time(ready: Ready, world: DeliveryPorts) -> bool:
    """True when part of a round may still go after the wait for its rate; the rest is decided."""
    ready.granted = _in_time(ready.granted, ready.lane, world, ready.done)
    return bool(ready.granted)


def requests_of(ready: Ready, world: DeliveryPorts) -> list[Request]:
    """The requests of a round that goes at once; from here on it counts as sent."""
    sent_ms = world.now_ms()
    build, lane = ready.lane.spec.build, ready.lane
    requests = [build(batch, lane.credential, ready.access) for batch, _ in ready.granted]
    ready.done.requests += len(requests)
    for _, works in ready.granted:
        for work in works:
            work.sent_ms = sent_ms
    return requests


def review(works: Sequence[PendingPush], world: DeliveryPorts) -> Delivered:
    """Decides withdrawn and expired pushes, drops another entry's, leaves the rest unsent."""
    done = Delivered()
    done.left = _claimed(works, world.now_ms(), world, done, counts=False)
    return done


def _addressed(
    works: Sequence[PendingPush], lane: Lane, world: DeliveryPorts, done: Delivered
) -> list[PendingPush]:
    done.addressed_ms = world.now_ms()
    return _sorted(late.addressed(works, lane, world.addresses), done) if works else []


def _sorted(found: late.SortedLate, done: Delivered) -> list[PendingPush]:
    done.decided += found.decided
    done.waiting += found.waiting
    done.moved += found.moved
    return found.fit


def _hand_back(lane: Lane, world: DeliveryPorts, done: Delivered) -> None:
    """A probe that was not sent after all: another may be it."""
    if done.probe:
        world.breaker.report(lane, good=0, failed=0, refused=False, retry_after_s=None)


OUT_OF_TIME = "its time ran out"


def _wellformed(works: Sequence[PendingPush], lane: Lane, done: Delivered) -> list[PendingPush]:
    """The pushes whose token is valid for this vendor."""
    valid = lane.spec.token_valid
    fit = [work for work in works if valid(work.target.token)]
    if len(fit) < len(works):
        done.decided += [
            (work, Decision.TOKEN_DEAD, "malformed token")
            for work in works
            if not valid(work.target.token)
        ]
    return fit


def expired_as(work: PendingPush) -> Decision:
    """The decision on an expired push: what held it; `expired` when no lane was tried."""
    if work.doubtful:
        return Decision.UNCERTAIN
    return Decision(work.target.held_by or work.kept_by or Decision.EXPIRED)


def badge_step(work: PendingPush) -> int:
    """The push's increment of the device's badge; -1 leaves the badge alone."""
    note = work.note
    counts = (
        note.kind == Kind.MESSAGE
        and note.push_type == PushType.ALERT
        and note.badge_mode == BadgeMode.INCREMENT
    )
    return note.badge_increment if counts else -1


def badge_steps(works: Sequence[PendingPush], now_ms: int) -> list[int]:
    """The same for each; what ran out of time takes no number."""
    return [-1 if work.note.expires_at_ms <= now_ms else badge_step(work) for work in works]


def _claimed(
    works: Sequence[PendingPush],
    now_ms: int,
    world: DeliveryPorts,
    done: Delivered,
    *,
    counts: bool = True,
) -> list[PendingPush]:
    """Our pushes that are not too old.

    A recalled or read push is that, not expired. counts: True takes their badge numbers.
    """
    mine = []
    steps = badge_steps(works, now_ms) if counts else [-1] * len(works)
    answers = world.claims.lease(works, steps) if works else ()
    for work, answer in zip(works, answers, strict=True):
        work.repeated = answer.why == Decision.UNCERTAIN
        work.counted, work.leased = answer.counted, True
        if answer.state == "gone":
            done.decided.append((work, *_gone(work, Decision(answer.why))))
        elif answer.state != "ours":
            done.dropped.append(work)
        elif work.note.expires_at_ms <= now_ms:
            done.decided.append((work, expired_as(work), OUT_OF_TIME))
        else:
            work.badge = (
                work.note.badge_value if work.note.badge_mode == BadgeMode.SET else answer.badge
            )
            mine.append(work)
    return mine


#: The notes of pushes that must not be sent any more.
_GONE_NOTES = {
    Decision.FOLDED: "another silent push went to this device less than 20 minutes ago",
    Decision.UNCERTAIN: "withdrawn, but an earlier try may have been seen",
    Decision.NO_DEVICE: "logged out, or the token is another's, since it was routed",
}


def _gone(work: PendingPush, why: Decision) -> tuple[Decision, str]:
    """Decision and note.

    An unanswered attempt may be on the screen: it stays UNCERTAIN (contract §7).
    """
    decision = Decision.UNCERTAIN if work.doubtful else why
    return decision, _GONE_NOTES.get(decision, "withdrawn before it was sent")


def _through_the_breaker(
    works: Sequence[PendingPush],
    state: BreakerProbe | BreakerOpen | None,
    world: DeliveryPorts,
    done: Delivered,
    *,
    waits_for_newest: bool = True,
) -> list[PendingPush]:
    if isinstance(state, BreakerOpen):
        done.on_hold += [(work, state.why) for work in works]
        return []
    works = _coalesced(
        _sorted(late.consented(works, world.consent, world.now_ms()), done),
        world,
        done,
        waits=state is None or waits_for_newest,
    )
    if state is None:
        return _sorted(late.in_their_places(works, world.screens), done)
    done.probe = True
    # The probe is a push that has failed least: one that can never succeed must not keep the
    # breaker open.
    ordered = sorted(works, key=lambda work: work.target.tried)
    # the others go where the lane's waiting pushes are, and leave with them in their order
    done.on_hold += [(work, state.why) for work in ordered[1:]]
    return _sorted(late.in_their_places(ordered[:1], world.screens), done)


def _coalesced(
    works: Sequence[PendingPush], world: DeliveryPorts, done: Delivered, *, waits: bool
) -> list[PendingPush]:
    """Coalesces pushes that an outage held into one per conversation and device.

    Pushes that waited a moment only go singly and in order.
    """
    old_ms = world.now_ms() - OLD_S * 1000
    if all(work.target.held_by is None and work.note.received_ms >= old_ms for work in works):
        return list(works)
    held = [work for work in works if work.target.held_by is not None and may_coalesce(work)]
    found = (
        world.backlog.look(
            [(group_of(work), work.target.push_id, work.note.received_ms) for work in held]
        )
        if held
        else ()
    )
    views = {
        work.target.push_id: view
        for work, view in zip(held, found, strict=True)
        if view is not None
    }
    coalesced_round = coalesce(works, views, world.now_ms(), waits=waits)
    done.decided += [
        (work, Decision.FOLDED, "a newer message of its conversation went out for it")
        for work in coalesced_round.folded
    ]
    done.waiting += [
        (work, COALESCE_LOOK_S, Decision(work.target.held_by or Decision.UNAVAILABLE))
        for work in coalesced_round.later
    ]
    for work in coalesced_round.go:
        badges = [one.badge for one in (work, *work.coalesced) if one.badge is not None]
        work.badge = max(badges, default=None)
    return coalesced_round.go


#: Interval of a held push's check for the newest of its conversation.
COALESCE_LOOK_S = 0.5


def _no_access(
    works: Sequence[PendingPush],
    lane: Lane,
    access: AccessRefused,
    world: DeliveryPorts,
    done: Delivered,
) -> None:
    """Without an access token no request is possible: the lane stops, or the pushes wait.

    It stops for a bad credential.
    """
    refused = access.verdict == Verdict.CREDENTIAL_REFUSED
    outcome = Outcome(
        access.verdict, "access", access.code, access.words, retry_after_s=access.retry_after_s
    )
    cause = cause_of([outcome])
    world.breaker.report(
        lane,
        good=0,
        failed=len(works),
        refused=refused,
        retry_after_s=access.retry_after_s,
        cause=cause,
    )
    if refused:
        done.on_hold += [(work, Decision.CREDENTIAL_REFUSED) for work in works]
        return
    done.outcomes += [(work, outcome) for work in works]


def _sendable(
    works: Sequence[PendingPush], lane: Lane, world: DeliveryPorts, now_ms: int, done: Delivered
) -> list[tuple[PendingPush, PushItem]]:
    """The pushes in the form of the vendor files: text, badge, seconds left."""
    sendable = []
    notes: dict[
        tuple[int, int], Notification
    ] = {}  # same words stay one object: they may share a request
    refuse = lane.spec.refuse
    for work in works:
        note, target = work.note, work.target
        if work.coalesced_count > 1:
            key = (id(note), work.coalesced_count)
            note = notes.get(key) or notes.setdefault(
                key, with_summary(note, world.summary_text(note, work.coalesced_count))
            )
        if target.attempts and too_long_before(target, lane.spec):
            note = notes.get((id(note), 0)) or notes.setdefault((id(note), 0), shortest(note))
        left_s = max((note.expires_at_ms - now_ms) // 1000, 0)
        item = PushItem(
            note, target, work.badge, left_s, 1 if not target.attempts else target.tried + 1
        )
        reason = _unfit(item, lane) if note.blob or note.kind is Kind.BADGE else None
        if reason is None and refuse is not None:
            reason = refuse(item)
        if reason is None:
            sendable.append((work, item))
        else:
            done.decided.append((work, Decision.REJECTED, reason))
    return sendable


#: Bytes of an opaque payload: half of one is worth nothing, so that it is refused before a vendor
#: cuts it.
BLOB_BYTES_MAX = 3_500


def _unfit(item: PushItem, lane: Lane) -> str | None:
    note = item.note
    if note.kind == Kind.BADGE and not lane.spec.badge_alone:
        return "badge_not_supported"
    return (
        "payload_too_large" if note.blob and len(compact(note.payload)) > BLOB_BYTES_MAX else None
    )


def _admitted(
    sendable: Sequence[tuple[PendingPush, PushItem]],
    lane: Lane,
    now_ms: int,
    world: DeliveryPorts,
    done: Delivered,
    pacer: Pace,
) -> list[tuple[RequestBatch, list[PendingPush]]]:
    """The batches that may go now. The rate counts requests or targets, as the vendor does.

    The gate therefore learns which pushes travel together.
    """
    if not sendable:
        return []
    url = world.callback_url(lane)
    least = lane.spec.request_tokens_min_list
    singly = 1 < least <= len(sendable) and world.gate.lists_spent(lane)
    most = None if lane.limits.rate_unit == "request" else pacer.burst
    batches = pack(
        [item for _, item in sendable],
        lane.spec,
        lane.credential,
        now_ms,
        url,
        singly=singly,
        tokens_max=most,
    )
    asks = [(item, number) for number, batch in enumerate(batches) for item in batch.items]
    permits = world.gate.admit(lane, asks)
    if (
        permits.count(GRANTED) == len(batches) == len(sendable)
        and lane.spec.request_tokens_max == 1
    ):  # each alone, in its order
        return [(batch, [work]) for batch, (work, _) in zip(batches, sendable, strict=True)]
    leaves, work_of = iter(permits), {id(item): work for work, item in sendable}
    granted = []
    for batch in batches:
        kept = []
        for item in batch.items:
            leave = next(leaves)
            if leave.decision is None:
                kept.append(item)
            else:
                _held(work_of[id(item)], leave, now_ms, done)
        if kept:
            granted.append(
                (
                    batch if len(kept) == len(batch.items) else _smaller(batch, kept),
                    [work_of[id(item)] for item in kept],
                )
            )
    return granted


def _in_time(
    granted: Sequence[tuple[RequestBatch, list[PendingPush]]],
    lane: Lane,
    world: DeliveryPorts,
    done: Delivered,
) -> list[tuple[RequestBatch, list[PendingPush]]]:
    """The last check before the send: expired pushes and lost tokens stay, and are refunded."""
    now_ms = world.now_ms()
    stay = [work for _, works in granted for work in works if work.note.expires_at_ms <= now_ms]
    if not stay and not done.lost and now_ms - done.addressed_ms <= late.ADDRESS_GOOD_MS:
        return list(granted)
    done.decided += [(work, expired_as(work), OUT_OF_TIME) for work in stay]
    lost = [
        work
        for _, works in granted
        for work in works
        if work.entry in done.lost and work.note.expires_at_ms > now_ms
    ]
    done.dropped += lost
    stay += lost
    staying = {id(work) for work in stay}
    stay += _moved_since(
        [work for _, works in granted for work in works if id(work) not in staying],
        lane,
        world,
        done,
    )
    if not stay:
        return list(granted)
    world.gate.refund(lane, stay)
    staying = {id(work) for work in stay}
    in_time = []
    for batch, works in granted:
        kept = [
            (item, work)
            for item, work in zip(batch.items, works, strict=True)
            if id(work) not in staying
        ]
        if kept:
            items, fit = zip(*kept, strict=True)
            in_time.append(
                (batch if len(kept) == len(works) else _smaller(batch, items), list(fit))
            )
    return in_time


def _moved_since(
    works: Sequence[PendingPush], lane: Lane, world: DeliveryPorts, done: Delivered
) -> list[PendingPush]:
    """The pushes whose token changed during the fetch of an access token; they go again."""
    if not works or world.now_ms() - done.addressed_ms <= late.ADDRESS_GOOD_MS:
        return []
    done.addressed_ms = world.now_ms()
    moved = [
        work
        for work, found in zip(works, world.addresses.where(lane, works), strict=True)
        if found is not late.Standing.KEPT
    ]
    done.waiting += [
        (work, 0.0, Decision(work.target.held_by or Decision.UNAVAILABLE)) for work in moved
    ]
    return moved


def _smaller(batch: RequestBatch, kept: Sequence[PushItem]) -> RequestBatch:
    return RequestBatch(tuple(kept), batch.now_ms, batch.callback_url, batch.prepared)


def _held(work: PendingPush, leave: Permit, now_ms: int, done: Delivered) -> None:
    """Holds a push for no longer than it lives.

    One that waits for the vendor's next day is decided `throttled` when it expires, not hours
    later.
    """
    if leave.decision == Decision.THROTTLED:
        done.waiting.append(
            (work, min(leave.wait_s, (work.note.expires_at_ms - now_ms) / 1000), Decision.THROTTLED)
        )
    elif leave.decision is not None:
        done.decided.append((work, leave.decision, "held back by our own count"))


def _costs(granted: Granted, lane: Lane) -> list[int]:
    if lane.limits.rate_unit == "request" or lane.spec.request_tokens_max == 1:
        return [1] * len(granted)
    return [len(batch.items) for batch, _ in granted]


def _asked(
    granted: Granted,
    lane: Lane,
    access: AccessToken | None,
    world: DeliveryPorts,
    done: Delivered,
    pacer: Pace,
) -> tuple[Granted, list[HttpResponse | NoAnswer]]:
    """The requests sent and their answers: at once where the rate allows it, else in parts."""
    costs = _costs(granted, lane)
    if pacer.part(costs) == (len(granted), 0.0):
        fit = _in_time(
            granted, lane, world, done
        )  # the lane's rate was asked meanwhile, and its server may have been away
        pacer.spend(sum(_costs(fit, lane)))
        return fit, _ask(fit, lane, access, world, done) if fit else []
    sent: list[tuple[RequestBatch, list[PendingPush]]] = []
    answers: list[Future[list[HttpResponse | NoAnswer]]] = []
    start = 0
    while (part := pacer.part(costs[start:])) is not None:
        count, wait_s = part
        if wait_s > 0:
            pacer.wait(wait_s)
            continue
        if (
            world.now_ms() - done.addressed_ms > late.ADDRESS_GOOD_MS
        ):  # of all that is left in one look
            granted = [*granted[:start], *_in_time(granted[start:], lane, world, done)]
            costs = _costs(granted, lane)
            continue
        pacer.spend(sum(costs[start : start + count]))
        if fit := _in_time(granted[start : start + count], lane, world, done):
            sent += fit
            answers.append(_parts_pool().submit(_ask, fit, lane, access, world, done))
        start += count
    done.left += [work for _, works in granted[start:] for work in works]
    if start < len(granted):
        world.gate.refund(lane, [work for _, works in granted[start:] for work in works])
    return sent, [answer for future in answers for answer in future.result()]


@cache
def _parts_pool() -> ThreadPoolExecutor:
    """Parts of paced rounds: the next one must not wait for the answers to the last."""
    return ThreadPoolExecutor(64, thread_name_prefix="paced")


def _ask(
    granted: Granted, lane: Lane, access: AccessToken | None, world: DeliveryPorts, done: Delivered
) -> list[HttpResponse | NoAnswer]:
    part = Ready(lane, done, granted, access)
    answers = list(lane.send_many(world.transport, requests_of(part, world), world.deadline_s))
    _follow(granted, answers, lane, access, world, done)
    return answers


def concluded(
    granted: Granted, answers: Sequence[HttpResponse | NoAnswer], ready: Ready, world: DeliveryPorts
) -> None:
    """Classifies the answers of the round and reports them to gate, breaker and access tokens."""
    lane, access, done = ready.lane, ready.access, ready.done
    if not granted:
        _hand_back(lane, world, done)
        return
    stale, failed = False, 0  # stale: what was refused is not used again, by no later probe either
    renew = False
    # the unsendable are the pushes' own fault: the vendor was not asked, so it was neither there
    # nor down
    asked = [
        answer for answer in answers if isinstance(answer, HttpResponse) or not answer.unsendable
    ]
    unasked = len(answers) - len(asked)
    world.observe(lane, asked)
    classify = lane.spec.classify
    for (batch, works), answer in zip(granted, answers, strict=True):
        outcomes = classify(batch, answer)
        if len(outcomes) == 1 and outcomes[0].verdict is Verdict.ACCEPTED:
            done.outcomes.append((works[0], outcomes[0]))
            continue
        outcomes = [
            shortened(item, escalate_expired_token(item, outcome), lane.spec)
            for item, outcome in zip(batch.items, outcomes, strict=True)
        ]
        failed += all(is_down(outcome) for outcome in outcomes)
        for work, outcome in zip(works, outcomes, strict=True):
            done.outcomes.append((work, outcome))
            stale = stale or outcome.verdict in ACCESS
            renew = renew or outcome.again == Again.NEW_CONNECTION
    if stale and access is not None:
        world.access.refused(
            lane, access, min(work.sent_ms for _, works in granted for work in works)
        )
    if stale or renew:
        world.transport.renew(lane.route.pool)
    # a probe whose access token was only too old has not tried the lane: another is the probe, with
    # a new token
    expired = any(outcome.verdict == Verdict.ACCESS_EXPIRED for _, outcome in done.outcomes)
    good = 0 if done.probe and expired else done.accepted + len(answers) - failed - unasked
    _settle_with_gate(lane, world, done, good, failed)
    _sync(granted, answers, lane, world)


def shortened(item: PushItem, outcome: Outcome, spec: VendorSpec) -> Outcome:
    """Retries a push that the vendor found too long, shortened; a second refusal is final."""
    if (
        outcome.verdict is not Verdict.REJECTED
        or (outcome.code or outcome.status) not in spec.too_long
        or too_long_before(item.target, spec)
    ):
        return outcome
    return replace(outcome, verdict=Verdict.UNAVAILABLE, again=Again.SHORTEST, retry_after_s=0.0)


def too_long_before(target: Target, spec: VendorSpec) -> bool:
    return any((attempt.code or attempt.status) in spec.too_long for attempt in target.attempts)


def escalate_expired_token(item: PushItem, outcome: Outcome) -> Outcome:
    """An access token is renewed once: a second refusal concerns the credential, or the clock."""
    again = (
        outcome.verdict is Verdict.ACCESS_EXPIRED
        and in_a_row(item, outcome.code or outcome.status) > 1
    )
    return replace(outcome, verdict=Verdict.CREDENTIAL_REFUSED) if again else outcome


def _follow(
    granted: Sequence[tuple[RequestBatch, list[PendingPush]]],
    answers: list[HttpResponse | NoAnswer],
    lane: Lane,
    access: AccessToken | None,
    world: DeliveryPorts,
    done: Delivered,
) -> None:
    """Sends the second request where a first answer asks for one (vivo's list push).

    Its answer replaces the first one's. The first request for several tokens pushes nothing by
    itself: when it is lost, no push was shown.
    """
    if lane.spec.follow is None:
        return
    second: list[tuple[int, Request]] = []
    for index, ((batch, _), answer) in enumerate(zip(granted, answers, strict=True)):
        request = (
            lane.spec.follow(batch, answer, lane.credential, access)
            if isinstance(answer, HttpResponse)
            else None
        )
        if request is not None:
            second.append((index, request))
        elif isinstance(answer, NoAnswer) and len(batch.items) > 1:
            answers[index] = replace(answer, sent=False)
    if second:
        world.observe(lane, [answers[index] for index, _ in second])
        for (index, _), answer in zip(
            second,
            lane.send_many(world.transport, [r for _, r in second], world.deadline_s),
            strict=True,
        ):
            answers[index] = answer
        done.requests += len(second)


def is_down(outcome: Outcome) -> bool:
    """True when the vendor is unavailable.

    One that asks for the push in another form is available.
    """
    return outcome.verdict in DOWN and outcome.again in (None, Again.NEW_CONNECTION)


def _settle_with_gate(
    lane: Lane, world: DeliveryPorts, done: Delivered, good: int, failed: int
) -> None:
    """Refunds what was not taken, reports quota and caps, and reports the round to the breaker."""
    if not failed and all(
        outcome.verdict is Verdict.ACCEPTED and not outcome.lists_spent
        for _, outcome in done.outcomes
    ):
        world.gate.refund(lane, ())
        world.breaker.report(lane, good, failed, False, None, 0)
        return
    world.gate.refund(
        lane, [work for work, outcome in done.outcomes if outcome.verdict in NOT_TAKEN]
    )
    for bucket in {
        o.bucket or work.note.bucket
        for work, o in done.outcomes
        if o.verdict == Verdict.QUOTA_SPENT and not o.token_only
    }:
        world.gate.report_quota_spent(lane, bucket)
    if any(o.lists_spent for _, o in done.outcomes):
        world.gate.report_lists_spent(lane)
    capped = [work for work, o in done.outcomes if o.verdict == Verdict.DEVICE_CAP]
    if capped:
        world.gate.report_capped(lane, capped)
    outcomes = [outcome for _, outcome in done.outcomes]
    refused = any(o.verdict == Verdict.CREDENTIAL_REFUSED for o in outcomes)
    throttled = sum(1 for o in outcomes if o.verdict == Verdict.THROTTLED and not o.token_only)
    hold_s = _retry_after_s(outcomes, failed >= good)
    world.breaker.report(
        lane,
        good,
        failed,
        refused,
        hold_s,
        throttled,
        cause_of(outcomes) if failed or refused else "",
    )


def _retry_after_s(outcomes: Sequence[Outcome], down: bool) -> float | None:
    """The longest Retry-After of the lane's flow control; after mostly failures, of any answer."""
    verdicts = (Verdict.THROTTLED, Verdict.UNAVAILABLE) if down else (Verdict.THROTTLED,)
    waits = [
        o.retry_after_s
        for o in outcomes
        if o.verdict in verdicts and o.retry_after_s and o.status.isdigit() and not o.token_only
    ]
    return max(waits, default=None)


def _sync(
    granted: Sequence[tuple[RequestBatch, list[PendingPush]]],
    answers: Sequence[HttpResponse | NoAnswer],
    lane: Lane,
    world: DeliveryPorts,
) -> None:
    """The last numbers that the vendor's answers gave of each bucket's day."""
    numbers_of, quota_reported = {}, lane.spec.quota_reported
    if quota_reported is None:
        return
    for (batch, _), answer in zip(granted, answers, strict=True):
        numbers = quota_reported(answer) if isinstance(answer, HttpResponse) else None
        if numbers is not None:
            numbers_of[batch.items[0].note.bucket] = numbers
    for bucket, (used, limit) in numbers_of.items():
        world.gate.report_quota(lane, bucket, used, limit)
