"""The shortest way of a round: batches of usual pushes as they were packed, with no object a push but its request's parts.

It asks and says what stage.py does. What turns out different goes on in the general way, with the numbers and answers that it has by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from common.contracts import AlikeBatch, LikeRow, push_like
from common.model import BadgeMode, Kind, PushType
from common.push_ids import push_id
from workers.delivery import late, usual
from workers.delivery.lane import Lane
from workers.delivery.stage import ClaimAnswer, Delivered, DeliveryPorts, LaneTurn, Ready, concluded, deliver
from workers.delivery.work import Hold, PendingPush
from workers.vendors.base import AccessRefused, AccessToken, PushItem, RequestBatch, VendorSpec
from workers.vendors.forms import PushValues, filled, form_of
from workers.wire import HttpResponse, NoAnswer, Request, RequestColumns


@dataclass(slots=True)
class AlikeRound:
    """entries: name and pushes of each. numbers: of each push its badge and what it has taken (`Target.counted`), once that is done.
    sent_ms, answers: once they are sent; vendor_ids: once all are accepted."""

    hold: Hold
    entries: Sequence[tuple[str, AlikeBatch]]
    rows: list[LikeRow] = field(default_factory=list)
    push_ids: list[str] = field(default_factory=list)
    numbers: Sequence[tuple[int, str]] | None = None
    sent_ms: int = 0
    answers: Sequence[HttpResponse | NoAnswer] = ()
    vendor_ids: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.rows = [row for _, batch in self.entries for row in batch.rows]


def is_usual(one: AlikeRound, lane: Lane, now_ms: int) -> bool:
    """As usual.is_usual, of all pushes of the round; and their tokens can be the vendor's."""
    for _, batch in one.entries:
        like = batch.like
        shown = like.kind is Kind.MESSAGE and like.push_type is PushType.ALERT and like.badge_mode is BadgeMode.INCREMENT
        if not shown or like.blob or like.reply_key is not None or not batch.by_entry or like.direct:
            return False
    rows = one.rows
    if (
        min([row.expires_at_ms for row in rows]) - now_ms <= usual.LIVES_MS
        or now_ms - min([row.received_ms for row in rows]) >= usual.FRESH_MS
    ):
        return False
    return all(map(lane.spec.token_valid, [row.token for row in rows]))


def tried(one: AlikeRound, lane: Lane, world: DeliveryPorts, turn: LaneTurn) -> Delivered | None:
    """`whole`, as of usual.tried. None: not all of it went as usual, and `generally` goes on with the round."""
    began_ms, count = world.now_ms(), len(one.rows)
    if turn.state is not None or world.rows is None or not is_usual(one, lane, began_ms):
        return None
    one.numbers = world.rows.take(lane, one)
    access = world.access.get(lane, began_ms) if one.numbers is not None else None
    if one.numbers is None or isinstance(access, AccessRefused):
        return None
    requests = _requests(one, one.numbers, lane, world, access, began_ms)
    if requests is None or turn.pacer.part([1] * count) != (count, 0.0):
        return None
    sent_ms = world.now_ms()
    if turn.lost or sent_ms - began_ms > late.ADDRESS_GOOD_MS:
        return None
    turn.pacer.spend(count)
    one.sent_ms = sent_ms
    one.answers = answers = lane.send_many(world.transport, requests, world.deadline_s)
    ids = _vendor_ids(lane.spec, answers)
    if ids is None:
        return None
    one.vendor_ids = ids
    world.observe(lane, answers)
    return Delivered(requests=count, addressed_ms=began_ms, lost=turn.lost, whole=True)


def _vendor_ids(spec: VendorSpec, answers: Sequence[HttpResponse | NoAnswer]) -> list[str] | None:
    """None where one is anything but accepted."""
    if spec.alike is None:
        return None
    read, found = spec.alike.accepted_id, list[str]()
    for answer in answers:
        name = read(answer) if type(answer) is HttpResponse else None
        if name is None:
            return None
        found.append(name)
    return found


def _requests(
    one: AlikeRound, numbers: Sequence[tuple[int, str]], lane: Lane, world: DeliveryPorts, access: AccessToken | None, now_ms: int
) -> Sequence[Request] | None:
    """A request a push; None where the vendor's have no form, or refuse one of the pushes."""
    spec, url, start, parts = lane.spec, world.callback_url(lane), 0, list[RequestColumns]()
    for _, batch in one.entries:
        form = form_of(spec, batch, lane.credential, access, url)
        if form is None:
            return None
        part = numbers[start : start + len(batch.rows)]
        about = [
            PushValues(push_id(batch.app, row.event_id, row.user, row.device, batch.like.kind), badge, (row.expires_at_ms - now_ms) // 1000)
            for row, (badge, _) in zip(batch.rows, part, strict=True)
        ]
        one.push_ids += [own.push_id for own in about]
        columns, odd = filled(form, spec, batch, about)
        others = {place: _odd(batch, batch.rows[place], about[place], lane, access, RequestBatch((), now_ms, url)) for place in odd}
        if None in others.values():
            return None
        parts.append(RequestColumns(form, columns, len(about), {place: other for place, other in others.items() if other is not None}))
        start += len(batch.rows)
    return parts[0] if len(parts) == 1 else joined(parts)


def _odd(batch: AlikeBatch, row: LikeRow, about: PushValues, lane: Lane, access: AccessToken | None, empty: RequestBatch) -> Request | None:
    """The request of a push that does not follow the form; None where the vendor would refuse it."""
    push = push_like(batch.like, row, batch.platform)
    item = PushItem(push.note, push.targets[0], about.badge, about.ttl_s)
    if lane.spec.refuse is not None and lane.spec.refuse(item) is not None:
        return None
    return lane.spec.build(RequestBatch((item,), empty.now_ms, empty.callback_url), lane.credential, access)


def joined(parts: Sequence[RequestColumns]) -> Sequence[Request]:
    """The requests of all parts in order: columns where they share a form."""
    form = parts[0].form
    if any(part.form is not form for part in parts):
        return [request for part in parts for request in part]
    columns = {name: [value for part in parts for value in part.columns[name]] for name in parts[0].columns}
    odd, start = dict[int, Request](), 0
    for part in parts:
        odd.update({start + place: request for place, request in part.odd.items()})
        start += len(part)
    return RequestColumns(form, columns, start, odd)


def generally(one: AlikeRound, works: Sequence[PendingPush], lane: Lane, world: DeliveryPorts, turn: LaneTurn) -> Delivered:
    """What is left of a round that did not go as usual. works: its pushes, in order."""
    if one.numbers is None:
        return deliver(works, lane, world, turn)
    reply = [ClaimAnswer("ours", badge, "", counted) for badge, counted in one.numbers]
    if not one.answers:
        return deliver(works, lane, replace(world, claims=usual.ClaimsInHand(works, reply)), turn)
    url, batches = world.callback_url(lane), list[RequestBatch]()
    for work, answer in zip(works, reply, strict=True):
        work.sent_ms, work.badge, work.counted, work.leased = one.sent_ms, answer.badge, answer.counted, True
        item = PushItem(work.note, work.target, answer.badge, (work.note.expires_at_ms - one.sent_ms) // 1000)
        batches.append(RequestBatch((item,), one.sent_ms, url))
    done = Delivered(lost=turn.lost, requests=len(works), addressed_ms=one.sent_ms)
    access = world.access.get(lane, one.sent_ms)
    ready = Ready(lane, done, (), None if isinstance(access, AccessRefused) else access)
    concluded([(batch, [work]) for batch, work in zip(batches, works, strict=True)], one.answers, ready, world)
    return done
