"""A recall and the end of a call: each vendor's most silent form, whatever their sender asked for.
Source: contract §3.
"""

import json
from urllib.parse import parse_qs

import pytest

from common.model import Bucket, Kind, MessageClass, Vendor
from tests.unit.vendors.cases import ACCESS, batch, credential, note
from workers.vendors import VENDORS

LOUD = {
    Vendor.APNS: (
        {"interruption_level": "critical", "critical": True},
        {"aps": {"sound": "ring.caf", "interruption-level": "critical"}},
    ),
    Vendor.FCM: (
        {"priority": "HIGH"},
        {"notification": {"sound": "ring", "notification_priority": "PRIORITY_MAX", "ticker": "t"}},
    ),
    Vendor.HUAWEI: (
        {"importance": "NORMAL"},
        {"notification": {"importance": "NORMAL", "default_sound": True, "sound": "/raw/ring"}},
    ),
    Vendor.HARMONY: ({}, {"notification": {"sound": "ring.mp3", "soundDuration": 60}}),
    Vendor.HONOR: (
        {"importance": "NORMAL"},
        {"android": {"notification": {"importance": "NORMAL"}}},
    ),
    Vendor.XIAOMI: ({}, {"extra": {"sound_uri": "android.resource://com.example.im/raw/ring"}}),
    Vendor.OPPO: ({"notify_level": 16}, {"notification": {"notify_level": 16}}),
    Vendor.VIVO: ({"notify_type": 4}, {"notifyType": 4}),
    Vendor.MEIZU: ({}, {}),
}
PLACED = {
    "importance": "NORMAL",
    "category": "IM",
    "notify_level": "16",
    "classification": "1",
    "notice_msg_type": "1",
    "interruption_level": "time-sensitive",
    "channel_id": "calls",
}
OPTIONS = {"package": "com.example.im", "key_id": "k", "sub_account": "s"}


def sent(vendor: Vendor, kind: Kind):
    """(headers, body) as they travel, of a call that its sender made as loud as the vendor lets
    him.
    """
    wishes, raw = LOUD[vendor]
    about = note(
        kind=kind,
        bucket=Bucket.PRIVATE,
        message_class=MessageClass.CALL,
        placement=PLACED,
        vendor=wishes,
        vendor_raw=raw,
        sound_android="ring.mp3",
        sound_ios="ring.caf",
    )
    rights = frozenset({"oppo.strong", "huawei.im", "harmony.im"})
    account = credential(vendor, OPTIONS)
    account = type(account)(account.app, vendor, "b1", 1, account.options, account.secrets, rights)
    request = VENDORS[vendor].build(batch(about), account, ACCESS)
    return request.headers, request.body.decode()


def loudness(vendor: Vendor, kind: Kind):
    """What of the wire says how loud the push is."""
    headers, raw = sent(vendor, kind)
    if vendor is Vendor.XIAOMI:
        form = parse_qs(raw)
        return {"notify_type": form["notify_type"], "sound": form.get("extra.sound_uri")}
    if vendor is Vendor.OPPO:
        [message] = parse_qs(raw)["message"]
        return json.loads(message)["notification"].get("notify_level")
    if vendor is Vendor.MEIZU:
        [message] = parse_qs(raw)["messageJson"]
        advance = json.loads(message)["advanceInfo"]
        return advance.get("suspend"), (advance.get("notificationType") or {}).get("sound")
    body = json.loads(raw)
    if vendor is Vendor.APNS:
        priority = headers["apns-priority"]
        return (priority, body["aps"].get("sound"), body["aps"].get("interruption-level"))
    if vendor is Vendor.FCM:
        shown = body["message"]["android"]["notification"]
        priority = body["message"]["android"]["priority"]
        sound = shown.get("sound")
        return (priority, sound, shown.get("notification_priority"), shown.get("ticker"))
    if vendor is Vendor.HUAWEI:
        shown = body["message"]["android"]["notification"]
        return shown["importance"], shown.get("sound"), shown.get("default_sound")
    if vendor is Vendor.HARMONY:
        # revoked
        return body["payload"]["notification"].get("sound") if "payload" in body else None
    if vendor is Vendor.HONOR:
        return body["android"]["notification"]["importance"]
    return body["notifyType"]


QUIET = {
    Vendor.APNS: ("5", None, "passive"),
    Vendor.FCM: ("NORMAL", None, "PRIORITY_LOW", None),
    Vendor.HUAWEI: ("LOW", None, False),
    Vendor.HARMONY: None,
    Vendor.HONOR: "LOW",
    Vendor.XIAOMI: {"notify_type": ["4"], "sound": None},
    Vendor.OPPO: 1,
    Vendor.VIVO: 1,
    Vendor.MEIZU: (0, 0),
}


@pytest.mark.parametrize("kind", [Kind.RECALL, Kind.CALL_CANCEL])
@pytest.mark.parametrize("vendor", Vendor)
def test_a_recall_and_the_end_of_a_call_are_as_quiet_as_the_vendor_can(vendor, kind):
    assert loudness(vendor, kind) == QUIET[vendor]


@pytest.mark.parametrize("kind", [Kind.MESSAGE, Kind.CALL_INVITE])
@pytest.mark.parametrize("vendor", Vendor)
def test_what_should_be_heard_is_not_quiet(vendor, kind):
    assert loudness(vendor, kind) != QUIET[vendor]
