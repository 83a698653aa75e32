"""Works and worlds for the tests of delivery: real vendor files and limits, stores that remember in
memory what Redis would.
"""

import itertools
from typing import Any

from common.contracts import Notification, Target
from common.model import Bucket, MessageClass, Vendor
from tests.builders import NOW_MS as NOW_MS
from tests.builders import notification
from workers.delivery.lane import Lane, limits_of
from workers.delivery.work import PendingPush
from workers.vendors import VENDORS
from workers.vendors.types import Credential
from workers.wire import Route

_numbers = itertools.count(1)


def note(**changes: Any) -> Notification:
    words = {
        "conversation_id": "ann",
        "title": "Ann",
        "body": "hello",
        "text": "hello",
        "collapse_id": "m",
    }
    kind = {
        "bucket": Bucket.PRIVATE,
        "message_class": MessageClass.CHAT,
        "class_sent": MessageClass.CHAT,
    }
    event_id = f"e{next(_numbers)}"
    return notification(
        **{"event_id": event_id, "message_id": f"m{next(_numbers)}", **words, **kind, **changes}
    )


def work(
    held_by: str | None = None,
    user: str = "bob",
    device: str = "phone",
    push_id: str | None = None,
    **of_note: Any,
) -> PendingPush:
    number = next(_numbers)
    token = f"token-{user}-{device}"
    target = Target(user, device, token, push_id or f"{number:032x}", "android", 1, held_by=held_by)
    return PendingPush("belt/1-0", note(**of_note), target)


def lane(vendor: Vendor = Vendor.MEIZU) -> Lane:
    spec = VENDORS[vendor]
    options = {"app_id": "1", "app_key": "k", "package": "p"}
    credential = Credential("demo", vendor, "b1", 1, options, {"app_secret": "s"})
    return Lane(
        spec, credential, Route("pool", dict(spec.endpoints), spec.http2, None), limits_of(spec, {})
    )
