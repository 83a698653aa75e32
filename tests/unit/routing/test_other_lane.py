"""A push whose device changed its vendor while it waited: its words stay, what was the first
vendor's goes.
"""

from typing import Any

import pytest

from common.contracts import Device
from common.model import Bucket, Kind, MessageClass, PushType, Vendor
from tests.tables import spaced
from tests.unit.vendors.cases import credential, note, target
from workers.routing.other_lane import for_lane
from workers.vendors import VENDORS
from workers.vendors.types import AccessToken, Credential, PushItem, RequestBatch, Template

ALL_RIGHTS = frozenset(
    spaced("""
        huawei.im harmony.im honor.service xiaomi.private oppo.private vivo.system meizu.private
    """)
)


def device(vendor: Vendor, voip: str | None = None) -> Device:
    platform = "ios" if vendor == Vendor.APNS else "android"
    return Device("d1", platform, vendor, "b2", "token", voip, None, None, None, 1)


def account(vendor: Vendor, rights: frozenset[str] = ALL_RIGHTS) -> Credential:
    made = credential(vendor, {"package": "com.example.im"})
    named: dict[Any, str] = {MessageClass.CHAT: "c1", MessageClass.CALL: "c2"}
    templates: dict[Any, Template] = {one: Template("P1", "sender", "text") for one in named}
    return Credential("demo", vendor, "b2", 1, made.options, made.secrets, rights, named, templates)


@pytest.mark.parametrize("after", Vendor)
@pytest.mark.parametrize("before", Vendor)
def test_every_vendor_takes_what_was_made_for_another(before: Vendor, after: Vendor) -> None:
    made = note(
        vendor={"channel_id": "theirs", "category": "THEIRS"},
        vendor_raw={"notification": {"channel_id": "theirs"}},
        template={"id": "theirs"},
        image="https://theirs.example/p.png",
        placement={"category": "THEIRS", "channel_id": "theirs"},
    )
    moved = for_lane(made, before, device(after), account(after))
    assert (moved.bucket, moved.downgraded) == (Bucket.PRIVATE, False)
    found = (moved.body, moved.ext, moved.payload, moved.collapse_id)
    assert found == (made.body, made.ext, made.payload, made.collapse_id)
    batch = RequestBatch((PushItem(moved, target("0a" * 32), 1, 60),), made.ts_ms)
    request = VENDORS[after].build(batch, account(after), AccessToken("a", 1 << 60, 1 << 60))
    if before != after:
        assert b"theirs" not in (request.body or b"").lower()


@pytest.mark.parametrize(
    "vendor", [Vendor.HUAWEI, Vendor.HONOR, Vendor.XIAOMI, Vendor.OPPO, Vendor.VIVO, Vendor.MEIZU]
)
def test_a_class_travels_as_the_new_account_may_send_it(vendor: Vendor) -> None:
    moved = for_lane(note(), Vendor.APNS, device(vendor), account(vendor, frozenset()))
    found = (moved.bucket, moved.downgraded, moved.class_sent)
    assert found == (Bucket.PUBLIC, True, MessageClass.MARKETING)


@pytest.mark.parametrize(
    ("vendor", "given", "title"),
    [
        (Vendor.FCM, {"title": "", "sender_name": "Ann"}, "Ann"),
        (Vendor.FCM, {"title": "", "sender_name": ""}, "畅聊"),
        (Vendor.FCM, {"title": "Order", "sender_name": "Ann"}, "Order"),
        (Vendor.APNS, {"title": "Ann", "prefix": "Ann:", "sender_name": "Ann"}, ""),
        (Vendor.APNS, {"title": "Ann", "prefix": "Ann(Team):", "sender_name": "Ann"}, ""),
        (Vendor.APNS, {"title": "畅聊"}, ""),
        (Vendor.APNS, {"title": "Order", "prefix": "", "sender_name": "Ann"}, "Order"),
        (Vendor.APNS, {"title": "对方已取消通话", "kind": Kind.CALL_CANCEL}, ""),
    ],
)
def test_apple_shows_no_name_twice_and_the_others_always_a_title(
    vendor: Vendor, given: dict[str, Any], title: str
) -> None:
    before = Vendor.HUAWEI if vendor == Vendor.APNS else Vendor.APNS
    assert for_lane(note(**given), before, device(vendor), account(vendor)).title == title


@pytest.mark.parametrize(
    ("vendor", "voip", "push_type"),
    [
        (Vendor.FCM, None, PushType.ALERT),
        (Vendor.APNS, None, PushType.ALERT),
        (Vendor.APNS, "v", PushType.VOIP),
    ],
)
def test_a_call_rings_as_the_new_device_can(
    vendor: Vendor, voip: str | None, push_type: PushType
) -> None:
    told = {"call": {"id": "c"}}
    call = note(
        push_type=PushType.VOIP, voip=told, message_class=MessageClass.CALL, kind=Kind.CALL_INVITE
    )
    moved = for_lane(call, Vendor.HARMONY, device(vendor, voip), account(vendor))
    found = (moved.push_type, moved.voip)
    assert found == (push_type, call.voip if push_type is PushType.VOIP else None)


def test_another_account_of_the_same_vendor_keeps_the_senders_wishes() -> None:
    made = note(vendor={"priority": "normal"}, image="https://pictures.example/p.png", title="")
    moved = for_lane(made, Vendor.FCM, device(Vendor.FCM), account(Vendor.FCM))
    found = (moved.vendor, moved.image, moved.title, moved.placement["priority"])
    assert found == (made.vendor, made.image, "", "NORMAL")
