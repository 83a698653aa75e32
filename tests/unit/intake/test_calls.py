"""Invitations and ends of one call in one read, all of one time: the stream's order tells."""

from collections.abc import Sequence

import pytest

from common.call_times import End, end_at, ended_ms, invited_ms
from common.storage.streams import Entry
from workers.intake.calls import Call, Content, Read, in_order, in_order_of
from workers.intake.decoding import Passed, Refused
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
    said = Refused("s/1-1", "no JSON", None, b"", {})
    shapes = list[list[Content]]()
    for one in (events, ordered):
        shapes.append([one[0], said, Passed(tuple(one[1:])), Passed((), "old")])
    entry = Entry("s", b"1-1", b"")
    assert in_order_of([(entry, shapes[0])], lambda _calls: {}) == [(entry, shapes[1])]


def test_a_call_rings_again_behind_the_end_that_an_earlier_read_brought() -> None:
    other = Event("a", "1", "other", NOW, NOW, f"s/{NOW}-1", None)
    asked = list[Sequence[Call]]()

    def ends_of(calls: Sequence[Call]) -> dict[Call, End]:
        asked.append(calls)
        return {("a", "c"): end_at(NOW, NOW, f"s/{NOW}-0")}

    reads: list[Read] = [(Entry("s", b"1-1", b""), [other])]
    assert in_order_of(reads, ends_of) is reads
    assert asked == [], "nobody is asked for the ends of no call"
    invited = Event("a", "2", "in", NOW, NOW, f"s/{NOW}-2", Invited("c", "ann", ("bob",), 60))  # type: ignore[arg-type]
    same, later = in_order([other, invited], ends_of)
    assert (same, asked) == (other, [[("a", "c")]])
    assert invited_ms(later.ts_ms, later.received_ms) > NOW


def test_an_end_that_is_told_late_ends_no_newer_invitation() -> None:
    invited = Event("a", "1", "in", NOW, NOW, f"s/{NOW}-0", Invited("c", "ann", ("bob",), 60))  # type: ignore[arg-type]
    ended = Event("a", "2", "end", NOW - 5_000, NOW, f"s/{NOW}-1", Ended("c"))
    assert in_order([invited, ended], lambda _calls: {}) == [invited, ended]
