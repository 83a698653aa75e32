"""Invitations and ends of one call in one read, all of one time: the stream's order tells."""

import pytest

from common.call_times import ended_ms, invited_ms
from workers.intake.calls import in_order
from workers.intake.events import Ended, Event, Invited

NOW = 1_796_000_000_123


@pytest.mark.parametrize("words", ["end in", "in end in", "end in end", "end in end in", "in end"])
@pytest.mark.parametrize("packed", [True, False])
def test_an_end_ends_what_stands_before_it_and_nothing_behind(words: str, packed: bool) -> None:
    data = {
        "in": Invited("c", "ann", ("bob",), 60),  # type: ignore[arg-type]
        "end": Ended("c"),
    }
    events = [
        Event("a", str(n), word, NOW, NOW, f"s/{NOW}-{f'0#{n}' if packed else n}", data[word])
        for n, word in enumerate(words.split())
    ]
    ordered = in_order(events, lambda _calls: {})
    assert [one.id for one in ordered] == [one.id for one in events]
    ends = [(n, ended_ms(e.ts_ms, e.received_ms)) for n, e in enumerate(ordered) if e.type == "end"]
    for n, event in enumerate(ordered):
        if event.type == "in":
            over = any(invited_ms(event.ts_ms, event.received_ms) <= at for _, at in ends)
            assert over == any(place > n for place, _ in ends), words


def test_an_end_that_is_told_late_ends_no_newer_invitation() -> None:
    invited = Event("a", "1", "in", NOW, NOW, f"s/{NOW}-0", Invited("c", "ann", ("bob",), 60))  # type: ignore[arg-type]
    ended = Event("a", "2", "end", NOW - 5_000, NOW, f"s/{NOW}-1", Ended("c"))
    assert in_order([invited, ended], lambda _calls: {}) == [invited, ended]
