"""What wins where a message, its preset and an account say different things (im-dialects §1), down
to the bytes for a vendor.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest

from common.contracts import (
    Device,
    Element,
    OfflineRecipients,
    PushFields,
    Recipient,
    Sender,
)
from common.model import Bucket, Kind, PushType, Vendor
from common.storage.tenants import Tenant
from tests.builders import stored_message
from tests.tables import table
from workers.delivery.request_batches import pack
from workers.routing.fan_out import RoutingPorts, route
from workers.routing.wordless import WORDLESS
from workers.vendors import VENDORS
from workers.vendors.types import COMMON_OVERRIDES, AccessToken, Credential, PushItem, Template

NOW_MS = 1_763_787_600_000


class House:
    """One tenant's accounts and presets, as values."""

    def __init__(
        self,
        presets: Mapping[str, Any],
        channels: Mapping[str, str],
        rights: tuple[str, ...],
        templates: Mapping[str, Template],
    ) -> None:
        self.presets, self.channels, self.rights, self.templates = (
            presets,
            channels,
            frozenset(rights),
            templates,
        )

    def tenant(self, app: str) -> Tenant:
        return Tenant(app, "Chat", "en", "UTC")

    def credential(self, app: str, vendor: Vendor, business_id: str) -> Credential:
        options = {
            "topic": "com.example.chat",
            "env": "production",
            "project_id": "p1",
            "app_id": "1000",
        }
        return Credential(
            app, vendor, business_id, 1, options, {}, self.rights, self.channels, self.templates
        )

    def strategy(self, app: str, strategy_id: str) -> Mapping[str, Any] | None:
        return self.presets.get(strategy_id)


class Nobody:
    """People without settings and without friends."""

    def of_people(self, *_: Any) -> dict[tuple[str, str], Any]:
        return {}

    def friends(self, *_: Any) -> set[str]:
        return set()


def device(vendor: Vendor, voip_token: str | None = None) -> Device:
    return Device("d1", "android", vendor, "b1", "a1b2c3d4" * 8, voip_token, "en", None, None, 0)


def note_of(
    vendor: Vendor,
    push: Mapping[str, Any],
    preset: Mapping[str, Any],
    channels: Mapping[str, str] = {},
    **more: Any,
) -> Any:
    """The one push that routing makes: (notification, target, house)."""
    rights = more.pop("rights", ("huawei.im", "harmony.im", "harmony.voip"))
    house = House({"s1": preset}, channels, rights, more.pop("templates", {}))
    words = {"elements": (Element(type="text", text="hi"),), "sender": Sender(id="u1")}
    kind = {name: value for name, value in more.items() if name == "kind"}
    wish = msgspec.convert({"strategy_id": "s1", **push}, PushFields)
    message = stored_message("c2c:u1", NOW_MS, app="a", push=wish, **words, **kind)
    who = Recipient("u2", (device(vendor, more.get("voip_token")),), False)
    nobody: Any = Nobody()
    people = [OfflineRecipients(message=message, recipients=(who,), presence_ms=NOW_MS)]
    routed = route(people, RoutingPorts(nobody, nobody, house), NOW_MS)
    ((_, batch),) = routed.batches
    (one,) = batch.pushes
    return one.note, one.targets[0], house


def body_of(
    vendor: Vendor,
    push: Mapping[str, Any],
    preset: Mapping[str, Any],
    channels: Mapping[str, str] = {},
) -> dict[str, Any]:
    """What the vendor would read."""
    note, target, house = note_of(vendor, push, preset, channels)
    spec, credential = VENDORS[vendor], house.credential("a", vendor, "b1")
    (batch,) = pack([PushItem(note, target, None, 60)], spec, credential, NOW_MS, None)
    return json.loads(spec.build(batch, credential, AccessToken("t", 0, NOW_MS * 2)).body)


def at(body: Any, path: str) -> Any:
    for step in path.split("/"):
        body = body.get(step) if isinstance(body, dict) else None
    return body


RAW = {
    "vendor_raw": {
        "apns": {"aps": {"sound": "raw.caf", "category": "RAW"}},
        "fcm_v1": {"channel_id": "raw"},
        "fcm": {},
    }
}
OWN = {
    "sound": {"ios": "own.caf", "android": "own"},
    "vendor": {"apns": {"category": "OWN"}, "fcm": {"channel_id": "own"}},
}
PRESET = {
    "sound": {"ios": "preset.caf", "android": "preset"},
    "apns": {"category": "PRESET"},
    "fcm": {"channel_id": "preset"},
}
ACCOUNT = {"chat": "account"}

#: (vendor, where it stands in the body, values by who speaks: vendor_raw, the message, the preset,
#: the account, nobody)
FIELDS = {
    "an iPhone's sound": (
        Vendor.APNS,
        "aps/sound",
        ("raw.caf", "own.caf", "preset.caf", "default", "default"),
    ),
    "an iPhone's category": (Vendor.APNS, "aps/category", ("RAW", "OWN", "PRESET", None, None)),
    "an Android channel": (
        Vendor.FCM,
        "message/android/notification/channel_id",
        ("raw", "own", "preset", "account", None),
    ),
    "an Android sound": (
        Vendor.FCM,
        "message/android/notification/sound",
        ("own", "own", "preset", "default", "default"),
    ),
}


@pytest.mark.parametrize(("vendor", "path", "values"), FIELDS.values(), ids=FIELDS)
def test_vendor_raw_beats_the_message_beats_its_preset_beats_the_account(
    vendor: Vendor, path: str, values: tuple[Any, ...]
) -> None:
    with_summary = [
        ({**OWN, **RAW}, PRESET, ACCOUNT),
        (OWN, PRESET, ACCOUNT),
        ({}, PRESET, ACCOUNT),
        ({}, {}, ACCOUNT),
        ({}, {}, {}),
    ]
    assert tuple(at(body_of(vendor, *one), path) for one in with_summary) == values


#: (the preset's wishes, the message's own, whether the app draws)
WHO_DRAWS: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "the message's type over the preset's data_only": (
        {"data_only": True},
        {"type": "notification"},
        False,
    ),
    "the message's data_only over the preset's type": ({"type": "data"}, {"data_only": 0}, False),
    "data_only over type in one place": ({}, {"type": "notification", "data_only": True}, True),
    "a type that is none leaves the preset's": ({"data_only": True}, {"type": ["data"]}, True),
    "a null is no wish": ({}, {"type": "data", "data_only": None}, True),
}


@pytest.mark.parametrize(("preset", "own", "app_draws"), WHO_DRAWS.values(), ids=WHO_DRAWS)
def test_a_wish_by_another_name_keeps_its_rank(
    preset: dict[str, Any], own: dict[str, Any], app_draws: bool
) -> None:
    body = body_of(Vendor.FCM, {"vendor": {"fcm": own}}, {"fcm": preset})
    assert ("notification" not in body["message"]) is app_draws


#: vendor -> (key of a preset, what switches it on, where it stands in the body, its value there)
TESTING: dict[Vendor, tuple[str, Any, str, Any]] = {
    Vendor.HUAWEI: ("target_user_type", 1, "message/android/target_user_type", 1),
    Vendor.HARMONY: ("test_message", True, "pushOptions/testMessage", True),
}


@pytest.mark.parametrize("push_type", ["alert", "silent"])
@pytest.mark.parametrize(("vendor", "wish"), TESTING.items(), ids=TESTING)
def test_a_preset_makes_a_test_message(
    vendor: Vendor, wish: tuple[str, Any, str, Any], push_type: str
) -> None:
    name, on, path, value = wish
    push = {"push_type": push_type}
    assert at(body_of(vendor, push, {vendor: {name: on}}), path) == value
    assert at(body_of(vendor, push, {vendor: {name: 0}}), path) is None
    own = {**push, "vendor": {vendor: {name: 0}}}
    assert at(body_of(vendor, own, {vendor: {name: on}}), path) is None


def test_an_unknown_preset_means_the_defaults() -> None:
    assert at(body_of(Vendor.APNS, {"strategy_id": "nobody"}, PRESET), "aps/sound") == "default"


#: vendor | the message's wish | the preset's | the token for calls | how it travels
PUSH_TYPES = table("""
    the preset speaks where the message says nothing | apns | {} | silent | - | silent
    the message's own wish wins | apns | {"push_type": "silent"} | voip | aa | silent
    voip with a token for it | apns | {} | voip | aa | voip
    voip without one is an alert | apns | {"push_type": "voip"} | alert | - | alert
    voip on Android is an alert | fcm | {"push_type": "voip"} | alert | - | alert
    voip on HarmonyOS | harmony | {"push_type": "voip"} | alert | - | voip
    a word that is none | apns | {} | loud | - | alert
""")


@pytest.mark.parametrize("name", PUSH_TYPES)
def test_how_a_push_travels(name: str) -> None:
    vendor, push, preset, voip_token, expected = PUSH_TYPES[name]
    note, target, _ = note_of(Vendor(vendor), push, {"push_type": preset}, voip_token=voip_token)
    assert note.push_type == expected
    assert (target.token == voip_token) == (expected == PushType.VOIP and vendor == Vendor.APNS)


HARMONY_CALLS = {"with the right": (("harmony.voip",), "10"), "without": (("harmony.im",), "0")}


@pytest.mark.parametrize(("rights", "expected"), HARMONY_CALLS.values(), ids=HARMONY_CALLS)
def test_a_harmony_phone_rings_in_the_app_only_with_the_right_for_it(
    rights: tuple[str, ...], expected: str
) -> None:
    vendor = {"apns": {"voip": {"handle": "u_1", "video": True}}}
    push = {"class": "call", "push_type": "voip", "vendor": vendor}
    note, target, house = note_of(Vendor.HARMONY, push, {}, kind=Kind.CALL_INVITE, rights=rights)
    credential = house.credential("a", Vendor.HARMONY, "b1")
    (batch,) = pack(
        [PushItem(note, target, None, 60)], VENDORS[Vendor.HARMONY], credential, NOW_MS, None
    )
    request = VENDORS[Vendor.HARMONY].build(batch, credential, AccessToken("t", 0, NOW_MS * 2))
    assert request.headers["push-type"] == expected
    assert note.voip == {"call": {"id": "m", "action": "invite", "handle": "u_1", "video": True}}


#: vendor | the class asked for | its bucket | verbatim fields | the message's own override | what
#: stands on the wire under these names
VERBATIM = table("""
    a channel at Xiaomi | xiaomi | chat | private | {"extra": {"channel_id": "raw"}}
      | {"channel_id": "own"} | {"extra.channel_id": "raw"}
    never for an advert | xiaomi | marketing | public | {"extra": {"channel_id": "raw"}} | {}
      | {"extra.channel_id": null}
    what is no channel | xiaomi | chat | private | {"extra": {"channel_id": {"a": 1}}}
      | {"channel_id": ["own"]} | {"extra.channel_id": "account"}
    channel, category and level at OPPO | oppo | chat | private
      | {"channel_id": "raw", "category": "ORDER", "notify_level": 1}
      | {"channel_id": "own", "category": "TODO", "notify_level": 2}
      | {"channel_id": "raw", "category": "ORDER", "notify_level": 1}
    in OPPO's own object, and lower | oppo | chat | public
      | {"notification": {"category": "SOCIAL", "notify_level": 16}} | {}
      | {"category": "SOCIAL", "notify_level": null}
    nor an advert at OPPO | oppo | marketing | public
      | {"channel_id": "raw", "category": "IM", "notify_level": 16} | {}
      | {"channel_id": null, "category": "MARKETING", "notify_level": null}
    another category at vivo | vivo | chat | private | {"category": "ORDER"} | {"category": "TODO"}
      | {"classification": 1, "category": "ORDER"}
    lower at vivo: it counts as what it is | vivo | chat | public
      | {"classification": 0, "category": "SOCIAL"} | {}
      | {"classification": 0, "category": "SOCIAL"}
""")


@pytest.mark.parametrize("name", VERBATIM)
def test_verbatim_fields_choose_class_and_channel_as_far_as_an_override_may(name: str) -> None:
    vendor, wanted, bucket, raw, own, on_wire = VERBATIM[name]
    vendor, sent_class = Vendor(vendor), "chat" if bucket == Bucket.PRIVATE else "marketing"
    push = {"class": wanted, "vendor": {vendor: own}, "vendor_raw": {vendor: raw}}
    rights = ("xiaomi.private", "oppo.private", "oppo.strong", "vivo.system")
    note, target, house = note_of(
        vendor, push, {}, {"chat": "account"}, rights=rights, templates={"chat": Template("T1")}
    )
    credential = house.credential("a", vendor, "b1")
    (batch,) = pack([PushItem(note, target, None, 60)], VENDORS[vendor], credential, NOW_MS, None)
    body = VENDORS[vendor].build(batch, credential, AccessToken("t", 0, NOW_MS * 2)).body.decode()
    sent = json.loads(body) if body.startswith("{") else dict(parse_qsl(body))
    sent = json.loads(sent["message"])["notification"] if "message" in sent else sent
    found = (note.bucket, note.class_sent, {name: sent.get(name) for name in on_wire})
    assert found == (bucket, sent_class, on_wire)
    assert not note.downgraded


#: Values that an override may have anywhere, and pushes of every way in which one is read.
VALUES: tuple[Any, ...] = (
    *("LOW", "MARKETING", "ORDER", "EXPRESS", "own", "normal", "data", "passive", "keep", "silent"),
    *(0, 1, 2, 5, 6, True, False, "https://pictures.example/a.png", {"handle": "u_9"}),
)
RIGHTS = (
    *("huawei.im", "huawei.express", "harmony.im", "harmony.express", "harmony.voip"),
    *("honor.service", "xiaomi.private", "oppo.private", "vivo.system", "meizu.private"),
)
WAYS: tuple[dict[str, Any], ...] = (
    {"data": {"ext": "x"}},
    {"class": "call", "push_type": "voip"},
)


def on_the_wire(vendor: Vendor, push: Mapping[str, Any], over: Mapping[str, Any]) -> object:
    """All that a preset's overrides may change: headers, body, bucket and the badge's count."""
    call = push.get("push_type") == "voip"
    more = {"rights": RIGHTS, "templates": {"chat": Template("T1"), "call": Template("T2")}}
    kind = {"kind": Kind.CALL_INVITE, "voip_token": "b2" * 32} if call else {}
    preset: dict[str, Any] = {vendor: {"click_type": 1, "uri": "a/b", **over}}
    note, target, house = note_of(vendor, push, preset, {"chat": "c", "call": "c"}, **more, **kind)
    spec, credential = VENDORS[vendor], house.credential("a", vendor, "b1")
    (batch,) = pack([PushItem(note, target, 3, 60)], spec, credential, NOW_MS, None)
    request = spec.build(batch, credential, AccessToken("t", 0, NOW_MS * 2))
    return request.path, request.headers, request.body, note.bucket, note.badge_mode, note.push_type


@pytest.mark.parametrize("vendor", Vendor)
def test_an_override_has_a_name_of_its_vendor_exactly_where_it_changes_something(
    vendor: Vendor,
) -> None:
    every = WORDLESS.union(*(one.overrides for one in VENDORS.values())) - COMMON_OVERRIDES
    changing = {
        name
        for name in every
        if any(
            on_the_wire(vendor, way, {name: value}) != on_the_wire(vendor, way, {})
            for way in WAYS
            for value in VALUES
        )
    }
    assert changing == VENDORS[vendor].overrides
