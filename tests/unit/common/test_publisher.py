"""The file that a Python core may copy: what it imports, what it refuses unasked, and how events
share an entry.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import common.publisher as module
from common.publisher import EVENT_BYTES_MAX, EVENTS_MAX, Publisher


def test_it_can_be_copied() -> None:
    lines = Path(module.__file__).read_text().splitlines()
    modules = {
        line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))
    }
    assert modules - sys.stdlib_module_names == {"redis"}


@pytest.mark.parametrize(
    "event", [{"a": float("nan")}, {"a": b"x"}, {"a": "\ud800"}, {"a": "x" * EVENT_BYTES_MAX}]
)
def test_what_would_be_a_dead_letter_is_refused_before_a_server_is_asked(
    event: Mapping[str, object],
) -> None:
    publisher = Publisher("unix:///nobody/is/here.sock")
    with pytest.raises(ValueError, match="the event"):
        publisher.publish(event)
    with pytest.raises(ValueError, match="the event"):
        publisher.publish_many([{"id": "good"}, event])
    with pytest.raises(ValueError, match="the callback"):
        publisher.publish_callback(b"x" * (EVENT_BYTES_MAX + 1), "tencent")
    publisher.close()


@pytest.mark.parametrize(
    ("sizes", "entries"),
    [
        ([], []),
        ([20], [1]),
        ([20] * (EVENTS_MAX + 1), [EVENTS_MAX, 1]),
        ([EVENT_BYTES_MAX] * 2, [1, 1]),
        ([EVENT_BYTES_MAX // 2 - 1] * 3, [2, 1]),
    ],
    ids=["none", "one", "more than an entry holds", "as large as may be", "two fill an entry"],
)
def test_events_share_an_entry_in_order_and_within_its_bounds(
    sizes: list[int], entries: list[int]
) -> None:
    empty = len(module._encoded({"id": 100, "x": ""}))
    events = [{"id": 100 + n, "x": "x" * (size - empty)} for n, size in enumerate(sizes)]
    packs = list(module._packs([module._encoded(event) for event in events]))
    assert [len(pack) for pack in packs] == entries
    fields = [module._fields(pack) for pack in packs]
    assert all(len(value) <= EVENT_BYTES_MAX for one in fields for value in one.values())
    lines = [line for one in fields for value in one.values() for line in value.split(b"\n")]
    assert [json.loads(line) for line in lines] == events
    assert [set(one) for one in fields] == [{"e"} if n == 1 else {"b"} for n in entries]
