"""An entry that can't be read is a dead letter that says why, and whose."""

from __future__ import annotations

import json

import pytest

from workers.intake.stage import Refused, read_entry

EVENT = {"v": 1, "id": "e-1", "type": "message.read", "app": "a", "ts": 1, "data": {"user": "u"}}
REFUSED = {
    "an unknown type": ({"type": "message.nothing"}, "unknown_type", "a"),
    "a wrong shape": ({"data": {"user": 7}}, "wrong_shape", "a"),
    "a wrong envelope": ({"ts": "now"}, "wrong_shape", "a"),
    "an unknown tenant": (
        {"app": "b", "data": {"user": "u", "conversation": {"type": "c2c", "id": "c"}, "up_to_ms": 1}},
        "unknown_app",
        "b",
    ),
    "no tenant": ({"app": None}, "no_app", None),
    "a tenant of another kind": ({"app": 5}, "wrong_shape", None),
}


@pytest.mark.parametrize(("changes", "reason", "app"), REFUSED.values(), ids=REFUSED)
def test_a_dead_letter_of_a_native_event_is_its_tenants(changes, reason, app):
    read = read_entry("im:events", "1-0", {b"e": json.dumps({**EVENT, **changes}).encode()}, ["a"], 1)
    assert isinstance(read, Refused)
    assert (read.reason.partition(":")[0], read.app) == (reason, app)
    assert read.type == ("unknown" if reason == "unknown_type" else {**EVENT, **changes}["type"])


def test_what_a_dialect_refuses_names_its_reason_once():
    read = read_entry("im:events", "1-0", {b"e": b"{}", b"d": b"tencent", b"app": b"a"}, ["a"], 1)
    assert isinstance(read, Refused)
    assert read.reason == "no_command: CallbackCommand is in neither body nor query"
