"""Recalls and cancels of shown pushes: the ledger's recipients get the withdrawal.

It has the same ids on the screen.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec

from common.call_times import invited_ms
from common.clock import now_ms
from common.contracts import (
    Conversation,
    Gate,
    Message,
    OfflineRecipients,
    PushFields,
    Recipient,
    Sender,
    encode,
)
from common.ledger_records import Place
from common.model import Kind, MessageClass, PushType, Urgency, Vendor
from common.ports import AwayError
from common.storage import keys
from common.storage.raw_pipe import command, first_score, read_all
from common.storage.screens import KEEP_MIN_MS
from common.storage.scripts import script
from common.storage.shards import shard_of
from common.storage.unavailable import database_unavailable
from workers.app import PRESENCE, ROUTING
from workers.intake.effects import Withdrawal
from workers.lane_timer import LaneTimer
from workers.routing.fan_out import urgency_of
from workers.routing.texts import READ, CallEnding, ending_of
from workers.runtime import Runtime
from workers.vendors import VENDORS

log = logging.getLogger(__name__)

#: Key and number of a lease (common/storage/leases.py).
Fence = tuple[str, int]

#: A push may be on the wire while its message is recalled, or in the hands of a process that was
#: just killed: so the ledger is read several times, seconds after the recall. Push ids make the
#: repeats harmless.
LOOKS_S = (1.0, 4.0, 15.0, 45.0)
#: Beyond two requests in a row: what a lease and the hand-over take.
SETTLED_S = 25.0
USUAL_S = LOOKS_S[-1]
#: Between a push's decision and its row's arrival on the ledger's stream, and between the clocks of
#: two machines, there is less than this.
LATE_S = 65.0
#: Lifetime of a withdrawal, seconds.
TTL_S = 86_400
#: Recalls of one round, and the time for further rounds of a call: upkeep has wake-ups to send,
#: too. Most recalls concern pushes that were never shown (every call ends once), and one query per
#: round finds those.
ROUND = 200
BUDGET_S = 0.5
#: Part of it for pushes that wait in lanes' queues: the rest is for those that somebody saw.
QUEUES_S = 0.2
#: Rows of one page of a wish: after each it is advanced.
PAGE = 1_000
#: Seconds after which a started recall that was not finished is repeated, and the number of
#: repeats.
AGAIN_S = 20.0
TRIES_MAX = 5
#: After the database was away.
AWAY_S = 2.0
#: Age of a push after its routing up to which a clear takes it for shown.
SHOWN_MS = 7 * 86_400_000
#: Places on a screen that one clear looks at, the last ones first.
PLACES_MAX = 50
#: People of one entry on the routing stream.
CHUNK = 500


class PendingRecall(msgspec.Struct, frozen=True, array_like=True):
    """after: the last row that a page of it was made of. tries: how often it was begun since.
    due_s: of its look; 0: its score.
    """

    app: str
    event_id: str
    message_id: str
    kind: Kind
    ts_ms: int
    users: tuple[str, ...] | None
    conversation: str = ""
    reason: str = ""
    after: Place | None = None
    tries: int = 0
    due_s: float = 0.0


class Due(msgspec.Struct, frozen=True):
    """A wish as it lies in Redis: a digit, that of its look, and the wish."""

    member: bytes
    recall: PendingRecall
    due_s: float

    @property
    def look(self) -> int:
        return int(self.member[:1])

    @property
    def message(self) -> tuple[str, str]:
        return self.recall.app, self.recall.message_id

    @property
    def is_clear(self) -> bool:
        return self.recall.kind == Kind.CLEAR

    @property
    def token(self) -> tuple[str, str]:
        """The token whose conversation a clear means."""
        (user,) = self.recall.users or ("",)
        return self.recall.app, user

    def changed(self, **fields: Any) -> bytes:
        return self.member[:1] + encode(
            msgspec.structs.replace(self.recall, due_s=self.due_s, **fields)
        )


def _now_s(runtime: Runtime) -> float:
    """By Redis' clock: who remembers a wish and who looks at it are two machines."""
    seconds, micros = runtime.redis.time()
    return int(seconds) + int(micros) / 1e6


def _looks_s(runtime: Runtime) -> tuple[float, ...]:
    """The looks; one more where a push may be answered after the last.

    Two requests in a row take their deadline each.
    """
    longest = 2 * runtime.settings.send_timeout_s + SETTLED_S
    return LOOKS_S if longest <= USUAL_S else (*LOOKS_S, longest)


def schedule(runtime: Runtime, withdrawals: Sequence[Withdrawal]) -> None:
    """Remembers (Redis) that these messages or calls have to be withdrawn where they were shown."""
    if not withdrawals:
        return
    now_s = _now_s(runtime)
    with runtime.redis.pipeline(transaction=True) as pipe:
        for one in withdrawals:
            recall = encode(
                PendingRecall(
                    one.app,
                    one.event_id,
                    one.message_id,
                    one.kind,
                    one.ts_ms,
                    one.users,
                    one.conversation,
                    one.reason,
                )
            )
            for index, after_s in enumerate(_looks_s(runtime)):
                pipe.zadd(runtime.keys.withdrawals, {b"%d" % index + recall: now_s + after_s})
        pipe.execute()


def due_in_s(runtime: Runtime) -> float:
    """Seconds until the next look is due, 0 where one is. Mostly there is none: one round trip.

    The first look of a new recall is due in LOOKS_S[0].
    """
    return all_due_in_s([runtime])[0]


def all_due_in_s(shards: Sequence[Runtime]) -> list[float]:
    """As due_in_s, of each of some shards on one server."""
    looks = [command("ZRANGE", one.keys.withdrawals, "0", "0", "WITHSCORES") for one in shards]
    reply = read_all(shards[0].redis, command("TIME") + "".join(looks), 1 + len(looks))
    (seconds, micros), *firsts = reply
    now_s = int(seconds) + int(micros) / 1e6
    left = [first_score(first) - now_s if first else LOOKS_S[0] for first in firsts]
    return [min(max(left_s, 0.0), LOOKS_S[0]) for left_s in left]


def withdraw_due(runtime: Runtime, fence: Fence | None = None) -> int:
    """Looks up who got what is to be withdrawn and sends them its withdrawal. Number of wishes
    looked at.

    fence: the key and the number of the lease under which it is done.
    """
    until, looked = time.monotonic() + BUDGET_S, 0
    while found := _round(runtime, fence, until):
        looked += found
        if found < ROUND or time.monotonic() >= until:
            break
    return looked


def _round(runtime: Runtime, fence: Fence | None, until: float) -> int:
    key = runtime.keys.withdrawals
    found = cast(
        list[tuple[bytes, float]],
        runtime.redis.zrangebyscore(key, "-inf", _now_s(runtime), 0, ROUND, withscores=True),
    )
    if not found:
        return 0
    written_s = _written_until_s(runtime)
    read = [
        (member, score, msgspec.msgpack.decode(member[1:], type=PendingRecall))
        for member, score in found
        if score < written_s
    ]
    recalls = [Due(member, recall, recall.due_s or score) for member, score, recall in read]
    _end_recalled(
        runtime,
        [
            one.recall
            for one in recalls
            if one.look in (0, len(_looks_s(runtime)) - 1) and not one.is_clear
        ],
    )
    seen = _seen(runtime, recalls)
    unseen = [one.member for one in recalls if one.member not in seen]
    if unseen:
        runtime.redis.zrem(key, *unseen)
    looked = len(unseen)
    for one in recalls:
        if one.member in seen:
            left: Due | None = one
            with contextlib.suppress(AwayError):  # it is looked at again
                while left is not None and time.monotonic() < until:
                    left = _page(runtime, left, fence)
            looked += 1
    return looked


def _seen(runtime: Runtime, recalls: Sequence[Due]) -> set[bytes]:
    """The wishes that ask about what some push is, or may be, on a screen of. Two queries."""
    messages = runtime.ledger.seen_among([one.message for one in recalls if not one.is_clear])
    tokens = runtime.ledger.tokens_seen(
        [one.token for one in recalls if one.is_clear], now_ms() - SHOWN_MS
    )
    return {
        one.member
        for one in recalls
        if (one.token in tokens if one.is_clear else one.message in messages)
    }


def _page(runtime: Runtime, one: Due, fence: Fence | None) -> Due | None:
    """The next page of who got it; what is left of the wish.

    The wish is put back before its page is begun: what kills us, or takes too long, is not met at
    once again.
    """
    if one.recall.tries >= TRIES_MAX:
        log.error(
            "a withdrawal is given up: its look fails again and again",
            extra={"app": one.recall.app, "count": one.recall.tries},
        )
        runtime.redis.zrem(runtime.keys.withdrawals, one.member)
        return None
    held = one.changed(tries=one.recall.tries + 1)
    if not _replace(runtime, one.member, held, _now_s(runtime) + AGAIN_S, fence):
        return None
    try:
        since_ms = _since_ms(_looks_s(runtime), one.look, one.due_s)
        if one.is_clear:
            rows, offline = list[dict[str, Any]](), _cleared(runtime, one, since_ms)
        else:
            rows = runtime.ledger.accepted_of(*one.message, since_ms, one.recall.after, PAGE)
            offline = _offline(runtime, one.recall, rows)
    except database_unavailable() as error:
        from common.storage import sql  # noqa: PLC0415 - it is loaded by now

        if not sql.took_too_long(error):  # the database's fault, not the wish's
            _replace(runtime, held, one.member, _now_s(runtime) + AWAY_S, fence)
            raise
        log.warning(
            "a look for who got a message took too long",
            extra={"app": one.recall.app, "count": one.recall.tries + 1},
        )
        return None
    last = rows[-1] if len(rows) == PAGE else None
    after = (last["event_id"], last["user"], last["device"]) if last else None
    member = one.changed(after=after, tries=0) if after else b""
    done = _replace(runtime, held, member, one.due_s, fence, offline)
    if offline:
        runtime.send_wake_up(ROUTING)
        if len(runtime.shards) > 1:
            runtime.send_wake_up(PRESENCE)  # whose workers take to other shards what is theirs
    return (
        Due(member, msgspec.structs.replace(one.recall, after=after, tries=0), one.due_s)
        if after and done
        else None
    )


def _replace(
    runtime: Runtime,
    member: bytes,
    by: bytes,
    score: float,
    fence: Fence | None,
    offline: Sequence[OfflineRecipients] = (),
) -> bool:
    """In one step: another wish (b"": none) in the place of this one, and entries for routing.
    False: it is not ours any more.
    """
    key, epoch = fence or (runtime.keys.lease_epoch("recalls"), 0)
    streams = [runtime.keys.stream(name) for name in (*map(keys.routing, Urgency), *keys.OUT)]
    args = [epoch, member, by, score, *_entries(runtime, offline)]
    return bool(
        script(runtime.redis, "withdraw")(keys=[runtime.keys.withdrawals, key, *streams], args=args)
    )


_URGENCIES = tuple(Urgency)


def _entries(runtime: Runtime, offline: Sequence[OfflineRecipients]) -> list[int | bytes]:
    """(stream's index, entry) of each: people of other shards by the outgoing streams."""
    count, found = len(runtime.shards), list[int | bytes]()
    for one in offline:
        level = _URGENCIES.index(urgency_of(one.message, ""))
        people: dict[int, list[Recipient]] = {}
        for who in one.recipients:
            people.setdefault(shard_of(count, one.message.app, who.user), []).append(who)
        for shard, those in people.items():
            blob = encode([msgspec.structs.replace(one, recipients=tuple(those))])
            if shard == runtime.number:
                found += [level, blob]
            else:
                found += [
                    len(_URGENCIES) + level,
                    encode((shard, keys.routing(_URGENCIES[level]), blob)),
                ]
    return found


def _since_ms(looks_s: Sequence[float], look: int, due_s: float) -> int:
    """The first look reads all, each later one what was decided since the one before.

    A large group is thus not sent to four times.
    """
    return (
        int((due_s - looks_s[look] + looks_s[look - 1] - LATE_S) * 1000)
        if 0 < look < len(looks_s)
        else 0
    )


def _written_until_s(runtime: Runtime) -> float:
    """The time up to which all is in the ledger's tables; a look that is due later waits."""
    firsts: list[Any] = [
        one.redis.xrange(one.keys.stream(keys.LEDGER), count=1) for one in runtime.shards
    ]
    return min(
        (int(first[0][0].split(b"-")[0]) / 1000 for first in firsts if first), default=float("inf")
    )


def _end_recalled(runtime: Runtime, recalls: Sequence[PendingRecall]) -> None:
    """Ends recalled pushes that wait in a lane's queue now, not when they expire."""
    words: dict[str, list[str]] = {}
    for recall in recalls:
        words.setdefault(recall.app, []).append(recall.message_id)
    if words:
        until = time.monotonic() + QUEUES_S
        for one in runtime.shards:
            LaneTimer(one).recalled(words, until)


def _offline(
    runtime: Runtime, recall: PendingRecall, rows: Sequence[Mapping[str, Any]]
) -> list[OfflineRecipients]:
    """Recipients of the first push, with their remaining devices, for its withdrawal."""
    named = frozenset(recall.users or ())
    by_event: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if _means(recall, named, row):
            by_event.setdefault(row["event_id"], []).append(row)
    found: list[OfflineRecipients] = []
    for of_event in by_event.values():
        message = _message(recall, of_event[0])
        for people in _chunks(_people(runtime, recall, of_event)):
            found.append(
                OfflineRecipients(message=message, recipients=people, presence_ms=now_ms())
            )
    return found


def _cleared(runtime: Runtime, one: Due, since_ms: int) -> list[OfflineRecipients]:
    """Withdrawals of the conversation's pushes on the token's screen, decided since then."""
    recall, (app, user) = one.recall, one.token
    rows = runtime.ledger.shown_to_token(app, user, recall.conversation, now_ms() - SHOWN_MS)
    standing = [row for row in _standing(rows, recall.ts_ms) if row["decided_ms"] >= since_ms]
    devices = runtime.devices.of_users(app, [user]).get(user, ()) if standing else ()
    return [
        OfflineRecipients(
            message=_message(recall, row),
            recipients=(Recipient(user, (device,), False),),
            presence_ms=now_ms(),
        )
        for row in standing
        for device in devices
        if not device.device_id
        and (device.vendor != Vendor.APNS or _screen(row).get("apns") != PushType.SILENT)
    ]


def _standing(rows: Sequence[Mapping[str, Any]], up_to_ms: int) -> Iterable[Mapping[str, Any]]:
    """For each place on the screen its push, up to that time, unless a withdrawal is pending.

    Not calls: reading is not answering. rows: the newest first.
    """
    places = set[str]()
    for row in rows:
        place = row["collapse"] or row["message_id"]
        if place in places or _screen(row).get("push_type") == PushType.SILENT:
            continue
        if len(places) == PLACES_MAX:
            return
        places.add(place)
        if row["ts_ms"] <= up_to_ms and row["class"] != MessageClass.CALL and not row["recalled"]:
            yield row


def _means(recall: PendingRecall, named: frozenset[str], row: Mapping[str, Any]) -> bool:
    """True when the recall concerns the push of this row.

    Either a message of its own conversation, or an invitation up to the call's end. named: the
    recall's users.
    """
    if recall.kind == Kind.RECALL:
        return row["type"] != _INVITATION and recall.conversation in ("", row["conversation"])
    people = recall.users is None or row["user"] in named
    invited = invited_ms(row["ts_ms"], row["received_ms"])
    return row["type"] == _INVITATION and people and invited <= recall.ts_ms


_INVITATION = "call.invited"


def _unseen(
    runtime: Runtime, recall: PendingRecall, first: Mapping[str, Any]
) -> Collection[Vendor]:
    """Vendors at which nobody saw the message: it was silent there, by itself or by its preset."""
    if recall.kind != Kind.RECALL:
        return ()
    screen = _screen(first)
    strategy = screen.get("strategy_id")
    preset = (runtime.catalog.strategy(recall.app, strategy) if strategy else None) or {}
    if (screen.get("push_type") or preset.get("push_type")) == PushType.SILENT:
        return [vendor for vendor, spec in VENDORS.items() if not spec.shows_silent]
    apple = screen.get("apns") or (preset.get("apns") or {}).get("push_type")
    return (Vendor.APNS,) if apple == PushType.SILENT else ()


def _people(
    runtime: Runtime, recall: PendingRecall, rows: Sequence[Mapping[str, Any]]
) -> Iterable[Recipient]:
    """Recipients with those of their devices that may show the first push, and nothing later."""
    first = rows[0]
    pushed = {(row["user"], row["device"]) for row in rows}
    collapse = first["collapse"]
    if not collapse and recall.kind == Kind.RECALL and first["ts_ms"] < now_ms() - KEEP_MIN_MS:
        collapse = recall.message_id  # an edit names it; the record of its place may have gone
    if collapse:
        pushed -= runtime.ledger.covered(
            recall.app, first["conversation"], first["ts_ms"], collapse, pushed
        )
    shown: dict[str, set[str]] = {}
    for user, device in sorted(pushed):
        shown.setdefault(user, set()).add(device)
    devices = runtime.devices.of_users(recall.app, sorted(shown))
    front = _in_front(runtime, recall, sorted(shown))
    unseen = _unseen(runtime, recall, first)
    for user, ids in shown.items():
        left = tuple(
            one
            for one in devices.get(user, ())
            if one.device_id in ids
            and one.vendor not in unseen
            and not {one.device_id, one.push_id} & front[user]
        )
        if left:
            yield Recipient(user, left, False)


def _in_front(
    runtime: Runtime, recall: PendingRecall, users: Sequence[str]
) -> Mapping[str, set[str]]:
    """By user the devices with an open app, where the call was accepted: it continues there.
    AwayError: of one of them nobody can tell now.
    """
    if ending_of(recall.reason) != CallEnding.ACCEPTED:
        return {user: set() for user in users}
    found, _ = runtime.presence.sessions([(recall.app, user) for user in users])
    known = [sessions for sessions in found if sessions is not None]
    if len(known) < len(found):
        raise AwayError("nobody can tell whose app is open")
    return {
        user: {one.device_id for one in sessions if one.foreground}
        for user, sessions in zip(users, known, strict=True)
    }


def _chunks(people: Iterable[Recipient]) -> Iterable[tuple[Recipient, ...]]:
    everybody = list(people)
    for start in range(0, len(everybody), CHUNK):
        yield tuple(everybody[start : start + CHUNK])


def _screen(row: Mapping[str, Any]) -> dict[str, Any]:
    return dict(json.loads(row["screen"])) if row["screen"] else {}


def _message(recall: PendingRecall, row: Mapping[str, Any]) -> Message:
    """The withdrawal: it takes the first push's place, with its class, in its channel, and none of
    its text.

    Never of type voip: Apple ends an app whose VoIP push reports no call; it goes to the alert
    token then.
    """
    kind, identity = row["conversation"].split(":", 1)
    screen = _screen(row)
    is_clear = recall.kind == Kind.CLEAR
    push_type = PushType(screen.get("push_type", PushType.ALERT))
    return Message(
        app=recall.app,
        event_id=row["event_id"],
        type="message.recalled",
        message_id=row["message_id"] if is_clear else recall.message_id,
        kind=Kind.RECALL if is_clear else recall.kind,
        ts_ms=row["ts_ms"],
        received_ms=now_ms(),
        expires_at_ms=now_ms() + TTL_S * 1000,
        conversation=Conversation(type="group" if kind == "group" else "c2c", id=identity),
        sender=Sender(id=""),
        ended_by=READ if is_clear else recall.reason,
        direct=is_clear,
        push=PushFields(
            message_class=MessageClass(row["class"]),
            gate=Gate(respect_dnd=False),
            push_type=PushType.ALERT if push_type == PushType.VOIP else push_type,
            collapse_key=screen.get("collapse_key"),
            strategy_id=screen.get("strategy_id"),
            vendor=screen.get("vendor"),
            vendor_raw=screen.get("vendor_raw"),
        ),
    )
