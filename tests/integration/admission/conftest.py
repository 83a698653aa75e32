"""A runtime on real servers with tables, and lanes made the way an operator makes them."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from common.clock import now_ms
from common.config import Settings
from common.contracts import Target
from common.model import PRIVATE_CLASSES, Bucket, MessageClass, Vendor
from common.storage.admission import Admission
from common.storage.keys import Keys
from common.storage.tenants import Tenant
from tests.builders import notification, stored_credential
from tests.integration.conftest import opened
from tests.waiting import clear_of_midnight
from workers.delivery.lane import Lane
from workers.delivery.work import PendingPush
from workers.runtime import Runtime


class Clock:
    """The time in seconds, as the test says."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def one_day() -> None:
    """What a test counts is one day's."""
    clear_of_midnight()


@pytest.fixture
def clock() -> Clock:
    return Clock(1_767_150_000.0)  # 2025-12-31 11:00 in Shanghai


@pytest.fixture
def store(redis_client: redis.Redis, space: str, clock: Clock) -> Admission:
    return Admission(redis_client, Keys(f"push{space}"), clock=clock)


@pytest.fixture
def runtime(own_settings: Callable[..., Settings]) -> Iterator[Runtime]:
    with opened(own_settings(), Tenant("demo", "Demo", "zh", "Asia/Shanghai")) as made:
        yield made


@pytest.fixture
def lane(runtime: Runtime, space: str) -> Callable[..., Lane]:
    """lane(vendor, limits, rights) -> a stored credential's lane; its business id is this test's
    own, `beside` it that of another lane.
    """

    def make(vendor: Vendor, limits: dict[str, Any], *rights: str, beside: str = "") -> Lane:
        named = {"chat": "c1", "call": "c2"} if rights else {}
        new = stored_credential(
            "demo",
            vendor,
            space + beside,
            rights=frozenset(rights),
            channels=named,
            templates={name: ["P1", "sender", "text"] for name in named},
            limits=limits,
        )
        runtime.credentials.add(new)
        runtime.catalog.changed()
        found = runtime.catalog.lane("demo", vendor, space + beside)
        assert found is not None
        return found

    return make


def work(
    number: int,
    message_class: MessageClass = MessageClass.MARKETING,
    *,
    user: str = "u",
    token: str = "",
    **note: Any,
) -> PendingPush:
    """One push; its class decides the bucket unless `bucket` is named."""
    bucket = Bucket.PRIVATE if message_class in PRIVATE_CLASSES else Bucket.PUBLIC
    times = {"ts_ms": now_ms(), "received_ms": now_ms(), "expires_at_ms": now_ms() + 3_600_000}
    class_sent = message_class if bucket == Bucket.PRIVATE else MessageClass.MARKETING
    kind = {"message_class": message_class, "class_sent": class_sent}
    named = {
        "event_id": uuid.uuid4().hex,
        "message_id": f"m{number}",
        "collapse_id": f"m{number}",
        "conversation_id": "s",
    }
    made = notification(
        **{**times, **named, **kind, "title": "t", "body": "b", "bucket": bucket, **note}
    )
    target = Target(user, "d", token or f"token-{number:04d}", f"{number:032x}", "android", 1)
    return PendingPush("entry", made, target)
