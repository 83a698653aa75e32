"""All nine lanes from the core's stream to the vendor's record: wire mapping, dead and failing
tokens, recalls, a lane that is stopped.
"""

import functools
import itertools
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlalchemy import text

from common.model import Vendor
from tests.e2e import operator
from tests.e2e.conftest import Core, now_ms, wait_for
from tests.e2e.operator import good, metric, register, row_of, send
from tests.e2e.tenant import device_token as token
from tests.e2e.test_urgency import outage_lasts
from tests.simulator_keys import pem_of, public_pem

pytestmark = [pytest.mark.e2e]

lanes = operator.lanes
Lanes = tuple[str, dict[str, list[str]]]
VENDORS = [str(vendor) for vendor in Vendor]
EXT = '{"cid":"u1","n":1}'
TTL_S = 600
#: Some seconds, of a machine that stands still for some too.
SOON_S = 30


def received(fleet: Core, vendor: str, address: str) -> list[dict[str, Any]]:
    """The simulator's lines about this device token; Huawei's simulator is HarmonyOS' too."""
    return fleet.pushes_to("huawei" if vendor == "harmony" else vendor, address)


def person(
    fleet: Core, app: str, vendor: str, mood: str = "", business_id: str | None = None
) -> tuple[str, str]:
    """(user, device token) of somebody new with one phone of this vendor."""
    user = "u-" + uuid.uuid4().hex[:10]
    return user, register(
        fleet, app, user, vendor, business_id or f"{vendor}-1", token(vendor, mood)
    )


def base62(push_id: str, length: int) -> str:
    """Contract §8a, written again: digits, capitals, small letters; 22 digits."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    number = int(push_id, 16)
    return "".join(digits[number // 62**place % 62] for place in range(21, -1, -1))[:length]


# ---------------------------------------------------------------- the wire (contract §8a, docs/vend


def apns(line: dict[str, Any], push_id: str) -> dict[str, Any]:
    body = line["body"]
    assert line["id"].replace("-", "") == push_id
    assert (line["topic"], line["push_type"], line["priority"]) == ("com.example.chat", "alert", 10)
    ttl_s = line["expiration"] - line["at_ms"] / 1000
    return {
        "ext": body["ext"],
        "k": body["k"],
        "title": body["aps"]["alert"]["title"],
        "ttl_s": ttl_s,
        "screen": line["collapse_id"],
    }


def fcm(line: dict[str, Any], push_id: str) -> dict[str, Any]:
    del push_id  # FCM has no field for it
    body, android = line["body"], line["body"]["android"]
    assert android["priority"] == "HIGH"
    title = body["notification"]["title"]
    told = {"ext": body["data"]["ext"], "k": body["data"]["k"], "title": title}
    ttl_s = int(android["ttl"].removesuffix("s"))
    return {**told, "ttl_s": ttl_s, "screen": android["notification"]["tag"]}


def huawei(line: dict[str, Any], push_id: str) -> dict[str, Any]:
    android = line["body"]["android"]
    notification = android["notification"]
    assert line["id"] == android["bi_tag"] == push_id
    found = (android["category"], notification["importance"], line["class"])
    assert found == ("IM", "NORMAL", "private")
    return {
        **_click(line["body"]["data"]),
        "title": notification["title"],
        "ttl_s": _s(android["ttl"]),
        "screen": notification["notify_id"],
    }


def harmony(line: dict[str, Any], push_id: str) -> dict[str, Any]:
    notification, options = line["body"]["payload"]["notification"], line["body"]["pushOptions"]
    assert notification["appMessageId"] == base62(push_id, 22)
    assert options["biTag"] == push_id
    assert (notification["category"], line["push_type"], line["class"]) == ("IM", 0, "private")
    click = notification["clickAction"]["data"]
    return {
        "ext": click["ext"],
        "k": click["k"],
        "title": notification["title"],
        "ttl_s": options["ttl"],
        "screen": notification["notifyId"],
    }


def honor(line: dict[str, Any], push_id: str) -> dict[str, Any]:
    android = line["body"]["android"]
    notification = android["notification"]
    assert line["id"] == android["biTag"] == push_id
    assert (notification["importance"], line["class"]) == ("NORMAL", "private")
    return {
        **_click(line["body"]["data"]),
        "title": notification["title"],
        "ttl_s": _s(android["ttl"]),
        "screen": notification["notifyId"],
    }


def xiaomi(line: dict[str, Any], push_id: str) -> dict[str, Any]:
    body = line["body"]
    assert body["extra.jobkey"] == base62(push_id, len(body["extra.jobkey"]))
    assert len(body["extra.jobkey"]) >= 16
    found = (body["extra.channel_id"], body["extra.template_id"], line["class"])
    assert found == ("100", "Tchat", "private")
    ttl_s = int(body["time_to_live"]) / 1000
    screen = body["notify_id"]
    return {**_click(body["payload"]), "title": body["title"], "ttl_s": ttl_s, "screen": screen}


def oppo(line: dict[str, Any], push_id: str) -> dict[str, Any]:
    body = line["body"]["notification"]
    assert line["id"] == body["app_message_id"] == push_id
    assert (body["category"], body["notify_level"], line["class"]) == ("IM", 2, "private")
    return {
        **_click(body["action_parameters"]),
        "title": body["title"],
        "ttl_s": body["off_line_ttl"],
        "screen": body["notify_id"],
    }


def vivo(line: dict[str, Any], push_id: str) -> dict[str, Any]:
    del push_id  # requestId is one a request
    body = line["body"]
    assert (body["classification"], body["category"], line["class"]) == (1, "IM", "private")
    custom = body["clientCustomMap"]
    return {
        "ext": custom["ext"],
        "k": custom["k"],
        "title": body["title"],
        "ttl_s": body["timeToLive"],
        "screen": body["notifyId"],
    }


def meizu(line: dict[str, Any], push_id: str) -> dict[str, Any]:
    del push_id  # no field for it without receipts
    body = line["body"]
    assert body["noticeBarInfo"]["noticeMsgType"] == 1
    click = body["clickTypeInfo"]["parameters"]
    hours = body["pushTimeInfo"]["validTime"]
    assert hours == 1  # whole hours, rounded up
    title, screen = body["noticeBarInfo"]["title"], body["advanceInfo"]["notifyKey"]
    return {"ext": click["ext"], "k": click["k"], "title": title, "ttl_s": TTL_S, "screen": screen}


def _click(data: str) -> dict[str, Any]:
    click = json.loads(data)
    return {"ext": click["ext"], "k": click["k"]}


def _s(seconds: str) -> int:
    return int(seconds.removesuffix("s"))


WIRE: dict[str, Callable[[dict[str, Any], str], dict[str, Any]]] = {
    "apns": apns,
    "fcm": fcm,
    "huawei": huawei,
    "harmony": harmony,
    "honor": honor,
    "xiaomi": xiaomi,
    "oppo": oppo,
    "vivo": vivo,
    "meizu": meizu,
}


@pytest.mark.parametrize("vendor", VENDORS)
def test_an_accepted_push_has_the_contracts_wire_form(
    fleet: Core, lanes: Lanes, vendor: str
) -> None:
    app, _ = lanes
    user, address = person(fleet, app, vendor)
    data = {"ext": EXT, "payload": {"k": "v"}}
    push = {"data": data, "display": {"title": "张三"}, "ttl_s": TTL_S}
    rows = [send(fleet, app, user, push=push) for _ in range(2)]
    found = [(row["decision"], row["vendor"], row["class_sent"], row["downgraded"]) for row in rows]
    assert found == [("accepted", vendor, "chat", False)] * 2
    lines = received(fleet, vendor, address)
    pairs = zip(lines, rows, strict=True)
    told = [WIRE[vendor](line, row["push_id"].replace("-", "")) for line, row in pairs]
    for one in told:
        assert (one["ext"], one["k"], one["title"]) == (EXT, "v", "张三")
        assert TTL_S - 20 <= one["ttl_s"] <= TTL_S
    assert told[0]["screen"] != told[1]["screen"], "two messages must not overwrite each other"


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_dead_token_is_retired(fleet: Core, lanes: Lanes, vendor: str) -> None:
    app, _ = lanes
    user, address = person(fleet, app, vendor, "dead")
    row = send(fleet, app, user)
    assert row["decision"] == "token_dead"
    assert row["attempts"][-1]["code"]
    wait_for(lambda: _state(fleet, app, user) == "retired", "the device is retired")
    assert send(fleet, app, user)["decision"] == "no_device"
    assert not received(fleet, vendor, address)


def _state(fleet: Core, app: str, user: str) -> str:
    query = text('SELECT state FROM devices WHERE app = :app AND "user" = :user')
    with fleet.runtime.engine.connect() as connection:
        return str(connection.execute(query, {"app": app, "user": user}).scalar_one())


@pytest.mark.parametrize("vendor", VENDORS)
def test_what_fails_for_the_moment_is_tried_again_until_it_is_accepted(
    fleet: Core, lanes: Lanes, vendor: str
) -> None:
    app, _ = lanes
    user, address = person(fleet, app, vendor, "fail")
    row = send(fleet, app, user)
    assert row["decision"] == "accepted"
    # vivo wants other words first: Latin letters only are no formal title
    failures = [
        attempt for attempt in row["attempts"][:-1] if attempt["code"] not in ("10085", "10104")
    ]
    assert len(failures) == (1 if vendor == "apns" else 2)
    assert len(row["attempts"]) <= 4
    assert len(received(fleet, vendor, address)) == 1


def recall(
    fleet: Core, app: str, user: str, vendor: str, address: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A message with telling words is shown, then recalled: (the record's lines, the row) once the
    afterthought stands in the row.
    """
    elements = [{"type": "text", "text": "geheime Worte"}]
    data = operator.message(user, elements=elements, sender={"id": "u1", "nick": "Zacharias"})
    fleet.publish("message.stored", data, app=app)
    assert fleet.why(data["message_id"], app)["recipients"][0]["decision"] == "accepted"
    recall = {"message_id": data["message_id"], "conversation": data["conversation"]}
    fleet.publish("message.recalled", recall, app=app)
    row = row_of(
        fleet,
        app,
        data,
        lambda row: any("recall: accepted" in step["note"] for step in row["steps"]),
    )
    return received(fleet, vendor, address), row


def test_harmonyos_takes_back_what_was_shown_where_its_client_id_is_known(
    fleet: Core, lanes: Lanes
) -> None:
    app, accounts = lanes
    options = [*accounts["harmony"], "--app-id", "110088001"]
    good(
        fleet, "credential", "add", "harmony", "--app", app, "--business-id", "harmony-2", *options
    )
    user, address = person(fleet, app, "harmony", business_id="harmony-2")
    lines, _ = recall(fleet, app, user, "harmony", address)
    shown, taken = (one for one in lines)
    assert taken["kind"] == "revoke"
    assert taken["body"]["notifyId"] == shown["body"]["payload"]["notification"]["notifyId"]


# ---------------------------------------------------------------- a lane that is stopped

#: What makes a vendor refuse the account, and the option of `credential rotate` that cures it.
WRONG = {
    "huawei": ("--app-secret-file", "wrong-secret"),
    "honor": ("--app-secret-file", "wrong-secret"),
    "xiaomi": ("--app-secret-file", "wrong-secret"),
    "oppo": ("--app-key", "wrongAppKey0001"),
    "vivo": ("--app-key", "wrong00000000000000000000000000"),
    "meizu": ("--app-id", "999001"),
    "apns": ("--key-id", "WRONGKEY01"),
    "fcm": ("--service-account", "a key that its vendor does not have"),
    "harmony": ("--service-account", "a key that its vendor does not have"),
}
BY_KEY = ("fcm", "harmony")


def key_known(fleet: Core, vendor: str, options: list[str], folder: Path) -> list[str]:
    """The same account under a name of its own, whose public key the vendor knows: it takes no
    other key's signature from now on.
    """
    given = json.loads(Path(options[options.index("--service-account") + 1]).read_bytes())
    pem = public_pem(load_pem_private_key(given["private_key"].encode(), None))
    if vendor == "fcm":
        given["client_email"] = f"{uuid.uuid4().hex}@demo-im-project.iam.gserviceaccount.com"
        account = {"client_email": given["client_email"], "public_key_pem": pem}
        operator.simulator(fleet, vendor, "accounts", account)
    else:
        given["project_id"] = str(uuid.uuid4().int)[:12]
        operator.simulator(
            fleet, vendor, "accounts", {"account": given["project_id"], "public_key": pem}
        )
    (folder / f"right-{vendor}").write_text(json.dumps(given))
    return with_option(options, "--service-account", str(folder / f"right-{vendor}"))


def with_option(options: list[str], name: str, value: str) -> list[str]:
    at = options.index(name)
    return [*options[: at + 1], value, *options[at + 2 :]]


def spoilt(options: list[str], vendor: str, folder: Path) -> list[str]:
    name, wrong = WRONG[vendor]
    if vendor in BY_KEY:
        given = json.loads(Path(options[options.index(name) + 1]).read_bytes())
        wrong = str(folder / f"wrong-{vendor}")
        Path(wrong).write_text(
            json.dumps({**given, "private_key": pem_of(rsa.generate_private_key(65537, 2048))})
        )
    elif name.endswith("-file"):
        (folder / f"wrong-{vendor}").write_text(wrong)
        wrong = str(folder / f"wrong-{vendor}")
    return with_option(options, name, wrong)


def tenant_with_wrong(
    fleet: Core, accounts: dict[str, list[str]], wrong: list[str], folder: Path
) -> str:
    """A tenant with all nine accounts, of which some will be refused by their vendors."""
    app = operator.new_app(fleet)
    for vendor, options in accounts.items():
        given = spoilt(options, vendor, folder) if vendor in wrong else options
        good(
            fleet, "credential", "add", vendor, "--app", app, "--business-id", f"{vendor}-1", *given
        )
    return app


#: Three kinds of credential: a secret, and two signing keys.
THREE = ["huawei", *BY_KEY]
SIX = [vendor for vendor in WRONG if vendor not in THREE]


def _alarmed(fleet: Core, labels: dict[str, str]) -> bool:
    return metric(fleet, "pushfleet_lane_state", **labels) == 2


class Refused:
    """A tenant some of whose accounts their vendors refuse."""

    def __init__(
        self, fleet: Core, accounts: dict[str, list[str]], wrong: list[str], folder: Path
    ) -> None:
        folder.mkdir()
        self.fleet, self.wrong = fleet, wrong
        by_key = [vendor for vendor in wrong if vendor in BY_KEY]
        keyed = {vendor: key_known(fleet, vendor, accounts[vendor], folder) for vendor in by_key}
        self.accounts = {**accounts, **keyed}
        self.app = tenant_with_wrong(fleet, self.accounts, wrong, folder)
        self.people = {vendor: person(fleet, self.app, vendor) for vendor in VENDORS}
        self.held = {
            vendor: [operator.message(self.people[vendor][0]) for _ in range(3)] for vendor in wrong
        }

    def stops_its_own_lanes_only(self) -> None:
        fleet, app = self.fleet, self.app
        for messages in self.held.values():
            for index, data in enumerate(messages):
                fleet.publish("message.stored", data, app=app, ts=now_ms() + index)
        for data in itertools.chain(*self.held.values()):
            row = row_of(fleet, app, data, lambda row: row["steps"][-1]["stage"] == "delivery")
            assert row["decision"] is None
        rest = [vendor for vendor in VENDORS if vendor not in self.wrong]
        sent = [operator.message(self.people[vendor][0]) for vendor in rest for _ in range(5)]
        began = time.monotonic()
        for data in sent:
            fleet.publish("message.stored", data, app=app)
        assert {self.decision(data) for data in sent} == {"accepted"}
        assert time.monotonic() - began < SOON_S
        for vendor in self.wrong:
            why = operator.lane_state(fleet, app, vendor, f"{vendor}-1")[1]
            assert why == "credential_refused"
            assert not received(fleet, vendor, self.people[vendor][1])

    def rings(self) -> None:
        for vendor in self.wrong:
            labels = {"app": self.app, "vendor": vendor, "business_id": f"{vendor}-1"}
            wait_for(functools.partial(_alarmed, self.fleet, labels), f"{vendor}'s alarm")

    def cure(self) -> None:
        for vendor in self.wrong:
            name, options = WRONG[vendor][0], self.accounts[vendor]
            right = options[options.index(name) + 1]
            named = ("credential", "rotate", self.app, vendor, f"{vendor}-1")
            good(self.fleet, *named, name, right)

    def drains(self) -> None:
        for vendor, messages in self.held.items():
            decided = [self.decision(data) for data in messages]
            assert decided == ["folded", "folded", "accepted"], vendor
            assert len(received(self.fleet, vendor, self.people[vendor][1])) == 1
            state, _ = operator.lane_state(self.fleet, self.app, vendor, f"{vendor}-1")
            assert state == "flowing"
            assert operator.parked(self.fleet, self.app, vendor, f"{vendor}-1") == 0

    def decision(self, data: dict[str, Any]) -> str:
        return str(self.fleet.why(data["message_id"], self.app)["recipients"][0]["decision"])


def test_a_refused_account_stops_its_own_lane_only_and_drains_by_itself_when_cured(
    fleet: Core, lanes: Lanes, tmp_path: Path
) -> None:
    """Three at once at one tenant, six at another."""
    wrongs = enumerate((THREE, SIX))
    both = [Refused(fleet, lanes[1], wrong, tmp_path / str(number)) for number, wrong in wrongs]
    for one in both:
        one.stops_its_own_lanes_only()
    held_ms = now_ms()
    for one in both:
        one.rings()
    outage_lasts(held_ms)
    for one in both:
        one.cure()
    cured = time.monotonic()
    for one in both:
        one.drains()
    assert time.monotonic() - cured < SOON_S
