"""What tests of every floor build: the notification of a chat message between two people, and what
a core tells of: events, and phones in them.
"""

import time
import uuid
from typing import Any, TypeVar, cast

from common.clock import now_ms
from common.contracts import Conversation, Message, Notification, Sender
from common.model import Vendor
from common.storage.opened import StoredCredential

NOW_MS = 1_700_000_000_000
_T = TypeVar("_T")


def present(value: _T | None) -> _T:
    """What is there in this test, whatever else its type allows."""
    assert value is not None
    return value


def notification(**changes: Any) -> Notification:
    """Of a text that Li Hua wrote to one person a moment ago and that is worth something for an
    hour.
    """
    usual: dict[str, Any] = {
        "app": "demo",
        "event_id": "e1",
        "message_id": "m1",
        "conversation_type": "c2c",
        "conversation_id": "li",
        "ts_ms": NOW_MS,
        "received_ms": NOW_MS,
        "expires_at_ms": NOW_MS + 3_600_000,
        "collapse_id": "m1",
    }
    return Notification(**(usual | changes))


def stored_message(where: str = "c2c:ann", at_ms: int = NOW_MS, **changes: Any) -> Message:
    """Of Ann in a conversation (type:id), stored and received at once and worth something for a
    minute.
    """
    kind, _, peer = where.partition(":")
    conversation = Conversation(type=cast(Any, kind), id=peer)
    usual: dict[str, Any] = {"app": "demo", "event_id": "e", "type": "message.stored"}
    usual |= {"message_id": "m", "conversation": conversation, "sender": Sender(id="ann")}
    usual |= {"ts_ms": at_ms, "received_ms": at_ms, "expires_at_ms": at_ms + 60_000}
    return Message(**(usual | changes))


def stored_credential(
    app: str, vendor: str = Vendor.MEIZU, business_id: str = "b1", **changes: Any
) -> StoredCredential:
    """An account without rights, channels, templates, limits or an end."""
    usual: dict[str, Any] = {
        "version": 0,
        "options": {"package": "com.example.im", "app_id": "1", "app_key": "k"},
        "secrets": {"app_secret": "s"},
        "rights": frozenset(),
        "channels": {},
        "templates": {},
        "limits": {},
        "paused": False,
        "created_ms": now_ms(),  # versions follow from it
        "expires_ms": None,
    }
    return StoredCredential(app=app, vendor=vendor, business_id=business_id, **(usual | changes))


def core_event(
    app: str, kind: str, data: Any, ts_ms: int | None = None, event_id: str | None = None
) -> dict[str, Any]:
    """An event as the core writes it; of this moment and with an id of its own unless said else."""
    return {
        "v": 1,
        "id": event_id or uuid.uuid4().hex,
        "type": kind,
        "app": app,
        "ts": time.time_ns() // 1_000_000 if ts_ms is None else ts_ms,
        "data": data,
    }


def device_of(user: str, **changes: Any) -> dict[str, Any]:
    """What the core tells of a person's phone; of an iPhone unless said else."""
    usual = {"device_id": "phone", "platform": "ios", "vendor": "apns", "business_id": "ios"}
    return {"user": user, **usual, **changes}
