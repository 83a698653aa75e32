"""Two tenants whose people, devices, tokens, messages, calls and events have the same names: what
one is told is nothing to the other.
"""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Core, now_ms
from tests.e2e.house import House

pytestmark = [pytest.mark.e2e]


@pytest.fixture(scope="module")
def twins(fleet: Core, tmp_path_factory: pytest.TempPathFactory) -> list[House]:
    return [House(fleet, Path(tmp_path_factory.mktemp("twins"))) for _ in range(2)]


def decided(twins: list[House], data: dict[str, Any], event_id: str) -> list[str]:
    """The only row's decision at each, of one event under one id."""
    for house in twins:
        house.event("message.stored", data, event_id=event_id)
    return [house.decision(data["message_id"]) for house in twins]


def test_nothing_that_one_is_told_changes_the_other(twins: list[House]) -> None:
    one, other = twins
    ann, bob = one.people()
    token = one.register(bob)
    other.register(bob, token=token)
    same = uuid.uuid4().hex

    first, queued = (one.message(ann, bob, message_id=f"m{number}-{same}") for number in (1, 2))
    assert decided(twins, first, f"e1-{same}") == ["accepted", "accepted"]
    assert len({push["id"] for push in one.pushes(token)}) == 2
    names = {"message_id": first["message_id"], "conversation": first["conversation"]}
    one.event("message.recalled", names)
    assert one.step(first["message_id"], bob, "recall: accepted")
    assert [note for note in other.steps(first["message_id"], bob) if "recall" in note] == []

    with one.paused() as lane, other.paused() as others:
        for house, stopped in zip(twins, (lane, others), strict=True):
            house.register(bob, token=token, business_id=stopped)
            house.event("message.stored", queued, event_id=f"e2-{same}")
            house.waiting(queued["message_id"])
        read = {"user": bob, "conversation": queued["conversation"], "up_to_ms": now_ms()}
        other.event("message.read", read)
    found = [house.decision(queued["message_id"]) for house in twins]
    assert found == ["accepted", "read_elsewhere"]


def test_what_one_twin_tells_of_a_person_holds_for_that_one_only(twins: list[House]) -> None:
    one, other = twins
    ann, bob = one.people()
    token = one.register(bob)
    other.register(bob, token=token)

    def decisions() -> list[str]:
        same = uuid.uuid4().hex
        return decided(twins, one.message(ann, bob, message_id=f"m-{same}"), f"e-{same}")

    one.event("settings.updated", {"user": bob, "blocked": [ann]})
    assert decisions() == ["blocked", "accepted"]
    other.event("app.foreground", {"user": bob, "device_id": "phone"})
    other.core.presence(other.app, bob, "phone", "foreground")
    one.event("settings.updated", {"user": bob, "blocked": None})
    assert decisions() == ["accepted", "online"]
    one.event("session.logout", {"user": bob, "device_id": "phone"})
    other.core.presence(other.app, bob, "phone", "background")
    assert decisions() == ["no_device", "accepted"]
    badges = [push["body"]["aps"].get("badge") for push in one.pushes(token)]
    assert badges[-1] == 1, json.dumps(badges)  # counted since it was in front


def test_an_end_of_one_twins_call_lets_the_others_ring(twins: list[House]) -> None:
    one, other = twins
    ann, bob = one.people()
    token = one.register(bob)
    other.register(bob, token=token)
    call: dict[str, Any] = {
        "call_id": "c" + uuid.uuid4().hex,
        "inviter": {"id": ann, "nick": "Ann"},
        "invitees": [bob],
        "timeout_s": 60,
    }
    at = now_ms()
    one.event("call.ended", {"call_id": call["call_id"], "reason": "cancelled"}, ts=at)
    for house in twins:
        house.event("call.invited", call, ts=at - 500)
    assert [house.decision(call["call_id"]) for house in twins] == ["call_ended", "accepted"]
    assert len(one.pushes(token)) == 1
