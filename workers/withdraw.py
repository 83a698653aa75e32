"""Recalls and cancels of what was shown already: whom the ledger names as shown gets the withdrawal, with the same ids on the screen."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec

from common.clock import now_ms
from common.contracts import Conversation, Gate, Message, OfflineRecipients, PushFields, Recipient, Sender, encode
from common.model import Kind, MessageClass, PushType
from common.storage import keys
from workers.app import DELIVERY, ROUTING
from workers.intake.state import Withdrawal
from workers.routing.stage import urgency_of
from workers.routing.texts import Ending, ending_of
from workers.runtime import Runtime

#: A push may be on the wire while its message is recalled, or in the hands of a process that was just killed: so the
#: ledger is asked several times, seconds after the word. Push ids make the repeats harmless.
LOOKS_S = (1.0, 4.0, 15.0, 45.0)
#: Between a push's decision and its row's arrival on the ledger's belt, and between the clocks of two machines, there is less than this.
LATE_S = 5.0
#: A withdrawal is worth sending for so long.
TTL_S = 86_400
#: Wishes of one round, and how long a call may go on with further rounds: upkeep has bells to ring, too. Most of them ask about
#: what nobody saw (every call ends once), and those are told apart by one query a round.
ROUND = 200
BUDGET_S = 0.5
#: People of one entry on the routing belt.
CHUNK = 500
#: A call's end for some of its people speaks of invitations up to its own time, and a little for differing clocks.
CLOCKS_MS = 2_000


class Wish(msgspec.Struct, frozen=True, array_like=True):
    app: str
    event_id: str
    message_id: str
    kind: Kind
    ts_ms: int
    users: tuple[str, ...] | None
    conversation: str = ""
    reason: str = ""


def _key(runtime: Runtime) -> str:
    return f"{runtime.keys.prefix}:withdrawals"


def schedule(runtime: Runtime, withdrawals: Sequence[Withdrawal]) -> None:
    """Remembers (Redis) that these messages or calls have to be withdrawn where they were shown."""
    if not withdrawals:
        return
    with runtime.redis.pipeline(transaction=True) as pipe:
        for one in withdrawals:
            wish = encode(Wish(one.app, one.event_id, one.message_id, one.kind, one.ts_ms, one.users, one.conversation, one.reason))
            for index, after_s in enumerate(LOOKS_S):
                pipe.zadd(_key(runtime), {b"%d" % index + wish: time.time() + after_s})
        pipe.execute()


def withdraw_due(runtime: Runtime) -> int:
    """Looks up who got what is to be withdrawn and sends them its withdrawal. Number of wishes looked at."""
    until, looked = time.monotonic() + BUDGET_S, 0
    while found := _round(runtime):
        looked += found
        if found < ROUND or time.monotonic() >= until:
            break
    return looked


def _round(runtime: Runtime) -> int:
    key = _key(runtime)
    due = cast(list[tuple[bytes, float]], runtime.redis.zrangebyscore(key, "-inf", time.time(), 0, ROUND, withscores=True))
    if not due:
        return 0
    written_s = _written_until_s(runtime)
    wishes = [(member, due_s, msgspec.msgpack.decode(member[1:], type=Wish)) for member, due_s in due if due_s < written_s]
    _pull_parked(runtime, [wish for member, _, wish in wishes if member[:1] in (b"0", b"%d" % (len(LOOKS_S) - 1))])
    seen = runtime.ledger.seen_among([(wish.app, wish.message_id) for _, _, wish in wishes])
    shown = [one for one in wishes if (one[2].app, one[2].message_id) in seen]
    unseen = [member for member, _, wish in wishes if (wish.app, wish.message_id) not in seen]
    if unseen:
        runtime.redis.zrem(key, *unseen)
    for member, due_s, wish in shown:
        offline = _offline(runtime, wish, _since_ms(int(member[:1]), due_s))
        adds = [(keys.routing(urgency_of(one.message, "")), encode([one])) for one in offline]
        runtime.belts.hand_on((), adds, lambda pipe, member=member: pipe.zrem(key, member))  # type: ignore[misc]
        if offline:
            runtime.ring(ROUTING)
    return len(wishes)


def _since_ms(look: int, due_s: float) -> int:
    """The first look asks for all, each later one for what was decided since the one before: a large group is not sent to four times."""
    return int((due_s - LOOKS_S[look] + LOOKS_S[look - 1] - LATE_S) * 1000) if 0 < look < len(LOOKS_S) else 0


def _written_until_s(runtime: Runtime) -> float:
    """What happened before this moment stands in the ledger's tables; a look that is due later has to wait for them."""
    oldest: Any = runtime.redis.xrange(runtime.keys.belt(keys.LEDGER), count=1)
    return int(oldest[0][0].split(b"-")[0]) / 1000 if oldest else float("inf")


def _pull_parked(runtime: Runtime, wishes: Sequence[Wish]) -> None:
    """What is recalled while it waits behind a stopped lane is told so now, not when its time runs out."""
    waiting = runtime.delayed.parked_lanes() if wishes else ()
    lanes = {lane.id: lane for lane in runtime.catalog.now.lanes.values()} if waiting else {}
    for lane in (lanes[lane_id] for lane_id in waiting if lane_id in lanes):
        words = [wish.message_id for wish in wishes if wish.app == lane.credential.app]
        if words and runtime.delayed.pull_parked(lane.id, words):
            runtime.ring(DELIVERY, lane.vendor)


def _offline(runtime: Runtime, wish: Wish, since_ms: int) -> list[OfflineRecipients]:
    """Those who got the first push, with the devices they still have, as recipients of its withdrawal."""
    by_event: dict[str, list[Mapping[str, Any]]] = {}
    named = None if wish.users is None else frozenset(wish.users)
    for row in runtime.ledger.accepted_of(wish.app, wish.message_id, since_ms):
        if _means(wish, named, row):
            by_event.setdefault(row["event_id"], []).append(row)
    found: list[OfflineRecipients] = []
    for rows in by_event.values():
        message = _message(wish, rows[0])
        if wish.kind == Kind.RECALL and message.push.push_type == PushType.SILENT:
            continue  # nobody saw anything
        for people in _chunks(_people(runtime, wish, rows)):
            found.append(OfflineRecipients(message=message, recipients=people, presence_ms=now_ms()))
    return found


def _means(wish: Wish, people: frozenset[str] | None, row: Mapping[str, Any]) -> bool:
    """Whether the push of this row is what the wish takes back: a message of its own conversation; an invitation up to the call's end."""
    if wish.kind == Kind.RECALL:
        return row["type"] != _INVITATION and wish.conversation in ("", row["conversation"])
    concerned = people is None or row["user"] in people
    return row["type"] == _INVITATION and concerned and row["ts_ms"] <= wish.ts_ms + CLOCKS_MS


_INVITATION = "call.invited"


def _people(runtime: Runtime, wish: Wish, rows: Sequence[Mapping[str, Any]]) -> Iterable[Recipient]:
    """Recipients with those of their devices on which the first push may stand, and nothing later in its place."""
    shown: dict[str, set[str]] = {}
    first = rows[0]
    collapse_key = _screen(first).get("collapse_key")
    covered = runtime.ledger.replaced_since(wish.app, first["conversation"], first["ts_ms"], collapse_key) if collapse_key else ()
    for row in rows:
        if (row["user"], row["device"]) not in covered:
            shown.setdefault(row["user"], set()).add(row["device"])
    devices = runtime.devices.of_users(wish.app, sorted(shown))
    front = _in_front(runtime, wish, sorted(shown))
    for user, ids in shown.items():
        left = tuple(one for one in devices.get(user, ()) if one.device_id in ids and not {one.device_id, one.push_id} & front[user])
        if left:
            yield Recipient(user, left, False)


def _in_front(runtime: Runtime, wish: Wish, users: Sequence[str]) -> Mapping[str, set[str]]:
    """By user the devices whose app is open, where the call was accepted: there it goes on, and the app knows of it."""
    if ending_of(wish.reason) != Ending.ACCEPTED:
        return {user: set() for user in users}
    found, _ = runtime.presence.sessions([(wish.app, user) for user in users])
    return {user: {one.device_id for one in sessions if one.foreground} for user, sessions in zip(users, found, strict=True)}


def _chunks(people: Iterable[Recipient]) -> Iterable[tuple[Recipient, ...]]:
    everybody = list(people)
    for start in range(0, len(everybody), CHUNK):
        yield tuple(everybody[start : start + CHUNK])


def _screen(row: Mapping[str, Any]) -> dict[str, str]:
    return dict(json.loads(row["screen"])) if row["screen"] else {}


def _message(wish: Wish, row: Mapping[str, Any]) -> Message:
    """The withdrawal: what it shares with the first push so as to take its place, its class, and none of its words. Never of type voip:
    Apple ends an app whose VoIP push reports no call, and it goes to the alert token then."""
    kind, identity = row["conversation"].split(":", 1)
    screen = _screen(row)
    push_type = PushType(screen.get("push_type", PushType.ALERT))
    return Message(
        app=wish.app,
        event_id=row["event_id"],
        type="message.recalled",
        message_id=wish.message_id,
        kind=wish.kind,
        ts_ms=row["ts_ms"],
        received_ms=now_ms(),
        expires_at_ms=now_ms() + TTL_S * 1000,
        conversation=Conversation(type="group" if kind == "group" else "c2c", id=identity),
        sender=Sender(id=""),
        ended_by=wish.reason,
        push=PushFields(
            message_class=MessageClass(row["class"]),
            gate=Gate(respect_dnd=False),
            push_type=PushType.ALERT if push_type == PushType.VOIP else push_type,
            collapse_key=screen.get("collapse_key"),
            strategy_id=screen.get("strategy_id"),
        ),
    )
