"""The table of event types: one row says all that the fleet knows of a type."""

import json
from typing import Any

import msgspec
import pytest

from common.model import PUSHED_EVENTS
from common.storage.shards import shard_of
from workers.cli.contract import json_schema
from workers.cli.why import as_words
from workers.handlers.joint_intake import shard_of_event
from workers.intake import checks, event_types
from workers.intake.decoding import Passed, Refused, read_entry
from workers.intake.effects import Effect
from workers.intake.event_types import TYPES, EventType, Way, effect_of

NOW_MS = 1_763_787_600_000


class Renamed(msgspec.Struct, frozen=True):
    user: str
    name: str


INVENTED = EventType(
    Renamed,
    effect=Effect(sets=lambda event, _names: {"name": event.data.name}),
    fault=lambda data: checks.of_state(data) or ("wrong_shape: no name" if not data.name else None),
    trace="the new name stands in the next push",
)


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(event_types.TYPES, "profile.renamed", INVENTED)  # type: ignore[arg-type]


def read(**data: Any) -> Passed | Refused:
    event = {"id": "e1", "type": "profile.renamed", "app": "demo", "ts": NOW_MS, "data": data}
    raw = json.dumps(event).encode()
    return read_entry("im:events", f"{NOW_MS}-0", {b"e": raw}, ["demo"], NOW_MS)


def test_a_new_type_is_decoded_checked_sharded_and_documented_by_its_row_alone():
    passed = read(user="ann", name="Anna")
    assert isinstance(passed, Passed)
    (event,) = passed.events
    sets = effect_of(event).sets
    assert sets is not None
    assert sets(event, {}) == {"name": "Anna"}
    assert effect_of(event).is_of_a_person
    assert shard_of_event(event, 4) == shard_of(4, "demo", "ann")
    assert "ProfileRenamedEvent" in json_schema()["$defs"]


def test_a_new_types_own_fault_is_a_dead_letters_reason():
    refused = read(user="ann", name="")
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.type) == ("wrong_shape: no name", "profile.renamed")


def test_why_says_what_the_row_says_of_an_event_without_recipients():
    trace = {"type": "profile.renamed", "message_id": "", "app": "demo", "event_id": "e1"}
    told = as_words({**trace, "received_ms": NOW_MS, "decision": None, "recipients": []})
    assert told.endswith("the new name stands in the next push")


def test_the_rows_that_push_are_those_that_the_ledger_counts():
    assert {name for name, row in TYPES.items() if row.way is not Way.STATE} == PUSHED_EVENTS


@pytest.mark.parametrize("name", sorted(TYPES))
def test_each_row_has_one_handler(name: str):
    row = TYPES[name]
    assert (row.effect != Effect()) == (row.way is Way.STATE)
    assert (row.take is not event_types.EventType.take) == (row.way is not Way.STATE)
