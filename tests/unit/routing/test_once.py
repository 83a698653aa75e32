"""A person whom two pages of a group name, or whose entry comes twice in a read, gets one push."""

from collections import Counter
from typing import Any

import msgspec

from common.contracts import (
    Device,
    Element,
    OfflineRecipients,
    Recipient,
)
from common.model import Kind, Vendor
from tests.builders import stored_message
from tests.unit.routing.builders import NOW_MS, Books
from workers.routing.fan_out import RoutingPorts, route


def page(*users: str, event_id: str = "e1", kind: Kind = Kind.MESSAGE) -> OfflineRecipients:
    named = {"event_id": event_id, "message_id": "m1", "kind": kind}
    words = (Element(type="text", text="hi"),)
    message = stored_message("group:g", NOW_MS, elements=words, **named)
    phones = {
        user: Device(f"{user}-phone", "ios", Vendor.APNS, "b1", "a" * 64, None, "en", None, None, 0)
        for user in users
    }
    people = tuple(Recipient(user, (phone,), False) for user, phone in phones.items())
    return OfflineRecipients(message=message, recipients=people, presence_ms=NOW_MS)


def pushed(*pages: OfflineRecipients) -> Counter[str]:
    town: Any = Books()
    routed = route(pages, RoutingPorts(town, town, town), NOW_MS)
    return Counter(
        target.push_id
        for _, batch in routed.batches
        for push in batch.pushes
        for target in push.targets
    )


def test_a_member_of_two_pages_gets_one_push() -> None:
    found = pushed(page("a", "b"), page("b", "c"), page("c"))
    assert len(found) == 3
    assert set(found.values()) == {1}


def test_the_same_entry_twice_is_one() -> None:
    assert set(pushed(page("a", "b"), page("a", "b")).values()) == {1}


def test_other_events_and_kinds_are_others() -> None:
    assert len(pushed(page("a"), page("a", event_id="e2"), page("a", kind=Kind.RECALL))) == 3


def test_another_tenants_event_of_the_same_name_is_another() -> None:
    other = page("a")
    other = msgspec.structs.replace(
        other, message=msgspec.structs.replace(other.message, app="other")
    )
    assert len(pushed(page("a"), other)) == 2
