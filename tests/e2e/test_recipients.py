"""Whom a message reaches: late registrations, lists with repeats and exceptions, clocks that run
ahead, large groups.
"""

import json
import time
import uuid
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from common.clock import day_of
from tests.builders import device_of
from tests.e2e.house import House, now_ms, wait_for
from tests.e2e.tenant import device_token

pytestmark = [pytest.mark.e2e]

GROUP, DEVICES = 2_000, 150
#: As many as fit into an entry of 256 KiB.
LIST = 20_000


def rows(house: House, event_id: str, ts: int) -> list[Any]:
    event = {"day": day_of(ts), "app": house.app, "event_id": event_id}
    return [SimpleNamespace(**row) for row in house.core.runtime.ledger.rows(event)]


def group_message(house: House, sender: str, group: str, **more: Any) -> dict[str, Any]:
    data = house.message(
        sender, "", conversation={"type": "group", "id": group, "name": "G"}, **more
    )
    if "recipients" not in more:
        del data["recipients"]
    return data


def test_a_device_that_registers_just_after_the_message_is_found_by_the_second_look(
    house: House,
) -> None:
    for _ in range(5):  # a machine that stands still registers it after the second look
        a, b, c = house.people(3)
        data = group_message(house, a, "late", recipients=[b, c])
        house.core.publish("message.stored", data, app=house.app)
        time.sleep(0.1)
        token = house.register(b)
        found = house.decisions(data["message_id"], 2)
        if found[b] == "accepted":
            break
    assert found == {b: "accepted", c: "no_device"}
    assert len(house.pushes(token)) == 1


@pytest.mark.parametrize("more", [{}, {"recipients": []}, {"exclude": ["only"]}], ids=str)
def test_a_message_to_a_group_without_members_is_decided(
    house: House, more: dict[str, Any]
) -> None:
    (a,) = house.people(1)
    group = "empty" + uuid.uuid4().hex[:6]
    if "exclude" in more:
        house.core.redis.sadd(f"im:members:{{{house.app}:{group}}}", "only")
    data = group_message(house, a, group, **more)
    house.event("message.stored", data)
    told = house.why(data["message_id"], 0)
    wait_for(lambda: house.why(data["message_id"], 0)["decision"] == "no_device", "it is decided")
    assert told["recipients"] == []


def test_why_tells_of_the_dead_letter_of_a_message_that_broke_a_stage(house: House) -> None:
    group, name = "g" + uuid.uuid4().hex[:8], uuid.uuid4().hex
    house.core.redis.set(f"im:members:{{{house.app}:{group}}}", "no set")
    conversation = {"type": "group", "id": group}
    data = {**house.message("ann", "bob", message_id=name), "conversation": conversation}
    data.pop("recipients")
    house.event("message.stored", data)

    def letters() -> list[dict[str, Any]]:
        code, out, _ = house.command("why", name, "--app", house.app, "--json")
        return json.loads(out).get("dead_letters", []) if code == 0 else []

    (letter,) = wait_for(letters, "its dead letter")
    assert (letter["stage"], letter["reason"]) == ("presence", "broke_stage: NoSetError")
    assert letter["id"] in house.command("why", name, "--app", house.app)[1]


def test_repeats_count_once_and_the_excluded_have_no_row(house: House) -> None:
    a, b, c, d = house.people(4)
    tokens = {user: house.register(user) for user in (b, c, d)}
    data = group_message(house, a, "list", recipients=[b, c, b, d, b], exclude=[d, "nobody"])
    house.event("message.stored", data)
    assert house.decisions(data["message_id"], 2) == {b: "accepted", c: "accepted"}
    assert [len(house.pushes(tokens[user])) for user in (b, c, d)] == [1, 1, 0]


def test_a_mention_of_all_reaches_those_who_muted_all_but_mentions(house: House) -> None:
    a, b, c = house.people(3)
    for user, mode in ((b, "mention"), (c, "all")):
        house.register(user)
        mute = {"conversation": {"type": "group", "id": "loud"}, "mode": mode}
        house.event("settings.updated", {"user": user, "mute": mute})
    plain, everybody = (
        group_message(house, a, "loud", recipients=[b, c], mentions=who) for who in ([], ["@all"])
    )
    for data in (plain, everybody):
        house.event("message.stored", data)
    assert house.decisions(plain["message_id"], 2) == {b: "muted", c: "muted"}
    assert house.decisions(everybody["message_id"], 2) == {b: "accepted", c: "muted"}


def test_a_clock_that_runs_far_ahead_counts_as_now(house: House) -> None:
    a, b, c = house.people(3)
    tokens = [house.register(user) for user in (b, c)]
    for user, ahead_s in ((b, 360), (c, 240)):
        house.send(house.message(a, user, push={"ttl_s": 600}), ts=now_ms() + ahead_s * 1000)
    now, ahead = (house.push(token)["expiration"] - time.time() for token in tokens)
    assert 560 < now <= 600
    assert 800 < ahead <= 840


def test_every_member_of_a_large_group_has_one_row_and_one_push(house: House) -> None:
    """Its set grows and shrinks while it is read, which makes SSCAN name members twice."""
    sender, group = house.people(1)[0], "big" + uuid.uuid4().hex[:6]
    members = [f"{sender}-{index:04d}" for index in range(GROUP)]
    tokens = {}
    for user in members[:DEVICES]:
        tokens[user] = device_token("apns")
        device = device_of(user, business_id="apns-1", token=tokens[user])
        house.core.publish("device.registered", device, app=house.app)
    house.core.settled()
    key = f"im:members:{{{house.app}:{group}}}"
    house.core.redis.sadd(key, sender, *members)
    data = group_message(house, sender, group)
    ts = now_ms()
    event_id = house.core.publish("message.stored", data, app=house.app, ts=ts)
    joined = [f"{sender}-late-{index:05d}" for index in range(6_000)]
    for start in range(0, len(joined), 500):
        house.core.redis.sadd(key, *joined[start : start + 500])
    house.core.redis.srem(key, *joined)
    wait_for(
        lambda: (
            {sender, *members} <= {row.user for row in rows(house, event_id, ts) if row.decision}
        ),
        "a row for every member",
    )
    found = Counter((row.user, row.device) for row in rows(house, event_id, ts))
    assert [who for who, count in found.items() if count != 1] == []
    decided = {row.user: row.decision for row in rows(house, event_id, ts)}
    seen = Counter(decided[user] for user in members)
    assert seen == {"accepted": DEVICES, "no_device": GROUP - DEVICES}
    assert decided[sender] == "sender"
    lines = house.core.record("apns")
    pushed = Counter(line["token"] for line in lines if line["collapse_id"] == data["message_id"])
    assert pushed == dict.fromkeys(tokens.values(), 1)


def test_a_list_of_twenty_thousand_recipients_has_a_row_for_each(house: House) -> None:
    sender, start = house.people(1)[0], uuid.uuid4().hex[:3]
    recipients = [f"{start}{index:05d}" for index in range(LIST)]
    data = group_message(house, sender, "list", recipients=recipients)
    assert len(json.dumps(data)) < 256 * 1024
    tokens = [house.register(recipients[index]) for index in (0, LIST // 2, LIST - 1)]
    ts = now_ms()
    event_id = house.event("message.stored", data, ts=ts)

    def count() -> bool:
        found = rows(house, event_id, ts)
        return (len(found), len({row.user for row in found})) == (LIST, LIST)

    wait_for(count, "20,000 rows", 60)
    wait_for(
        lambda: (
            Counter(row.decision for row in rows(house, event_id, ts))
            == {"no_device": LIST - 3, "accepted": 3}
        ),
        "decisions",
    )
    assert [len(house.pushes(token)) for token in tokens] == [1, 1, 1]
