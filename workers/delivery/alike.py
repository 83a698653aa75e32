"""The shortest path of a round: batches of usual pushes as they were packed, and batches of one
notification, as a group's pages have them.

It creates no object per push but the parts of its request. Its conditions and outcomes are those of
deliver.py. A push that differs continues on the general path, with the numbers and answers it has
by then.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from common.columns import ColumnBatch, SharedBatch, ids_of, push_at
from common.contracts import AlikeBatch, LikeRow
from common.model import BadgeMode, Kind, PushType
from workers.delivery import usual
from workers.delivery.deliver import Ready, concluded, deliver
from workers.delivery.lane import Lane
from workers.delivery.pacing import goes_whole
from workers.delivery.ports import ClaimAnswer, DeliveryPorts, LaneTurn
from workers.delivery.results import Delivered
from workers.delivery.work import Hold, PendingPush
from workers.vendors.forms import PushValues, filled, form_of
from workers.vendors.types import AccessRefused, AccessToken, PushItem, RequestBatch, VendorSpec
from workers.wire import HttpResponse, NoAnswer, Request, RequestColumns, ResponseColumns


@dataclass(slots=True)
class AlikeRound:
    """entries: name and pushes of each. numbers: of each push its badge and what it has taken
    (`Target.counted`), once that is done; numbers_ms: when they were asked for.
    Once they are answered: sent_ms; vendor_ids: of those that were accepted, None of any other;
    others: these, as they were sent. parts: rounds that this one is made of (`joined_round`).
    """

    hold: Hold
    entries: Sequence[tuple[str, ColumnBatch]]
    rows: list[LikeRow] = field(default_factory=list)
    push_ids: list[str] = field(default_factory=list)
    numbers: Sequence[tuple[int, str]] | None = None
    numbers_ms: int = 0
    sent_ms: int = 0
    vendor_ids: Sequence[str | None] = ()
    others: Sequence[PendingPush] = ()
    parts: Sequence[AlikeRound] = ()

    def __post_init__(self) -> None:
        self.rows = [row for _, batch in self.entries for row in batch.rows]


def joined_round(parts: Sequence[AlikeRound]) -> AlikeRound:
    """Rounds of one lane in several shards as one, which is sent as one."""
    entries = [entry for part in parts for entry in part.entries]
    return AlikeRound(parts[0].hold, entries, parts=parts)


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
            or (isinstance(batch, SharedBatch) and like.collapse_id != like.message_id)
        ):
            return False
    rows = one.rows
    if (
        min([row.expires_at_ms for row in rows]) - now_ms <= usual.LIVES_MS
        or now_ms - min([row.received_ms for row in rows]) >= usual.FRESH_MS
    ):
        return False
    alike = lane.spec.alike
    return alike is not None and alike.tokens_valid([row.token for row in rows])


@dataclass(slots=True)
class ReadyRound:
    """A round before its send. requests: one a push; began_ms: when its tokens were compared."""

    one: AlikeRound
    lane: Lane
    requests: Sequence[Request]
    access: AccessToken | None
    began_ms: int

    def leaves(self, lost: Collection[str], now_ms: int) -> bool:
        """True when it may go now, as of now; then it counts as sent.

        lost: names of entries that another sender claims meanwhile.
        """
        if lost or not usual.in_time(self.began_ms, now_ms):
            return False
        self.one.sent_ms = now_ms
        return True


def prepared(
    rounds: Sequence[tuple[Lane, AlikeRound]], ports: DeliveryPorts
) -> list[ReadyRound | None]:
    """Rounds of many lanes up to their send, their numbers taken in one call.

    None for a round: nothing was sent; `generally` sends it, with the numbers that it has by then.
    """
    began_ms = ports.now_ms()
    if ports.rows is None:
        return [None] * len(rounds)
    usual_ones = [(lane, one) for lane, one in rounds if is_usual(one, lane, began_ms)]
    taken = ports.rows.take(usual_ones) if usual_ones else ()
    for (_, one), numbers in zip(usual_ones, taken, strict=True):
        one.numbers, one.numbers_ms = numbers, began_ms
        for part in one.parts:
            part.numbers_ms = began_ms
    return [_ready(one, lane, ports, began_ms) for lane, one in rounds]


def _ready(one: AlikeRound, lane: Lane, ports: DeliveryPorts, began_ms: int) -> ReadyRound | None:
    access = ports.access.get(lane, began_ms) if one.numbers is not None else None
    if one.numbers is None or isinstance(access, AccessRefused):
        return None
    requests = _requests(one, one.numbers, lane, ports, access, began_ms)
    return None if requests is None else ReadyRound(one, lane, requests, access, began_ms)


def tried(ready: ReadyRound | None, ports: DeliveryPorts, turn: LaneTurn) -> Delivered | None:
    """The result of a round that is `prepared`: `accepted`, and the outcomes of the other pushes.

    None: nothing was sent; `generally` sends it.
    """
    if ready is None:
        return None
    count, lane = len(ready.one.rows), ready.lane
    if not goes_whole(turn.pacer, count):
        return None
    if not ready.leaves(turn.lost, ports.now_ms()):
        return None
    turn.pacer.spend(count)
    answers = lane.send_many(ports.transport, ready.requests, ports.deadline_s)
    return answered(ready, answers, turn.lost, ports)


def answered(
    ready: ReadyRound,
    answers: Sequence[HttpResponse | NoAnswer],
    lost: Collection[str],
    ports: DeliveryPorts,
) -> Delivered:
    """The result of a round that was sent, as `tried` has it."""
    one, lane, numbers = ready.one, ready.lane, ready.one.numbers or ()
    one.vendor_ids = _vendor_ids(lane.spec, answers)
    done = Delivered(requests=len(answers), addressed_ms=ready.began_ms, lost=lost)
    others = [place for place, name in enumerate(one.vendor_ids) if name is None]
    done.accepted = len(answers) - len(others)
    if not others:
        done.whole = True
        ports.observe(lane, answers)
        return done
    one.others = _works(one, numbers, others)
    ports.observe(
        lane,
        [answer for answer, name in zip(answers, one.vendor_ids, strict=True) if name is not None],
    )
    concluded(
        _granted(one.others, ports.callback_url(lane), one.sent_ms),
        [answers[place] for place in others],
        Ready(lane, done, (), ready.access),
        ports,
    )
    return done


def all_accepted(ready: ReadyRound, answers: Sequence[HttpResponse | NoAnswer]) -> bool:
    """True when `answered` finds nothing but plain acceptance."""
    return None not in _vendor_ids(ready.lane.spec, answers)


def _vendor_ids(spec: VendorSpec, answers: Sequence[HttpResponse | NoAnswer]) -> list[str | None]:
    """The vendor's id of each that was plainly accepted; None for any other answer."""
    if spec.alike is None:
        return [None] * len(answers)
    read, read_header = spec.alike.accepted_id, spec.alike.header_id
    parts = answers.parts if isinstance(answers, ResponseColumns) else answers
    return [
        read_header(one[0], one[1])
        if isinstance(one, tuple)
        else read(one)
        if isinstance(one, HttpResponse)
        else None
        for one in parts
    ]


def _works(
    one: AlikeRound, numbers: Sequence[tuple[int, str]], places: Sequence[int]
) -> list[PendingPush]:
    """The pushes at these places of the round, as they were sent."""
    wanted, found, start = set(places), list[PendingPush](), 0
    for name, batch in one.entries:
        for place in range(len(batch.rows)):
            if start + place not in wanted:
                continue
            badge, counted = numbers[start + place]
            push = push_at(batch, place)
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
    ports: DeliveryPorts,
    access: AccessToken | None,
    now_ms: int,
) -> Sequence[Request] | None:
    """A request a push; None where the vendor's have no form, or refuse one of the pushes."""
    spec, url, start, parts = lane.spec, ports.callback_url(lane), 0, list[RequestColumns]()
    for batch in _merged([batch for _, batch in one.entries]):
        form = form_of(spec, batch, lane.credential, access, url)
        if form is None:
            return None
        rows, badges = batch.rows, [badge for badge, _ in numbers[start : start + len(batch.rows)]]
        ids = ids_of(batch)
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


def _merged(batches: Sequence[ColumnBatch]) -> list[ColumnBatch]:
    """Adjacent batches whose requests differ in their rows only, as one."""
    groups: list[list[ColumnBatch]] = []
    for batch in batches:
        if groups and _like(groups[-1][0], batch):
            groups[-1].append(batch)
        else:
            groups.append([batch])
    return [
        group[0]
        if len(group) == 1
        else msgspec.structs.replace(
            group[0], rows=tuple([row for batch in group for row in batch.rows])
        )
        for group in groups
    ]


def _like(first: ColumnBatch, batch: ColumnBatch) -> bool:
    """True when both share their notification but for the times of presence and routing, which no
    request shows.
    """
    if not (isinstance(first, AlikeBatch) and isinstance(batch, AlikeBatch)):
        return False
    like, own = first.like, batch.like
    return (first.app, first.platform) == (batch.app, batch.platform) and like == (
        msgspec.structs.replace(own, presence_ms=like.presence_ms, routed_ms=like.routed_ms)
    )


def _odd(
    batch: ColumnBatch,
    place: int,
    about: PushValues,
    lane: Lane,
    access: AccessToken | None,
    empty: RequestBatch,
) -> Request | None:
    """The request of a push that does not fit the form; None where the vendor would refuse it."""
    push = push_at(batch, place)
    item = PushItem(push.note, push.targets[0], about.badges[place], about.ttls_s[place])
    if lane.spec.refuse is not None and lane.spec.refuse(item, lane.credential) is not None:
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
    one: AlikeRound, works: Sequence[PendingPush], lane: Lane, ports: DeliveryPorts, turn: LaneTurn
) -> Delivered:
    """A round that `tried` has not sent. works: its pushes, in order."""
    if one.numbers is None:
        return deliver(works, lane, ports, turn)
    known = usual.KnownClaims(works, claims_of(one))
    return deliver(
        works,
        lane,
        replace(ports, claims=known),
        msgspec.structs.replace(turn, leased_ms=one.numbers_ms),
    )


def claims_of(one: AlikeRound) -> list[ClaimAnswer]:
    """The claims of its pushes, whose numbers were taken."""
    return [ClaimAnswer("ours", badge, "", counted) for badge, counted in one.numbers or ()]
