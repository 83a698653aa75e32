"""A call behind a campaign in the core's stream: it is taken before its turn, and nothing is lost
or doubled on the way.
"""

import json
import math
from collections import Counter
from typing import Any

import pytest

from common.ledger_records import EventRecord, NoteRecord
from common.storage import keys
from common.storage.streams import GROUP
from common.storage.tenants import Tenant
from tests.records import records_of
from workers.cli.worker import doors_of
from workers.handlers import intake, overtaking
from workers.handlers.intake import IntakeLoop
from workers.runtime import Runtime

APP = "overtaken"
#: Entries of one read here, a tenth of a fleet's, as are those of a look: what is behind many reads
#: and looks is as far away.
READ_COUNT = 200


@pytest.fixture(autouse=True)
def _tenant(runtime: Runtime) -> None:
    if APP not in runtime.tenants.all():
        runtime.tenants.add(Tenant(APP, "Overtaken", "en", "Asia/Shanghai"))


@pytest.fixture(autouse=True)
def _small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "READ_COUNT", READ_COUNT)
    monkeypatch.setattr(intake, "READ_EVENTS", READ_COUNT)
    monkeypatch.setattr(overtaking, "LOOK_ENTRIES", READ_COUNT // 2)
    # a busy machine waits longer for what is there, and would read the first entry alone
    monkeypatch.setattr(intake, "FLOW_S", 10.0)


class Core:
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.stream = runtime.settings.event_streams[0]

    def loop(self, calls_wait_s: float = 0.0) -> IntakeLoop:
        made = IntakeLoop([self.stream], doors_of(self.runtime))
        made.calls_wait_s = calls_wait_s
        made.once(block_ms=1)
        return made

    def read_all(self, loop: IntakeLoop) -> None:
        while loop.once(block_ms=1):
            pass

    def put(self, *events: dict[str, Any] | bytes, field: str = "e") -> list[str]:
        with self.runtime.core.pipeline(transaction=False) as pipe:
            for one in events:
                value = one if isinstance(one, bytes) else json.dumps(one).encode()
                pipe.xadd(self.stream, {field: value})
            return [entry.decode() for entry in pipe.execute()]

    def stored(self) -> list[str]:
        """Event ids in the order in which intake was done with them."""
        records = records_of(self.runtime.redis, self.runtime.keys.stream(keys.LEDGER))
        assert not [one for one in records if isinstance(one, NoteRecord)]
        return [one.event_id for one in records if isinstance(one, EventRecord)]


def message(event_id: str, kind: str = "c2c", **push: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "message_id": event_id,
        "conversation": {"type": kind, "id": "ann"},
        "sender": {"id": "ann"},
        "recipients": ["bob"],
    }
    data |= {"elements": [{"type": "text", "text": "hi"}], "push": push}
    return {"v": 1, "id": event_id, "type": "message.stored", "app": APP, "data": data}


def chat_of(event_id: str, text: str) -> dict[str, Any]:
    made = message(event_id)
    made["data"]["elements"] = [{"type": "text", "text": text}]
    return made


def advert(number: int) -> dict[str, Any]:
    return message(f"ad{number}", **{"class": "marketing"})


def call(event_id: str) -> dict[str, Any]:
    data = {"call_id": event_id, "inviter": {"id": "ann"}, "invitees": ["bob"], "timeout_s": 30}
    return {"v": 1, "id": event_id, "type": "call.invited", "app": APP, "data": data}


def ended(event_id: str, call_id: str) -> dict[str, Any]:
    data = {"call_id": call_id, "reason": "cancelled"}
    return {"v": 1, "id": event_id, "type": "call.ended", "app": APP, "data": data}


@pytest.fixture
def core(runtime: Runtime) -> Core:
    return Core(runtime)


def test_a_call_far_behind_what_was_looked_at_is_taken_chats_before_it_keep_their_order(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of thousands are between: a look takes longer than a call may wait."""
    monkeypatch.setattr(overtaking, "LOOK_S", 0.0)
    loop = core.loop()
    adverts = [advert(number) for number in range(4 * READ_COUNT)]
    core.put(*adverts[: 2 * READ_COUNT], message("chat1"), *adverts[2 * READ_COUNT :])
    core.put(message("chat2"), call("first"))
    loop.once(block_ms=1)
    assert core.stored()[READ_COUNT:] == ["first"]
    core.put(call("second"))
    loop.once(block_ms=1)
    assert [one for one in core.stored() if not one.startswith("ad")] == ["first", "second"]
    core.read_all(loop)
    found = core.stored()
    assert max(Counter(found).values()) == 1
    assert len(found) == len(adverts) + 4
    assert found.index("chat1") < found.index("chat2")
    assert not core.runtime.core.xlen(core.stream)


CALL_KINDS = ("call.invited", "call.ended")
#: Chats that speak of calls, in their text or in an object of their payload.
ABOUT_CALLS = [
    *(
        chat_of("chat2", text)
        for text in ('see "call.py"', '"call.invited"', json.dumps(call("x")))
    ),
    *(message("chat2", payload={"about": {"type": kind}, "type": kind}) for kind in CALL_KINDS),
]


@pytest.mark.parametrize("field", ["e", "b"], ids=["one event", "a packed entry"])
@pytest.mark.parametrize("chat", ABOUT_CALLS)
def test_a_chat_about_calls_does_not_overtake_earlier_ones(
    core: Core, chat: dict[str, Any], field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overtaking, "LOOK_S", 0.0)
    loop = core.loop()
    adverts = [advert(number) for number in range(4 * READ_COUNT)]
    core.put(*adverts[: 2 * READ_COUNT], message("chat1"), *adverts[2 * READ_COUNT :])
    core.put(chat, field=field)
    core.read_all(loop)
    assert [one for one in core.stored() if one.startswith("chat")] == ["chat1", "chat2"]


def test_a_text_that_names_a_groups_callback_does_not_keep_a_chat_behind_later_ones(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overtaking, "LOOK_S", 10.0)
    loop = core.loop()
    core.put(*(advert(number) for number in range(3 * READ_COUNT)))
    core.put(chat_of("chat1", '"Group.CallbackAfterSendMsg"'), message("chat2"))
    core.read_all(loop)
    assert [one for one in core.stored() if one.startswith("chat")] == ["chat1", "chat2"]


@pytest.mark.parametrize("field", ["e", "b"], ids=["one event", "a packed entry"])
def test_a_calls_end_does_not_overtake_its_invitation(
    core: Core, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overtaking, "LOOK_S", 0.0)
    monkeypatch.setattr(overtaking, "LOOK_ENTRIES", READ_COUNT)
    loop = core.loop()
    adverts = [advert(number) for number in range(6 * READ_COUNT)]
    core.put(*adverts[: 4 * READ_COUNT], call("invited"), *adverts[4 * READ_COUNT :])
    core.put(ended("ended", "invited"), field=field)
    core.read_all(loop)
    assert [one for one in core.stored() if not one.startswith("ad")] == ["invited", "ended"]


@pytest.mark.parametrize(
    ("late", "overtakes"),
    [
        (call("late"), True),
        (message("late"), True),
        (message("late", kind="group"), False),
        (message("late", **{"class": "news"}), False),
        (
            json.dumps(message("late", **{"class": "content"}), separators=(",", ":")).encode(),
            False,
        ),
        (json.dumps(call("late"), indent=2).encode(), True),
    ],
    ids=["call", "chat", "group", "public", "public, packed JSON", "call, indented JSON"],
)
def test_what_people_wait_for_does_not_wait_behind_a_campaign(
    core: Core, late: Any, overtakes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overtaking, "LOOK_S", 10.0)  # a busy machine needs longer for two looks
    loop = core.loop()
    adverts = [advert(number) for number in range(3 * READ_COUNT)]
    core.put(*adverts, late)
    loop.once(block_ms=1)
    assert ("late" in core.stored()) is overtakes
    core.read_all(loop)
    assert not core.runtime.core.xlen(core.stream)
    assert Counter(core.stored()) == Counter([*(one["id"] for one in adverts), "late"])


def test_calls_of_a_packed_entry_are_not_left_behind(core: Core) -> None:
    loop = core.loop()
    core.put(*(advert(number) for number in range(2 * READ_COUNT)))
    core.put(
        b"\n".join(json.dumps(one).encode() for one in (advert(9_000), call("late"))), field="b"
    )
    loop.once(block_ms=1)
    assert "late" in core.stored()


def test_chats_alone_keep_their_order(core: Core) -> None:
    loop = core.loop()
    chats = [message(f"c{number}") for number in range(2 * READ_COUNT)]
    core.put(*chats)
    loop.once(block_ms=1)
    assert core.stored() == [one["id"] for one in chats[:READ_COUNT]]


def test_the_read_behind_a_wait_is_small(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst's first pushes leave while the rest is read."""
    first = READ_COUNT // 4
    monkeypatch.setattr(intake, "FIRST_EVENTS", first)
    loop, chats = core.loop(), [message(f"s{number}") for number in range(2 * READ_COUNT)]
    for again in range(2):
        core.put(*chats[again * READ_COUNT : (again + 1) * READ_COUNT])
        assert [loop.once(block_ms=1) for _ in range(3)] == [first, READ_COUNT - first, 0]
    assert core.stored() == [one["id"] for one in chats]


# ---------------------------------------------------------------- behind chats


def leaves(user: str) -> dict[str, Any]:
    data = {"user": user, "device_id": "phone"}
    return {"v": 1, "id": f"out-{user}", "type": "device.unregistered", "app": APP, "data": data}


def chats(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [message(f"chat{number}") for number in range(first, first + count)]


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine needs longer for two looks."""
    monkeypatch.setattr(overtaking, "CALLS_LOOK_S", 10.0)


@pytest.mark.usefixtures("_patient")
def test_a_call_behind_unread_chats_is_taken_with_what_says_whom_it_reaches(core: Core) -> None:
    loop = core.loop()
    core.put(*chats(3 * READ_COUNT))
    (left,) = core.put(leaves("bob"))
    core.put(chat_of("about", json.dumps(leaves("carl"))), *chats(3 * READ_COUNT, 5_000))
    core.put(call("first"), ended("over", "first"), *chats(READ_COUNT // 4, 8_000), call("second"))
    loop.once(block_ms=1)
    assert {one for one in core.stored() if not one.startswith("chat")} == {
        *("first", "over", "second")
    }
    entries: Any = core.runtime.core.xrange(core.stream)
    assert left not in {entry.decode() for entry, _ in entries}
    core.read_all(loop)
    found = core.stored()
    assert max(Counter(found).values()) == 1
    seen = [one for one in found if one.startswith(("chat", "about"))]
    expected = [*chats(3 * READ_COUNT), message("about"), *chats(3 * READ_COUNT, 5_000)]
    expected += chats(READ_COUNT // 4, 8_000)
    assert seen == [one["id"] for one in expected]
    assert not core.runtime.core.xlen(core.stream)


#: Entries that no call passes before they are read: what they hold is not told apart.
BARRIERS: dict[str, dict[Any, Any]] = {
    "people's events among others in one entry": {
        "b": b"\n".join(json.dumps(one).encode() for one in (message("in-b"), leaves("bob")))
    },
    "another dialect": {"e": b'{"CallbackCommand":"State.StateChange"}', "d": "tencent"},
}


@pytest.mark.usefixtures("_patient")
def test_a_long_chat_about_settings_keeps_its_turn(core: Core) -> None:
    loop = core.loop()
    long = chat_of("long", 'see "settings.updated" ' + "x" * 70_000)
    core.put(*chats(2 * READ_COUNT), long, *chats(2 * READ_COUNT, 5_000), call("late"))
    loop.once(block_ms=1)
    assert "late" in core.stored()
    assert "long" not in core.stored()


@pytest.mark.usefixtures("_patient")
def test_a_persons_long_settings_are_taken_before_a_call_behind_them(core: Core) -> None:
    loop = core.loop()
    data = {"user": "bob", "blocked": [f"somebody{number}" for number in range(7_000)]}
    core.put(*chats(2 * READ_COUNT))
    settings = {"v": 1, "id": "much", "type": "settings.updated", "app": APP, "data": data}
    (entry,) = core.put(settings)
    core.put(*chats(2 * READ_COUNT, 5_000), call("late"))
    loop.once(block_ms=1)
    assert "late" in core.stored()
    entries: Any = core.runtime.core.xrange(core.stream, entry, entry)
    assert not entries


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize("barrier", BARRIERS.values(), ids=BARRIERS)
def test_what_may_say_whom_a_call_reaches_and_is_not_told_apart_is_not_passed(
    core: Core, barrier: dict[Any, Any]
) -> None:
    loop = core.loop()
    core.put(*chats(2 * READ_COUNT))
    core.runtime.core.xadd(core.stream, barrier)
    core.put(*chats(2 * READ_COUNT, 5_000), call("late"))
    loop.once(block_ms=1)
    assert "late" not in core.stored()
    core.read_all(loop)
    assert core.stored().count("late") == 1
    assert not core.runtime.core.xlen(core.stream)


def test_a_call_that_a_look_does_not_reach_is_looked_for_in_the_next_turn(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = core.loop()
    monkeypatch.setattr(overtaking, "CALLS_LOOK_S", 0.0)
    core.put(*chats(6 * READ_COUNT), call("late"))
    loop.once(block_ms=1)
    assert "late" not in core.stored()
    monkeypatch.setattr(overtaking, "CALLS_LOOK_S", 10.0)
    loop.once(block_ms=1)
    assert core.stored().index("late") == 2 * READ_COUNT


def test_without_a_call_nothing_is_looked_through(core: Core) -> None:
    loop = core.loop()
    core.put(*chats(3 * READ_COUNT), leaves("bob"), *chats(3 * READ_COUNT, 5_000))
    loop.once(block_ms=1)
    assert set(loop._overtaking._to_calls.values()) == {"0-0"}


def test_behind_a_short_burst_of_chats_nobody_looks_for_a_call(core: Core) -> None:
    loop = core.loop(calls_wait_s=60.0)
    core.put(*chats(5 * READ_COUNT), call("late"))
    loop.once(block_ms=1)
    loop.once(block_ms=1)
    assert "late" not in core.stored()
    assert set(loop._overtaking._newest.values()) == {"0-0"}
    loop.calls_wait_s = 0.0
    loop.once(block_ms=1)
    assert "late" in core.stored()
    assert core.stored().index("late") == 3 * READ_COUNT
    core.read_all(loop)
    assert loop._full_from == math.inf


def test_what_another_reader_has_taken_before_its_turn_is_left_to_it(core: Core) -> None:
    loop = core.loop()
    core.put(*(advert(number) for number in range(2 * READ_COUNT)))
    (entry,) = core.put(call("late"))
    core.runtime.core.xclaim(core.stream, GROUP, "another", 0, [entry], force=True, justid=True)
    loop.once(block_ms=1)
    assert "late" not in core.stored()


def test_what_was_looked_at_is_not_looked_at_again(core: Core) -> None:
    loop = core.loop()
    core.put(*(advert(number) for number in range(3 * READ_COUNT)))
    loop.once(block_ms=1)
    first = dict(loop._overtaking._looked)
    core.put(call("late"))
    loop.once(block_ms=1)
    assert "late" in core.stored()
    assert loop._overtaking._looked != first


@pytest.mark.usefixtures("_patient")
def test_a_call_in_the_middle_of_a_burst_is_found_whatever_came_behind_it(core: Core) -> None:
    loop = core.loop()
    core.put(*chats(2 * READ_COUNT), call("first"), *chats(3 * READ_COUNT, 5_000))
    loop.once(block_ms=1)
    assert "first" in core.stored()
    core.put(*chats(READ_COUNT, 7_000), call("second"), *chats(2 * READ_COUNT, 8_000))
    loop.once(block_ms=1)
    assert "second" in core.stored()
    core.read_all(loop)
    assert max(Counter(core.stored()).values()) == 1
