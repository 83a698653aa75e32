"""Pushes made after the pattern of another are those that the general way makes, byte for byte."""

import random
from typing import Any

import pytest

from common.contracts import PLAIN, Message, OfflineRecipients, Recipient, encode
from common.model import Vendor
from common.storage.tenants import Tenant
from tests.unit.routing import builders
from tests.unit.routing.builders import NOW_MS, Books, device, group, message, who, world
from workers.routing.alike import pattern_of
from workers.routing.fan_out import Routed, route

WISHES: list[dict[str, Any]] = [
    {},
    {"display": {"nick_prefix": "off"}},
    {"display": {"nick_prefix": "on", "title": "T"}},
    {"display": {"nick_prefix": "on"}, "push_type": "voip"},
    {"display": {"nick_prefix": "on"}, "class": "marketing"},
    {"display": {"nick_prefix": "on"}, "gate": {"require_friend": True}},
    {"display": {"nick_prefix": "on"}, "vendor": {"apns": {"priority": "5"}}},
]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"blocked": ["ann"]},
    {"show_detail": False},
    {"mute:c2c:ann": {"mode": "all"}},
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {},
    {"hidden_mode": "sender"},
    {"texts": {"en": {"hidden": "news"}}},
]


def usual(dice: random.Random, number: int) -> dict[str, Any]:
    name = dice.choice(["Ann", "Ann:", "\u5c0f\u660e", "", " ", None])
    texts = [{"type": "text", "text": text} for text in ("hello", "20:00", "", "  ", None)]
    sender = dice.choice(["ann", "eve"])
    return {
        "event_id": f"e-{number}",
        "message_id": f"m-{number}",
        "ts_ms": NOW_MS - number,
        "received_ms": NOW_MS + number,
        "expires_at_ms": NOW_MS + 1 + number,
        "conversation": {"type": "c2c", "id": f"{name}"},
        "sender": {"id": sender, "nick": name, "group_card": dice.choice([None, "Card"])},
        "elements": [dice.choice([*texts[:2], *texts])],
    }


def unusual(dice: random.Random) -> dict[str, Any]:
    changes: list[dict[str, Any]] = [
        {"expires_at_ms": NOW_MS},
        {"mentions": ["bob"]},
        {"conversation": {"type": "group", "id": "g1", "name": "Team"}},
        {"elements": [{"type": "image"}]},
        {"elements": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        *({"push": wishes} for wishes in WISHES),
    ]
    return dice.choice(changes)


def phone(dice: random.Random, name: str) -> Any:
    lang, build = dice.choice(["en", "zh", None]), dice.choice([None, "2.0"])
    voip_token = dice.choice([None, "b2" * 32])
    more: dict[str, Any] = {"voip_token": voip_token, "content_key": dice.choice([None, "k"])}
    vendor = dice.choice([Vendor.APNS, Vendor.APNS, Vendor.FCM, Vendor.XIAOMI, Vendor.HARMONY])
    return device(vendor, device_id=name, lang=lang, app_version=build, **more)


def away(dice: random.Random, number: int) -> OfflineRecipients:
    about: Message = message(
        **{**usual(dice, number), **(unusual(dice) if dice.random() < 0.3 else {})}
    )
    users = dice.choice([["bob"], ["carol"], ["carol"], ["bob", "carol", "dave"]])
    several = dice.random() < 0.2
    recipients = tuple(
        who(*(phone(dice, f"d{n}") for n in range(1 + several)), user=user, desktop=several)
        for user in users
    )
    return OfflineRecipients(message=about, recipients=recipients, presence_ms=NOW_MS - number)


def told(routed: Routed) -> list[bytes]:
    """Each device's push, and each refused device, in any order: how they were
    packed is left out.
    """
    pushes = [
        encode([str(urgency), batch.app, batch.vendor, batch.business_id, push.note, target])
        for urgency, batch in routed.batches
        for push in batch.pushes
        for target in push.targets
    ]
    told = pushes + [
        encode([row.message.event_id, row.user, row.device, row.decision]) for row in routed.rows
    ]
    return sorted(told)


@pytest.mark.parametrize("seed", range(4))
def test_many_at_once_are_what_each_alone_is(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(60):
        tenant = Tenant("demo", "Chat", "zh", "Asia/Shanghai", dice.choice(OPTIONS))
        books = Books(tenant, {"bob": dice.choice(SETTINGS)})
        del books.accounts[Vendor.HARMONY]
        offline = [away(dice, number) for number in range(24)]
        alone = [
            one
            for many in offline
            for person in many.recipients
            for one in told(route([_only(many, person)], world(books), NOW_MS))
        ]
        assert told(route(offline, world(books), NOW_MS)) == sorted(alone)


def _only(many: OfflineRecipients, one: Recipient) -> OfflineRecipients:
    return OfflineRecipients(message=many.message, recipients=(one,), presence_ms=many.presence_ms)


def test_the_order_within_a_lane_is_that_of_the_messages() -> None:
    wishes = [{"display": {"nick_prefix": "on"}}, {"display": {"nick_prefix": "off"}}] * 3
    offline = [
        builders.offline(message(event_id=f"e{n}", message_id=f"m{n}", push=push))
        for n, push in enumerate(wishes)
    ]
    ((_, batch),) = route(offline, world(Books()), NOW_MS).batches
    assert [push.note.event_id for push in batch.pushes] == [f"e{n}" for n in range(6)]


def test_the_usual_chat_of_two_has_a_pattern() -> None:
    assert message().push == PLAIN
    for one in (device(), device(Vendor.FCM, lang=None)):
        assert pattern_of(builders.offline(message(), who(one)), NOW_MS) is not None
    assert pattern_of(builders.offline(group()), NOW_MS) is None
