"""The shortest path of a round: batches of usual pushes as they were packed.

It creates no object per push but the parts of its request. Its conditions and outcomes are those of
deliver.py. A push that differs continues on the general path, with the numbers and answers it has
by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from common.contracts import AlikeBatch, LikeRow, push_like
from common.model import BadgeMode, Kind, PushType
from common.push_ids import push_ids
from workers.delivery import late, usual
from workers.delivery.deliver import (
    ClaimAnswer,
    Delivered,
    DeliveryPorts,
    LaneTurn,
    Ready,
    concluded,
    deliver,
)
from workers.delivery.lane import Lane
from workers.delivery.work import Hold, PendingPush
from workers.vendors.forms import PushValues, filled, form_of
from workers.vendors.types import AccessRefused, AccessToken, PushItem, RequestBatch, VendorSpec
from workers.wire import HttpResponse, NoAnswer, Request, RequestColumns


@dataclass(slots=True)
class AlikeRound:
    """entries: name and pushes of each. numbers: of each push its badge and what it has taken
    (`Target.counted`), once that is done.
    Once they are answered: sent_ms; vendor_ids: of those that were accepted, None of any other;
    others: these, as they were sent.
    """

    hold: Hold
    entries: Sequence[tuple[str, AlikeBatch]]
    rows: list[LikeRow] = field(default_factory=list)
    push_ids: list[str] = field(default_factory=list)
    numbers: Sequence[tuple[int, str]] | None = None
    sent_ms: int = 0
    vendor_ids: Sequence[str | None] = ()
    others: Sequence[PendingPush] = ()

    def __post_init__(self) -> None:
        self.rows = [row for _, batch in self.entries for row in batch.rows]


def is_usual(one: AlikeRound, lane: Lane, now_ms: int) -> bool:
    """As usual.is_usual, of all pushes of the round; and their tokens can be the vendor's."""
    for _, batch in one.entries:
        like = batch.like
        shown = (
            like.kind is Kind.MESSAGE
            and like.push_type is PushType.ALERT
            and like.badge_mode is BadgeMode.INCREMENT
        )
        if (
            not shown
            or like.blob
            or like.reply_key is not None
            or not batch.by_entry
            or like.direct
        ):
            return False
    rows = one.rows
    if (
        min([row.expires_at_ms for row in rows]) - now_ms <= usual.LIVES_MS
        or now_ms - min([row.received_ms for row in rows]) >= usual.FRESH_MS
    ):
        return False
    return all(map(lane.spec.token_valid, [row.token for row in rows]))


def tried(one: AlikeRound, lane: Lane, world: DeliveryPorts, turn: LaneTurn) -> Delivered | None:
    """The round's result: `accepted`, and the outcomes of the other pushes.

    None: nothing was sent; `generally` sends it.
    """
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
    answers = lane.send_many(world.transport, requests, world.deadline_s)
    one.vendor_ids = _vendor_ids(lane.spec, answers)
    done = Delivered(requests=count, addressed_ms=began_ms, lost=turn.lost)
    others = [place for place, name in enumerate(one.vendor_ids) if name is None]
    done.accepted = count - len(others)
    if not others:
        done.whole = True
        world.observe(lane, answers)
        return done
    one.others = _works(one, one.numbers, others)
    world.observe(
        lane,
        [answer for answer, name in zip(answers, one.vendor_ids, strict=True) if name is not None],
    )
    ready = Ready(lane, done, (), access)
    concluded(
        _granted(one.others, world.callback_url(lane), sent_ms),
        [answers[place] for place in others],
        ready,
        world,
    )
    return done


def _vendor_ids(spec: VendorSpec, answers: Sequence[HttpResponse | NoAnswer]) -> list[str | None]:
    """The vendor's id of each that was plainly accepted; None for any other answer."""
    if spec.alike is None:
        return [None] * len(answers)
    read = spec.alike.accepted_id
    return [read(answer) if type(answer) is HttpResponse else None for answer in answers]


def _works(
    one: AlikeRound, numbers: Sequence[tuple[int, str]], places: Sequence[int]
) -> list[PendingPush]:
    """The pushes at these places of the round, as they were sent."""
    wanted, found, start = set(places), list[PendingPush](), 0
    for name, batch in one.entries:
        for place, row in enumerate(batch.rows):
            if start + place not in wanted:
                continue
            badge, counted = numbers[start + place]
            push = push_like(batch.like, row, batch.platform)
            work = PendingPush(
                name, push.note, push.targets[0], place=place, by_entry=True, hold=one.hold
            )
            work.badge, work.sent_ms, work.counted, work.leased = badge, one.sent_ms, counted, True
            found.append(work)
        start += len(batch.rows)
    return found


def _granted(
    works: Sequence[PendingPush], url: str | None, now_ms: int
) -> list[tuple[RequestBatch, list[PendingPush]]]:
    """The request batches of these pushes, as the general path holds them."""
    return [
        (
            RequestBatch(
                (
                    PushItem(
                        note := work.note,
                        work.target,
                        work.badge,
                        (note.expires_at_ms - now_ms) // 1000,
                    ),
                ),
                now_ms,
                url,
            ),
            [work],
        )
        for work in works
    ]


def _requests(
    one: AlikeRound,
    numbers: Sequence[tuple[int, str]],
    lane: Lane,
    world: DeliveryPorts,
    access: AccessToken | None,
    now_ms: int,
) -> Sequence[Request] | None:
    """A request a push; None where the vendor's have no form, or refuse one of the pushes."""
    spec, url, start, parts = lane.spec, world.callback_url(lane), 0, list[RequestColumns]()
    for _, batch in one.entries:
        form = form_of(spec, batch, lane.credential, access, url)
        if form is None:
            return None
        rows, badges = batch.rows, [badge for badge, _ in numbers[start : start + len(batch.rows)]]
        ids = push_ids(
            batch.app, [(row.event_id, row.user, row.device) for row in rows], batch.like.kind
        )
        about = PushValues(ids, badges, [(row.expires_at_ms - now_ms) // 1000 for row in rows])
        one.push_ids += ids
        columns, odd = filled(form, spec, batch, about)
        others = {
            place: _odd(batch, place, about, lane, access, RequestBatch((), now_ms, url))
            for place in odd
        }
        if None in others.values():
            return None
        parts.append(
            RequestColumns(
                form,
                columns,
                len(rows),
                {place: other for place, other in others.items() if other is not None},
            )
        )
        start += len(rows)
    return parts[0] if len(parts) == 1 else joined(parts)


def _odd(
    batch: AlikeBatch,
    place: int,
    about: PushValues,
    lane: Lane,
    access: AccessToken | None,
    empty: RequestBatch,
) -> Request | None:
    """The request of a push that does not fit the form; None where the vendor would refuse it."""
    push = push_like(batch.like, batch.rows[place], batch.platform)
    item = PushItem(push.note, push.targets[0], about.badges[place], about.ttls_s[place])
    if lane.spec.refuse is not None and lane.spec.refuse(item) is not None:
        return None
    return lane.spec.build(
        RequestBatch((item,), empty.now_ms, empty.callback_url), lane.credential, access
    )


def joined(parts: Sequence[RequestColumns]) -> Sequence[Request]:
    """The requests of all parts in order: columns where they share a form."""
    form = parts[0].form
    if any(part.form is not form for part in parts):
        return [request for part in parts for request in part]
    columns = {
        name: [value for part in parts for value in part.columns[name]] for name in parts[0].columns
    }
    odd, start = dict[int, Request](), 0
    for part in parts:
        odd.update({start + place: request for place, request in part.odd.items()})
        start += len(part)
    return RequestColumns(form, columns, start, odd)


def generally(
    one: AlikeRound, works: Sequence[PendingPush], lane: Lane, world: DeliveryPorts, turn: LaneTurn
) -> Delivered:
    """A round that `tried` has not sent. works: its pushes, in order."""
    if one.numbers is None:
        return deliver(works, lane, world, turn)
    taken = [ClaimAnswer("ours", badge, "", counted) for badge, counted in one.numbers]
    return deliver(works, lane, replace(world, claims=usual.ToldClaims(works, taken)), turn)
