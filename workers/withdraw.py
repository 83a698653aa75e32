"""Recalls and cancels of what was shown already: whom the ledger names as shown gets the withdrawal, with the same ids on the screen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from common.clock import now_ms
from common.contracts import Conversation, Gate, Message, OfflineRecipients, PushFields, Recipient, Sender, encode
from common.model import Kind, MessageClass
from common.storage import keys
from workers.app import ROUTING
from workers.intake.state import Withdrawal
from workers.runtime import Runtime

#: The ledger is behind the vendors by the time of a flush, and a push may be on the wire while its message is recalled:
#: so the ledger is asked several times, seconds after the word. Push ids make the repeats harmless.
LOOKS_S = (1.0, 4.0, 15.0, 45.0)
#: A withdrawal is worth sending for so long.
TTL_S = 86_400


class Wish(msgspec.Struct, frozen=True, array_like=True):
    app: str
    event_id: str
    message_id: str
    kind: Kind
    ts_ms: int
    users: tuple[str, ...] | None


def _key(runtime: Runtime) -> str:
    return f"{runtime.keys.prefix}:withdrawals"


def schedule(runtime: Runtime, withdrawals: Sequence[Withdrawal]) -> None:
    """Remembers (Redis) that these messages or calls have to be withdrawn where they were shown."""
    if not withdrawals:
        return
    with runtime.redis.pipeline(transaction=True) as pipe:
        for one in withdrawals:
            wish = encode(Wish(one.app, one.event_id, one.message_id, one.kind, one.ts_ms, one.users))
            for index, after_s in enumerate(LOOKS_S):
                pipe.zadd(_key(runtime), {b"%d" % index + wish: time.time() + after_s})
        pipe.execute()


def withdraw_due(runtime: Runtime, most: int = 100) -> int:
    """Looks up who got what is to be withdrawn and sends them its withdrawal. Number of wishes looked at."""
    key = _key(runtime)
    due: Any = runtime.redis.zrangebyscore(key, "-inf", time.time(), 0, most)
    for member in due:
        wish = msgspec.msgpack.decode(member[1:], type=Wish)
        offline = _offline(runtime, wish)
        adds = [(keys.ROUTING, encode([one])) for one in offline]
        runtime.belts.hand_on((), adds, lambda pipe, member=member: pipe.zrem(key, member))  # type: ignore[misc]
        if offline:
            runtime.ring(ROUTING)
    return len(due)


def _offline(runtime: Runtime, wish: Wish) -> list[OfflineRecipients]:
    """Those who got the first push, with the devices they still have, as recipients of its withdrawal."""
    by_event: dict[tuple[str, int, str], dict[str, set[str]]] = {}
    for row in runtime.ledger.accepted_of(wish.app, wish.message_id):
        if wish.users is None or row["user"] in wish.users:
            event = (row["event_id"], row["ts_ms"], row["conversation"])
            by_event.setdefault(event, {}).setdefault(row["user"], set()).add(row["device"])
    found = []
    for (event_id, ts_ms, conversation), people in by_event.items():
        devices = runtime.devices.of_users(wish.app, sorted(people))
        recipients = tuple(
            Recipient(user, tuple(device for device in devices.get(user, ()) if device.device_id in shown), False)
            for user, shown in people.items()
        )
        found.append(OfflineRecipients(message=_message(wish, event_id, ts_ms, conversation), recipients=recipients, presence_ms=now_ms()))
    return found


def _message(wish: Wish, event_id: str, ts_ms: int, conversation: str) -> Message:
    kind, identity = conversation.split(":", 1)
    message_class = MessageClass.CALL if wish.kind == Kind.CALL_CANCEL else MessageClass.CHAT
    return Message(
        app=wish.app,
        event_id=event_id,
        type="message.recalled",
        message_id=wish.message_id,
        kind=wish.kind,
        ts_ms=ts_ms,
        received_ms=now_ms(),
        expires_at_ms=now_ms() + TTL_S * 1000,
        conversation=Conversation(type="group" if kind == "group" else "c2c", id=identity),
        sender=Sender(id=""),
        push=PushFields(message_class=message_class, gate=Gate(respect_dnd=False)),
    )
