"""The data of the demo: people with phones of every brand, settings, presence and messages.

It also has the expected recipients.
"""

from __future__ import annotations

import datetime
import json
import random
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from common.model import Vendor
from workers.vendors import VENDORS
from workers.vendors.account_secrets import option_of
from workers.vendors.types import DemoKeys

APP = "1400000001"
PEOPLE = 3_000
BIG_GROUP = 2_000
SMALL_GROUPS = 40
CHATS = 3_000
CLASSES = ("chat", "call", "account", "order", "todo", "device", "subscription")


@dataclass(slots=True)
class DemoPerson:
    name: str
    devices: list[tuple[str, Vendor, str]]  # device id, vendor, token
    state: str  # away, background, foreground, logged_out, no_device


@dataclass(slots=True)
class DemoData:
    people: dict[str, DemoPerson]
    groups: dict[str, list[str]]
    #: event id -> those who must have rows, each with the devices that must have one ("" where
    #: none)
    expected: dict[str, dict[str, set[str]]] = field(default_factory=dict)


def make_data(seed: int = 7) -> DemoData:
    rng = random.Random(seed)
    people = {}
    vendors = list(Vendor)
    shares = [VENDORS[vendor].demo_share for vendor in vendors]
    for index in range(PEOPLE):
        name = f"p{index:04d}"
        state = rng.choices(
            ["away", "background", "foreground", "logged_out", "no_device"], [66, 12, 15, 4, 3]
        )[0]
        count = 0 if state == "no_device" else rng.choices([1, 2], [85, 15])[0]
        devices = []
        for number in range(count):
            vendor = rng.choices(vendors, shares)[0]
            outcome = rng.choices(["", "dead", "fail"], [95, 3, 2])[0]
            devices.append((f"{name}-d{number}", vendor, token(vendor, rng, outcome)))
        people[name] = DemoPerson(name, devices, state)
    names = list(people)
    groups = {
        f"g{index:02d}": rng.sample(names, rng.randint(3, 60)) for index in range(SMALL_GROUPS)
    }
    groups["everybody"] = rng.sample(names, BIG_GROUP)
    return DemoData(people, groups)


def token(vendor: Vendor, rng: random.Random, outcome: str) -> str:
    """A device token in the vendor's form, whose text tells the simulator its fate."""
    return made_up(vendor, f"{rng.getrandbits(256):064x}", outcome)


def made_up(vendor: Vendor, digits: str, outcome: str = "") -> str:
    """The same of 64 hexadecimal digits."""
    own = VENDORS[vendor].demo_token
    return own(outcome, digits) if own else f"{outcome or 'live'}-{vendor}-{digits[:40]}"


# ---------------------------------------------------------------- accounts


def account_options(folder: Path) -> Iterator[tuple[Vendor, list[str]]]:
    """(vendor, options of `credential add`) of a throw-away account with every vendor."""
    folder.mkdir(parents=True, exist_ok=True)
    rsa_pem = _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    ec_pem = _pem(ec.generate_private_key(ec.SECP256R1()))
    keys = DemoKeys(rsa_pem, ec_pem, f"s-{uuid.uuid4().hex}", uuid.uuid4().hex)
    for vendor, spec in VENDORS.items():
        account, options = spec.demo(keys), []
        for name, value in account.fields.items():
            is_file = spec.account[name].kind in ("file", "secret")
            options += [
                option_of(name),
                _file(folder, f"{vendor}-{name}", value) if is_file else value,
            ]
        options += [option for right in account.rights for option in ("--right", right)]
        template = any(right in spec.rights_need_template for right in account.rights)
        if template or spec.rights_want_channel & set(account.rights):
            for number, name in enumerate(CLASSES):
                options += ["--channel", f"{name}=10{number}"]
                options += ["--template", f"{name}=T{name}"] if template else []
        yield vendor, options


def _file(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def _pem(key: Any) -> str:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return str(pem.decode())


# ---------------------------------------------------------------- events


def event(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "v": 1,
        "id": uuid.uuid4().hex,
        "type": kind,
        "app": APP,
        "ts": int(time.time() * 1000),
        "data": data,
    }


def registrations(demo: DemoData) -> Iterator[dict[str, Any]]:
    for person in demo.people.values():
        for device, vendor, address in person.devices:
            data = {
                "user": person.name,
                "device_id": device,
                "platform": VENDORS[vendor].platform,
                "vendor": vendor,
            }
            yield event(
                "device.registered",
                {**data, "business_id": f"{vendor}-1", "token": address, "lang": "zh"},
            )


def logouts(demo: DemoData) -> Iterator[dict[str, Any]]:
    for person in demo.people.values():
        for device, _, _ in person.devices if person.state == "logged_out" else ():
            yield event("session.logout", {"user": person.name, "device_id": device})


def presences(demo: DemoData) -> Iterator[tuple[str, dict[str, str]]]:
    """(user, fields of the presence hash) of those with a live connection."""
    until = int((time.time() + 3600) * 1000)
    for person in demo.people.values():
        if person.state in ("foreground", "background"):
            device = person.devices[0][0]
            yield person.name, {device: f"{person.state}|android|{until}"}


def messages(demo: DemoData, seed: int = 11) -> Iterator[dict[str, Any]]:
    """Chats, groups, the large group twice, a few calls and a campaign; results in `expected`."""
    rng = random.Random(seed)
    names = list(demo.people)
    for index in range(CHATS):
        sender, receiver = rng.sample(names, 2)
        yield _chat(demo, sender, receiver, f"c{index:05d}", rng)
    for group in demo.groups:
        for number in range(2):
            yield _group(demo, group, f"{group}-m{number}", rng)
    for index in range(100):
        sender, receiver = rng.sample(names, 2)
        call = {
            "call_id": f"call{index:03d}",
            "inviter": {"id": sender, "nick": sender.upper()},
            "invitees": [receiver],
            "timeout_s": 60,
        }
        yield _expect(demo, event("call.invited", {**call, "push": {"class": "call"}}), [receiver])
    today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    for index in range(100):
        receiver = rng.choice(names)
        data: dict[str, Any] = {
            "message_id": f"ad{index:03d}",
            "conversation": {"type": "c2c", "id": "shop"},
            "sender": {"id": "shop", "nick": "商城"},
        }
        data |= {
            "recipients": [receiver],
            "elements": [{"type": "text", "text": f"{today} 周末特惠活动开始了"}],
        }
        yield _expect(
            demo,
            event("message.stored", {**data, "push": {"class": "marketing", "ttl_s": 60}}),
            [receiver],
        )


_SAID = (
    "晚上一起吃饭吗？",
    "On my way, ten minutes",
    "好的收到",
    "会议改到下午三点",
    "Photos from yesterday 🎉",
    "[ok]",
)


def _chat(
    demo: DemoData, sender: str, receiver: str, name: str, rng: random.Random
) -> dict[str, Any]:
    data: dict[str, Any] = {
        "message_id": name,
        "conversation": {"type": "c2c", "id": sender},
        "sender": {"id": sender, "nick": f"User {sender}"},
    }
    data |= {"recipients": [receiver], "elements": [{"type": "text", "text": rng.choice(_SAID)}]}
    return _expect(
        demo,
        event("message.stored", {**data, "push": {"data": {"ext": json.dumps({"cid": sender})}}}),
        [receiver],
    )


def _group(demo: DemoData, group: str, name: str, rng: random.Random) -> dict[str, Any]:
    members = demo.groups[group]
    sender = rng.choice(members)
    data: dict[str, Any] = {
        "message_id": name,
        "conversation": {"type": "group", "id": group, "name": f"Group {group}"},
    }
    data |= {
        "sender": {"id": sender, "nick": f"User {sender}"},
        "elements": [{"type": "text", "text": rng.choice(_SAID)}],
    }
    return _expect(demo, event("message.stored", data), members)


def _expect(demo: DemoData, published: dict[str, Any], receivers: list[str]) -> dict[str, Any]:
    rows = {}
    for name in receivers:
        person = demo.people[name]
        alive = (
            {device for device, _, _ in person.devices} if person.state != "logged_out" else set()
        )
        rows[name] = alive
    demo.expected[published["id"]] = rows
    return published
