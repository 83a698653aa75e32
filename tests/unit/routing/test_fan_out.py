"""Routing as a whole: who is dropped and why, what each lane is told, badge and sound by platform,
and that nothing hidden shows.
"""

import json
import random
from typing import Any
from urllib.parse import unquote_plus

import pytest

from common.contracts import Device, Notification
from common.model import BadgeMode, Decision, Kind, MessageClass, PushType, Urgency, Vendor
from common.storage.tenants import Tenant
from tests.examples import examples
from tests.unit.routing.builders import (
    NOW_MS,
    Books,
    credential,
    device,
    group,
    message,
    offline,
    who,
    world,
)
from workers.delivery.claiming import badge_step
from workers.delivery.work import PendingPush
from workers.routing.fan_out import BATCH_MAX, route, urgency_of
from workers.vendors import VENDORS
from workers.vendors.types import AccessToken, PushItem, RequestBatch, Template

ACCESS = AccessToken("access-1", NOW_MS + 1_000_000, NOW_MS + 2_000_000)


def note(about: Any, phone: Device | None = None, books: Books | None = None) -> Notification:
    """The one notification that comes of it."""
    ((_, batch),) = route(
        [offline(about, who(phone or device()))], world(books or Books()), NOW_MS
    ).batches
    return batch.pushes[0].note


def wire(about: Any, phone: Device, books: Books, badge: int | None = 7) -> Any:
    """The request that the vendor gets."""
    target = (
        route([offline(about, who(phone))], world(books), NOW_MS).batches[0][1].pushes[0].targets[0]
    )
    batch = RequestBatch((PushItem(note(about, phone, books), target, badge, 3600),), NOW_MS)
    return VENDORS[phone.vendor].build(batch, books.accounts[phone.vendor], ACCESS)


# ---------------------------------------------------------------- who is dropped


def test_each_device_of_a_refused_person_has_a_row():
    books = Books(settings={"bob": {"blocked": ["ann"]}})
    routed = route([offline(message(), who(device(), device(Vendor.FCM)))], world(books), NOW_MS)
    expected = [("bob", "apns-phone", Decision.BLOCKED), ("bob", "fcm-phone", Decision.BLOCKED)]
    assert [(row.user, row.device.device_id, row.decision) for row in routed.rows] == expected
    assert routed.batches == []


def test_a_device_without_an_account_is_told_apart_from_the_others():
    books = Books()
    del books.accounts[Vendor.FCM]
    routed = route([offline(message(), who(device(), device(Vendor.FCM)))], world(books), NOW_MS)
    found = [(row.device.device_id, row.decision) for row in routed.rows]
    assert found == [("fcm-phone", Decision.NO_CREDENTIAL)]
    assert [batch.vendor for _, batch in routed.batches] == [Vendor.APNS]


def test_a_mute_is_that_of_this_conversation():
    cases = (("mute:c2c:ann", True), ("mute:group:ann", False), ("mute:c2c:eve", False))
    for key, dropped in cases:
        books = Books(settings={"bob": {key: {"mode": "all"}}})
        found = [row.decision for row in route([offline(message())], world(books), NOW_MS).rows]
        assert found == [Decision.MUTED] * dropped


def test_friends_are_asked_for_only_where_the_message_wants_them():
    books = Books()
    wants = message(push={"gate": {"require_friend": True}})
    found = [row.decision for row in route([offline(wants)], world(books), NOW_MS).rows]
    assert found == [Decision.NOT_FRIEND]
    books.friendships.add(("bob", "ann"))
    assert route([offline(wants)], world(books), NOW_MS).rows == []


# ---------------------------------------------------------------- batches


def test_the_same_words_are_rendered_once_and_others_apart():
    people = [
        who(device(device_id=f"d{n}", lang="en" if n % 2 else "zh"), user=f"u{n}")
        for n in range(10)
    ]
    ((_, batch),) = route(
        [offline(group(elements=[{"type": "image"}]), *people)], world(Books()), NOW_MS
    ).batches
    found = sorted((push.note.body, len(push.targets)) for push in batch.pushes)
    assert found == [("Ann(Team):[Image]", 5), ("Ann(Team):[图片]", 5)]
    assert len({target.push_id for push in batch.pushes for target in push.targets}) == 10


@pytest.mark.parametrize("rest", [0, 1])
def test_a_batch_is_bounded_and_loses_nobody(rest):
    people = [who(device(), user=f"u{n}") for n in range(BATCH_MAX * 2 + rest)]
    batches = [
        batch for _, batch in route([offline(group(), *people)], world(Books()), NOW_MS).batches
    ]
    sizes = [sum(len(push.targets) for push in batch.pushes) for batch in batches]
    assert sizes == [BATCH_MAX, BATCH_MAX, 1][: 2 + rest]
    assert len(
        {target.user for batch in batches for push in batch.pushes for target in push.targets}
    ) == len(people)


URGENCIES = {
    "a call": (message(kind=Kind.CALL_INVITE), Urgency.CALL),
    "the end of a call": (message(kind=Kind.CALL_CANCEL), Urgency.CALL),
    "of class call": (message(push={"class": "call"}), Urgency.CALL),
    "a chat of two": (message(), Urgency.CHAT),
    "a group": (group(), Urgency.GROUP),
    "a group, mentioned": (group(mentions=["bob"]), Urgency.CHAT),
    "a campaign": (message(push={"class": "marketing"}), Urgency.BULK),
}


@pytest.mark.parametrize(("about", "urgency"), URGENCIES.values(), ids=URGENCIES)
def test_the_urgency_is_that_of_the_message_for_this_person(about, urgency):
    assert urgency_of(about, "bob") == urgency


@pytest.mark.parametrize(
    ("phone", "push_type", "token"),
    [
        (device(voip_token="b2" * 32), PushType.VOIP, "b2" * 32),
        (device(), PushType.ALERT, "a1" * 32),
        (device(Vendor.HARMONY), PushType.VOIP, "a1" * 32),
        (device(Vendor.FCM), PushType.ALERT, "a1" * 32),
    ],
    ids=["Apple with a token for it", "Apple without", "HarmonyOS", "Android"],
)
def test_voip_is_an_alert_where_there_is_no_way_for_it(phone, push_type, token):
    wants = message(push={"push_type": "voip"})
    ((_, batch),) = route([offline(wants, who(phone))], world(Books()), NOW_MS).batches
    assert batch.pushes[0].note.push_type == push_type
    assert batch.pushes[0].targets[0].token == token


@pytest.mark.parametrize("vendor", list(Vendor))
@pytest.mark.parametrize("preset", [False, True])
def test_what_is_silent_for_apple_is_shown_by_all_others(vendor, preset):
    """Tencent's enableIOSBackgroundNotification: it took the alert from every Android and HarmonyOS
    phone.
    """
    books, silent = Books(), {"apns": {"push_type": "silent"}}
    books.strategies["s1"] = silent
    wants = message(push={"strategy_id": "s1"} if preset else {"vendor": silent})
    ((_, batch),) = route([offline(wants, who(device(vendor)))], world(books), NOW_MS).batches
    assert batch.pushes[0].note.push_type == (
        PushType.SILENT if vendor == Vendor.APNS else PushType.ALERT
    )


@pytest.mark.parametrize("vendor", list(Vendor))
def test_a_badge_that_apple_keeps_counts_on_elsewhere(vendor):
    made = note(message(push={"vendor": {"apns": {"badge": "keep"}}}), device(vendor), Books())
    assert made.badge_mode == (BadgeMode.KEEP if vendor == Vendor.APNS else BadgeMode.INCREMENT)


@pytest.mark.parametrize(
    "push",
    [{"push_type": "voip"}, {"strategy_id": "calls"}, {"vendor": {"apns": {"push_type": "voip"}}}],
)
@pytest.mark.parametrize("vendor", [Vendor.APNS, Vendor.HARMONY])
@pytest.mark.parametrize("kind", [Kind.CALL_CANCEL, Kind.RECALL])
def test_what_takes_a_call_back_is_never_a_call(vendor, push, kind):
    books = Books()
    books.strategies["calls"] = {"push_type": "voip"}
    phone = device(vendor, voip_token="b2" * 32)
    people = [offline(message(kind=kind, push={**push, "class": "call"}), who(phone))]
    ((_, batch),) = route(people, world(books), NOW_MS).batches
    found = (batch.pushes[0].note.push_type, batch.pushes[0].targets[0].token)
    assert found == (PushType.ALERT, phone.token)


ENDS = {
    "accepted": "Answered on another device",
    "answered_elsewhere": "Answered on another device",
    "rejected": "Declined on another device",
    "cancelled": "The call was cancelled",
    "caller_cancel": "The call was cancelled",
    "timeout": "Missed call",
    "No-Answer": "Missed call",
    "": "The call has ended",
    "network": "The call has ended",
}


@pytest.mark.parametrize(("reason", "words"), ENDS.items())
def test_the_end_of_a_call_is_told_by_its_reason(reason, words):
    made = note(message(kind=Kind.CALL_CANCEL, ended_by=reason), device(lang="en"), Books())
    assert (made.body, made.title) == (words, "")
    own = Books(
        Tenant("demo", "Chat", "zh", "Asia/Shanghai", {"texts": {"en": {"call_cancel": "over"}}})
    )
    found = note(message(kind=Kind.CALL_CANCEL, ended_by=reason), device(lang="en"), own).body
    assert found == "over"


# ---------------------------------------------------------------- what each lane is told


def test_the_message_overrides_the_strategy_and_the_strategy_the_defaults():
    books = Books()
    fcm = {"channel_id": "preset", "priority": "normal"}
    books.strategies["s1"] = {"fcm": fcm, "sound": {"ios": "p.caf", "android": "p"}}
    wants = message(push={"strategy_id": "s1", "vendor": {"fcm": {"channel_id": "own"}}})
    made = note(wants, device(Vendor.FCM), books)
    assert made.vendor == {"channel_id": "own", "priority": "normal"}
    assert (made.sound_ios, made.sound_android) == ("p.caf", "p")
    assert made.placement["priority"] == "NORMAL"
    own = note(message(push={"strategy_id": "s1", "sound": {"ios": "own.caf"}}), device(), books)
    assert (own.sound_ios, own.sound_android) == ("own.caf", "p")
    assert note(message(push={"strategy_id": "nobody's"}), device(Vendor.FCM), books).vendor == {}
    names = ("nobody's", "s1", None)
    asked = [offline(message(push={"strategy_id": name} if name else {})) for name in names]
    assert route(asked, world(books), NOW_MS).presets_missing == 1


def test_a_preset_may_name_a_sound_at_each_vendor():
    books = Books()
    books.strategies["s1"] = {
        "apns": {"sound": "a.caf"},
        "fcm": {"sound": "f"},
        "huawei": {"sound": 7},
        "sound": {"ios": "all.caf", "android": "all"},
    }
    named = message(push={"strategy_id": "s1"})
    told = {vendor: note(named, device(vendor), books) for vendor in (*SOUNDS, Vendor.VIVO)}
    assert told[Vendor.APNS].sound_ios == "a.caf"
    found = {v: told[v].sound_android for v in told if v != Vendor.APNS}
    assert found == {Vendor.FCM: "f", Vendor.HUAWEI: "all", Vendor.VIVO: "all"}
    own = message(push={"strategy_id": "s1", "sound": {"ios": "own.caf", "android": "own"}})
    assert note(own, device(), books).sound_ios == "own.caf"
    assert note(own, device(Vendor.FCM), books).sound_android == "own"


SOUNDS = (Vendor.APNS, Vendor.FCM, Vendor.HUAWEI)


@pytest.mark.parametrize(
    ("preset", "push_type"),
    [({"push_type": "silent"}, "silent"), ({"push_type": "loud"}, "alert"), ({}, "alert")],
)
def test_a_preset_may_name_the_push_type_and_what_is_none_counts_as_alert(preset, push_type):
    books = Books()
    books.strategies["s1"] = preset
    assert note(message(push={"strategy_id": "s1"}), device(), books).push_type == push_type


@pytest.mark.parametrize(
    ("vendor", "image"),
    [
        (Vendor.APNS, "https://i/ios"),
        (Vendor.HUAWEI, "https://i/huawei"),
        (Vendor.FCM, None),
        (Vendor.OPPO, None),
    ],
)
def test_a_picture_is_the_vendors_own_and_https(vendor, image):
    push = {"image": {"ios": "https://i/ios", "huawei": "https://i/huawei", "fcm": "http://i/fcm"}}
    wants = message(push=push)
    assert note(wants, device(vendor)).image == image


def test_a_title_for_apple_only_stays_apples():
    wants = message(push={"display": {"title": "Hi"}, "vendor": {"apns": {"title": "Apple"}}})
    assert b'"title":"Apple"' in wire(wants, device(), Books()).body
    assert note(wants, device(Vendor.FCM)).title == "Hi"


def test_a_right_that_is_missing_downgrades_and_says_so():
    books = Books()
    made = note(message(), device(Vendor.HUAWEI), books)
    assert (made.class_sent, made.downgraded) == (MessageClass.CHAT, False)
    books.accounts[Vendor.HUAWEI] = type(books.accounts[Vendor.HUAWEI])(
        "demo", Vendor.HUAWEI, "b1", 1, {}, {}
    )
    made = note(message(), device(Vendor.HUAWEI), books)
    assert (made.class_sent, made.downgraded) == (MessageClass.MARKETING, True)


OPPO_CHAT: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, str]]] = {
    "the strongest right": ({}, {}, {"category": "IM", "notify_level": "16"}),
    "a level that OPPO has not": ({"notify_level": 7}, {}, {"category": "IM", "notify_level": "2"}),
    "a level of the sender": ({"notify_level": 1}, {}, {"category": "IM", "notify_level": "1"}),
    "a template of the account": (
        {},
        {"templates": {"chat": Template("T7", "who", "what")}},
        {"template_id": "T7", "template_text": "what"},
    ),
    "a public category of the sender": (
        {"category": "NEWS"},
        {},
        {"category": "NEWS", "notify_level": "1"},
    ),
}


@pytest.mark.parametrize(("over", "account", "fields"), OPPO_CHAT.values(), ids=OPPO_CHAT)
def test_a_chat_is_placed_on_oppo_by_rights_template_and_the_senders_wish(over, account, fields):
    books = Books()
    books.accounts[Vendor.OPPO] = credential(Vendor.OPPO, **account)
    placed = note(message(push={"vendor": {"oppo": over}}), device(Vendor.OPPO), books).placement
    assert fields.items() <= placed.items()


LONG_NAMES = {
    "as long as a cloud takes them": ("张" * 30, "群" * 30, None),
    "longer than a vendor's whole text": ("👨‍👩‍👧‍👦张" * 60, "群" * 200, None),
    "beside data that leave hardly any room": ("张" * 30, "群" * 10, "x" * 3500),
}


@pytest.mark.parametrize("vendor", Vendor)
@pytest.mark.parametrize(("nick", "name", "ext"), LONG_NAMES.values(), ids=LONG_NAMES)
def test_a_long_name_before_the_words_leaves_ten_characters_of_them(vendor, nick, name, ext):
    data = {"ext": ext and ext[: 500 if vendor == Vendor.VIVO else None]}
    about = group(
        sender={"id": "ann", "nick": nick},
        conversation={"type": "group", "id": "g1", "name": name},
        elements=[{"type": "text", "text": "一二三四五六七八九十" * 100}],
        push={"display": {"title": "Hi", "nick_prefix": "on"}, "data": data},
    )
    said = shown_of(wire(about, device(vendor), Books()))
    assert "一二三四五六七八九十" in said
    assert "张" in said


# ---------------------------------------------------------------- badge

BADGES: dict[str, tuple[dict[str, Any], Vendor, int]] = {
    "by default one more": ({}, Vendor.APNS, 1),
    "several at once": ({"badge": {"increment": 5}}, Vendor.APNS, 5),
    "by nothing: the number as it stands": ({"badge": {"increment": 0}}, Vendor.APNS, 0),
    "keep": ({"badge": {"mode": "keep"}}, Vendor.APNS, -1),
    "none": ({"badge": {"mode": "none"}}, Vendor.APNS, -1),
    "not counted as unread": ({"badge": {"counts_unread": False}}, Vendor.APNS, -1),
    "not counted, and none": ({"badge": {"counts_unread": False, "mode": "none"}}, Vendor.APNS, -1),
    "ignoreHarmonyBadge: not on HarmonyOS": (
        {"vendor": {"harmony": {"badge": False}}},
        Vendor.HARMONY,
        -1,
    ),
    "ignoreHarmonyBadge: the others count on": (
        {"vendor": {"harmony": {"badge": False}}},
        Vendor.APNS,
        1,
    ),
    "kept for one vendor": ({"vendor": {"huawei": {"badge": "keep"}}}, Vendor.HUAWEI, -1),
    "a silent push shows none": ({"push_type": "silent"}, Vendor.APNS, -1),
}


@pytest.mark.parametrize(("push", "vendor", "step"), BADGES.values(), ids=BADGES)
def test_a_push_moves_the_badge_by(push, vendor, step):
    ((_, batch),) = route(
        [offline(message(push=push), who(device(vendor)))], world(Books()), NOW_MS
    ).batches
    assert badge_step(PendingPush("e", batch.pushes[0].note, batch.pushes[0].targets[0])) == step


@pytest.mark.parametrize("kind", [Kind.RECALL, Kind.CALL_INVITE, Kind.CALL_CANCEL])
def test_what_is_no_message_leaves_the_badge(kind):
    assert note(message(kind=kind)).badge_mode == BadgeMode.KEEP


# ---------------------------------------------------------------- hidden

SECRET = "qXsecretX"
FAMILY = "👨‍👩‍👧‍👦"
EVENTS = examples(2_000)


def wish(rng: random.Random) -> dict[str, Any]:
    """A push block whose words, names and pictures all hold the secret, in every place where a
    sender may put some.
    """
    word = rng.choice(["", FAMILY, "中", "a" * 200]) + SECRET + rng.choice(["", '"', "…", "\n"])
    image = f"https://i.example/{SECRET}"
    fields = {"title": word, "body": word, "ticker": word, "data": word}
    vendors = [vendor.value for vendor in Vendor]
    nick_prefix = rng.choice(["on", "off"])
    everything = {
        "display": {"title": word, "subtitle": word, "body": word, "nick_prefix": nick_prefix},
        "force": {"on": True, "body": word},
        "image": dict.fromkeys(("ios", *vendors), image),
        "template": {
            one: {"id": "T9", "title_params": {"a": word}, "content_params": {"b": word}}
            for one in vendors
        },
        "vendor": {
            one: {"title": word, "image": image, "channel_name": word, "voip": {"handle": word}}
            for one in vendors
        },
        "vendor_raw": {
            one: {
                **dict.fromkeys(
                    ("notification", "fcm_v1", "android", "message", "extra", "parameters"), fields
                ),
                "aps": {"alert": {"body": word}, "category": "c"},
                "title": word,
                "content": word,
                "sub_title": word,
            }
            for one in vendors
        },
        "sound": {"ios": "ring.caf", "android": "ring"},
        "class": rng.choice(list(MessageClass)),
        "push_type": rng.choice(["alert", "alert", "alert", "silent", "voip"]),
    }
    return {key: value for key, value in everything.items() if rng.random() < 0.6}


def secret_event(rng: random.Random, number: int) -> Any:
    kinds = ["text", "custom", "image", "file", "merger"]
    return message(
        event_id=f"e{number}",
        message_id=f"m{number}",
        kind=rng.choices(list(Kind), [6, 2, 1, 1, 1, 1])[0],
        conversation={"type": rng.choice(["c2c", "group"]), "id": "x", "name": SECRET},
        sender={"id": "ann", "nick": SECRET, "group_card": rng.choice([None, SECRET])},
        elements=[
            {"type": rng.choice(kinds), "text": SECRET * rng.choice([1, 1, 50])}
            for _ in range(rng.randint(0, 3))
        ],
        push=wish(rng),
    )


def shown_of(request: Any) -> str:
    """Everything that leaves us, form fields decoded."""
    return request.path + repr(request.headers) + unquote_plus(request.body.decode())


HIDING: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"bob": {"show_detail": False}}, {}),
    ({"bob": {"show_detail": False}}, {"hidden_mode": "sender"}),
    ({}, {"hidden_mode": "text", "hidden_text": "Open the app"}),
    ({}, {"hidden_mode": "id"}),
]


def test_thousands_of_random_events_show_nothing_to_one_who_hides_details():
    rng = random.Random(20_261_123)
    worlds = [
        Books(Tenant("demo", "Chat", "zh", "Asia/Shanghai", options), wishes)
        for wishes, options in HIDING
    ]
    for number in range(EVENTS):
        about = secret_event(rng, number)
        books = worlds[number % len(worlds)]
        vendor = list(Vendor)[number % len(Vendor)]
        phone = device(vendor, lang=rng.choice(["zh", "en", None]), voip_token="b2" * 32)
        request = wire(about, phone, books, rng.choice([None, 3]))
        assert SECRET not in shown_of(request), (vendor, about)


@pytest.mark.parametrize("vendor", Vendor)
def test_the_search_finds_the_secret_of_one_who_hides_nothing(vendor):
    about = message(elements=[{"type": "text", "text": SECRET}])
    assert SECRET in shown_of(wire(about, device(vendor), Books()))


@pytest.mark.parametrize("vendor", Vendor)
def test_sender_only_shows_the_name_and_none_of_the_words(vendor):
    books = Books(Tenant("demo", "Chat", "zh", "Asia/Shanghai", {"hidden_mode": "sender"}))
    about = message(
        sender={"id": "ann", "nick": "Ann Li"}, elements=[{"type": "text", "text": SECRET}]
    )
    shown = shown_of(wire(about, device(vendor), books))
    assert "Ann Li" in shown
    assert SECRET not in shown


@pytest.mark.parametrize("vendor", Vendor)
def test_data_still_travel_for_one_who_hides_details_but_not_where_only_ids_do(vendor):
    about = message(
        message_id="m-77", push={"data": {"ext": "to-the-chat", "payload": {"k": "to-the-room"}}}
    )
    hides = Books(settings={"bob": {"show_detail": False}})
    assert "to-the-chat" in shown_of(wire(about, device(vendor), hides))
    ids = Books(Tenant("demo", "Chat", "zh", "Asia/Shanghai", {"hidden_mode": "id"}))
    shown = shown_of(wire(about, device(vendor), ids))
    assert "to-the-" not in shown
    assert "m-77" in shown


def test_a_click_target_travels_as_data_do():
    about = message(push={"vendor": {"harmony": {"uri": "page://chat", "click_type": "1"}}})
    hides = Books(settings={"bob": {"show_detail": False}})
    ids = Books(Tenant("demo", "", "zh", "UTC", {"hidden_mode": "id"}))
    found = note(about, device(Vendor.HARMONY), hides).vendor
    assert found == {"uri": "page://chat", "click_type": "1"}
    assert note(about, device(Vendor.HARMONY), ids).vendor == {"click_type": "1"}


def test_a_zone_that_nobody_knows_is_handed_on_to_be_counted():
    books = Books(settings={"bob": {"dnd": {"start": "22:00", "end": "07:00"}}})
    told = route([offline(message(), who(device(tz="Mars/Base")))], world(books), NOW_MS)
    assert [(user, name) for _, user, name in told.odd_zones] == [("bob", "Mars/Base")]


@pytest.mark.parametrize(
    ("tz", "held"),
    [(None, ["abroad"]), ("Mars/Base", ["abroad"]), ("America/New_York", ["abroad", "home"])],
)
def test_a_window_without_a_zone_is_read_on_each_devices_own_clock(tz, held):
    dnd = {"start": "22:00", "end": "07:00", "tz": tz}
    devices = [
        device(device_id="abroad", tz="America/New_York"),  # midnight there
        device(device_id="home", tz="Asia/Shanghai"),
    ]
    books = Books(settings={"bob": {"dnd": dnd}})
    routed = route([offline(message(), who(*devices))], world(books), NOW_MS)
    assert [(row.device.device_id, str(row.decision)) for row in routed.rows] == [
        (name, "dnd") for name in held
    ]
    sent = [
        target.device
        for _, batch in routed.batches
        for push in batch.pushes
        for target in push.targets
    ]
    assert sorted([*sent, *held]) == ["abroad", "home"]


def test_words_that_the_app_holds_go_before_the_body_for_those_who_cannot_look_them_up():
    about = message(push={"display": {"body": "Hi", "loc": {"key": "K", "args": ["Ann"]}}})
    said = {vendor: shown_of(wire(about, device(vendor), Books())) for vendor in Vendor}
    assert '"alert":{"loc-key":"K","loc-args":["Ann"]}' in said[Vendor.APNS]
    assert '"body_loc_key":"K"' in said[Vendor.FCM]
    others = {vendor: words for vendor, words in said.items() if vendor != Vendor.APNS}
    assert all("Hi" in words for words in others.values())


NAMED_ON_VIVO = {
    "a picture": ([{"type": "image"}], {}, "zh", "张三:发来一张图片"),
    "in English": ([{"type": "sound"}], {}, "en", "张三:sent a voice message"),
    "beside words": ([{"type": "text", "text": "看"}, {"type": "file"}], {}, "zh", "张三:看(文件)"),
    "the tenant's own": ([{"type": "image"}], {"zh": {"image": "[照片]"}}, "zh", "张三:(照片)"),
    "of another language": (
        [{"type": "face"}],
        {"fr": {"image": "x"}},
        "fr",
        "张三:sent a sticker",
    ),
}


@pytest.mark.parametrize(
    ("elements", "texts", "lang", "said"), NAMED_ON_VIVO.values(), ids=NAMED_ON_VIVO
)
def test_what_is_no_text_is_named_without_brackets_where_a_vendor_refuses_them(
    elements, texts, lang, said
):
    tenant = Tenant("demo", "聊天", "zh", "Asia/Shanghai", {"texts": texts} if texts else {})
    about = message(elements=elements, sender={"id": "ann", "nick": "张三"})
    body = json.loads(wire(about, device(Vendor.VIVO, lang=lang), Books(tenant)).body)
    assert (body["title"], body["content"]) == ("张三", said)
