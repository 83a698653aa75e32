"""The request of every vendor for every message class, with the rights and without, and for a chat
with every field and a silent one, byte by byte.

A change of the file is a change of what vendors see: PUSHFLEET_TEST_WRITE_GOLDEN=1 writes it anew,
the diff is to be read.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest

from common.model import PRIVATE_CLASSES, MessageClass, PushType, Vendor
from tests.unit.vendors.cases import ACCESS, NOW_MS, credential, note, target
from workers.delivery.request_batches import pack
from workers.routing.classes import place
from workers.vendors import VENDORS
from workers.vendors.types import Credential, PushItem, Template
from workers.wire import Request

GOLDEN = Path(__file__).parents[2] / "data" / "golden_payloads.json"
WRITE = os.environ.get("PUSHFLEET_TEST_WRITE_GOLDEN") == "1"
OPTIONS = {
    "package": "com.example.chat",
    "app_id": "100000123",
    "app_key": "0a1b2c3d",
    "project_id": "demo-im",
    "client_id": "104000001",
}
MORE_OPTIONS = {"badge_class": "a.Main", "receipt_id": "RCP1"}
CALLBACK = "https://push.example.com/cb"
#: Those that have silent pushes.
SILENT = (Vendor.APNS, Vendor.FCM, Vendor.HUAWEI, Vendor.HARMONY, Vendor.HONOR)
EVERY_FIELD = {
    "subtitle": "工作",
    "payload": {"seq": 52017, "list": [1], "from": "x", "gcm.n": True, "aps": "no", "ext": "loses"},
    "image": "https://cdn.example.com/a.png",
    "thread_id": "t-1",
    "sound_android": "ring.mp3",
    "sound_ios": "ring.caf",
}


def account(vendor: Vendor, *, rights: bool, **more: str) -> Credential:
    plain = credential(vendor, OPTIONS | more)
    return Credential(
        plain.app,
        vendor,
        plain.business_id,
        1,
        plain.options,
        plain.secrets,
        rights=VENDORS[vendor].rights if rights else frozenset(),
        channels={name: f"ch-{name}" for name in MessageClass},
        templates={name: Template(f"T-{name}") for name in MessageClass}
        if vendor != Vendor.OPPO
        else {},
    )


def request_of(
    vendor: Vendor,
    message_class: MessageClass,
    *,
    rights: bool,
    callback_url: str | None = None,
    options: Mapping[str, str] = {},
    **of_note: Any,
) -> Request:
    spec, who = VENDORS[vendor], account(vendor, rights=rights, **options)
    placed = place(message_class, PushType.ALERT, who, {})
    about = note(
        message_class=message_class,
        class_sent=placed.class_sent,
        bucket=placed.bucket,
        downgraded=placed.downgraded,
        placement=dict(placed.fields),
        sender_name="张三",
        text="今晚八点开会",
        ext='{"cid":"c2c_1001"}',
        **of_note,
    )
    item = PushItem(about, target("CN_a1b2" if vendor == Vendor.OPPO else "aa11"), 3, 86_400)
    [batch] = pack([item], spec, who, NOW_MS, callback_url)
    return spec.build(batch, who, ACCESS if spec.access is not None else None)


def shown(request: Request) -> dict[str, Any]:
    """The request as JSON: its body read, forms as their fields, JSON inside fields read too."""
    names = ("method", "endpoint", "path", "headers", "body")
    plain = msgspec.to_builtins(
        {name: getattr(request, name) for name in names if hasattr(request, name)}
    )
    plain["body"] = readable(bytes(request.body))
    return dict(plain)


def readable(body: bytes) -> Any:
    text = body.decode()
    if text.startswith("{"):
        return json.loads(text)
    return {
        name: json.loads(value) if value.startswith(("{", "[")) else value
        for name, value in parse_qsl(text, keep_blank_values=True)
    }


def every() -> dict[str, Any]:
    classes = {
        f"{vendor} | {message_class} | {'all rights' if rights else 'no rights'}": request_of(
            vendor, message_class, rights=rights
        )
        for vendor in Vendor
        for message_class in MessageClass
        for rights in (False, True)
        if rights <= bool(VENDORS[vendor].rights)
    }
    full = {
        f"{vendor} | chat | every field": request_of(
            vendor,
            MessageClass.CHAT,
            rights=True,
            callback_url=CALLBACK,
            options=MORE_OPTIONS,
            **EVERY_FIELD,
        )
        for vendor in Vendor
    }
    silent = {
        f"{vendor} | chat | silent": request_of(
            vendor, MessageClass.CHAT, rights=True, push_type=PushType.SILENT, payload={"seq": 7}
        )
        for vendor in SILENT
    }
    return {name: shown(request) for name, request in (classes | full | silent).items()}


@pytest.fixture(scope="module")
def golden() -> Mapping[str, Any]:
    if WRITE:
        text = json.dumps(every(), ensure_ascii=False, indent=1, sort_keys=True) + "\n"
        GOLDEN.write_text(text, encoding="utf-8")
    return dict(json.loads(GOLDEN.read_text(encoding="utf-8")))


def test_the_file_names_every_vendor_class_and_right(golden: Mapping[str, Any]) -> None:
    assert sorted(golden) == sorted(every())


@pytest.mark.parametrize("vendor", Vendor)
def test_each_request_is_as_the_golden_file_says(golden: Mapping[str, Any], vendor: Vendor) -> None:
    ours = {name: value for name, value in every().items() if name.startswith(f"{vendor} |")}
    assert json.loads(json.dumps(ours)) == {name: golden[name] for name in ours}


@pytest.mark.parametrize("vendor", [vendor for vendor in Vendor if VENDORS[vendor].rights])
def test_a_right_changes_what_a_private_class_sends_and_nothing_else(
    golden: Mapping[str, Any], vendor: Vendor
) -> None:
    for message_class in MessageClass:
        without, with_ = (
            golden[f"{vendor} | {message_class} | {rights}"]
            for rights in ("no rights", "all rights")
        )
        assert (without != with_) == (message_class in PRIVATE_CLASSES), message_class


@pytest.mark.parametrize("vendor", Vendor)
def test_no_two_builds_of_the_same_push_differ(vendor: Vendor) -> None:
    found = shown(request_of(vendor, MessageClass.CHAT, rights=True))
    assert found == shown(request_of(vendor, MessageClass.CHAT, rights=True))
