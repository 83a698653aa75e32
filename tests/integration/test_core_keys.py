"""What the core keeps in Redis for us (presence, members, friends) as we read it, also where it is
not what it should be.
"""

import json
import time

import pytest

from common.contracts import Sender, encode
from common.storage import keys
from common.storage.presence import LOOK_MAX
from tests.builders import stored_message
from workers.app import PRESENCE
from workers.pipeline import Stages
from workers.runtime import Runtime


def _key(runtime: Runtime, kind: str, name: str) -> str:
    return f"{runtime.settings.key_prefix}{kind}:{{demo:{name}}}"


FIELDS = {
    "three parts": ("foreground|ios|{later}", 1, 0),
    "since": ("background|web|{later}|{now}", 1, 0),
    "over, by the server's clock": ("foreground|ios|{now}", 0, 0),
    "no number": ("foreground|ios|soon", 0, 1),
    "a number that no gateway writes": ("foreground|ios|+{later}", 0, 1),
    "a number with marks": ("foreground|ios|1_000", 0, 1),
    "an empty since": ("foreground|ios|{later}|", 0, 1),
    "one part more": ("foreground|ios|{later}|1|2", 0, 1),
    "a state of its own": ("Foreground|ios|{later}", 0, 1),
    "a platform of its own": ("foreground|watch|{later}", 0, 1),
    "nothing": ("", 0, 1),
    "no text": (b"\xff|ios|1", 0, 1),
    "a number without end": ("foreground|ios|" + "9" * 5000, 0, 1),
}


@pytest.mark.parametrize(("value", "live", "malformed"), FIELDS.values(), ids=FIELDS)
def test_a_field_of_presence_is_a_session_or_malformed(
    runtime: Runtime, value: str | bytes, live: int, malformed: int
) -> None:
    now = int(time.time() * 1000)
    if isinstance(value, str):
        value = value.replace("{now}", str(now)).replace("{later}", str(now + 60_000))
    runtime.core.hset(_key(runtime, "presence", "bob"), "phone", value)
    ((sessions,), count) = runtime.presence.sessions([("demo", "bob")])
    assert sessions is not None
    assert (len(sessions), count) == (live, malformed)


def test_one_key_that_is_no_hash_costs_nobody_else_their_presence(runtime: Runtime) -> None:
    runtime.core.set(_key(runtime, "presence", "bob"), "foreground")
    key = _key(runtime, "presence", "eve")
    runtime.core.hset(key, "phone", f"foreground|ios|{int(time.time() * 1000) + 60_000}")
    sessions, malformed = runtime.presence.sessions(
        [("demo", "bob"), ("demo", "eve"), ("demo", "nobody")]
    )
    assert ([None if one is None else len(one) for one in sessions], malformed) == ([0, 1, 0], 1)


def test_thousands_are_looked_up_in_their_order(runtime: Runtime) -> None:
    last = LOOK_MAX + 10
    key = _key(runtime, "presence", f"u{last}")
    runtime.core.hset(key, "phone", f"foreground|ios|{int(time.time() * 1000) + 60_000}")
    sessions, _ = runtime.presence.sessions([("demo", f"u{number}") for number in range(last + 1)])
    assert [number for number, each in enumerate(sessions) if each] == [last]


def test_a_key_of_friends_that_is_no_set_holds_nobody(runtime: Runtime) -> None:
    runtime.core.set(_key(runtime, "friends", "bob"), "ann")
    runtime.core.sadd(_key(runtime, "friends", "eve"), "ann")
    assert runtime.members.friends("demo", ["bob", "eve", "nobody"], "ann") == {"eve"}


def test_a_member_whom_no_event_can_name_is_passed_over(runtime: Runtime) -> None:
    runtime.core.sadd(_key(runtime, "members", "g"), "eve", b"b\0b", b"\xff")
    page = runtime.members.page("demo", "g", 0, None, 500)
    names, cursor = page.users, page.cursor
    assert (sorted(names), cursor) == (["eve", "\ufffd"], 0)
    assert runtime.devices.of_users("demo", names) == {}


def test_a_group_whose_members_are_no_set_is_a_dead_letter_and_holds_nobody_up(
    runtime: Runtime,
) -> None:
    runtime.core.set(_key(runtime, "members", "broken"), json.dumps(["bob"]))
    runtime.core.sadd(_key(runtime, "members", "sound"), "eve")
    now = int(time.time() * 1000)
    messages = [
        stored_message(
            f"group:{group}", now, event_id=group, message_id=group, sender=Sender(id="eve")
        )
        for group in ("broken", "sound")
    ]
    runtime.streams.hand_on((), [(keys.PRESENCE, encode(messages))])
    drain = Stages(runtime).consumer(PRESENCE)
    for _ in range(3):
        drain(lambda: False)
    assert runtime.streams.backlog([keys.PRESENCE])[keys.PRESENCE].pending == 0
    blobs = b"".join(entry.blob for entry in runtime.streams.read([keys.LEDGER], 10))
    assert b"broke_stage: NoSetError" in blobs
    assert b"sender" in blobs
