"""Calls that are invited and ended within a moment: the stream's order tells which end ends which
invitation (contract §3), where their times are of one millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from common.call_times import End, end_at, times_behind
from common.storage.streams import Entry
from common.whole_seconds import latest_ms
from workers.intake.decoding import Passed, Refused
from workers.intake.events import Ended, Event, Invited

#: (app, call id).
Call: TypeAlias = tuple[str, str]
Content: TypeAlias = Event | Passed | Refused
#: An entry and what was read in it.
Read: TypeAlias = tuple[Entry, Sequence[Content]]


def in_order_of(
    reads: list[Read], ends_of: Callable[[Sequence[Call]], Mapping[Call, End]]
) -> list[Read]:
    """As in_order, of one read's entries."""
    events = [event for _, contents in reads for one in contents for event in _events(one)]
    ordered = in_order(events, ends_of)
    if ordered is events:
        return reads
    news = iter(ordered)
    return [(entry, [_renewed(one, news) for one in contents]) for entry, contents in reads]


def _events(one: Content) -> Sequence[Event]:
    if type(one) is Event:
        return (one,)
    return one.events if isinstance(one, Passed) else ()


def _renewed(one: Content, news: Iterator[Event]) -> Content:
    if type(one) is Event:
        return next(news)
    if isinstance(one, Passed):
        return replace(one, events=tuple(next(news) for _ in one.events))
    return one


def in_order(
    events: list[Event], ends_of: Callable[[Sequence[Call]], Mapping[Call, End]]
) -> list[Event]:
    """The same events of one read; where a call's are behind each other, so are their times.

    ends_of: the ends that earlier reads brought.
    """
    calls = {(one.app, one.data.call_id) for one in events if type(one.data) is Invited}
    if not calls:
        return events
    ends, rung, ordered = dict(ends_of(sorted(calls))), dict[Call, tuple[int, int]](), list[Event]()
    for event in events:
        times = event.ts_ms, event.received_ms
        if type(event.data) is Ended:
            call = event.app, event.data.call_id
            end, (told_ms, rung_ms) = end_at(*times, event.entry), rung.get(call, (0, 0))
            if end.ended_ms < rung_ms and told_ms <= latest_ms(*times):
                end = end._replace(ended_ms=rung_ms)
                times = max(times[0], rung_ms), max(times[1], rung_ms)
            ends[call] = end
        elif type(event.data) is Invited:
            call = event.app, event.data.call_id
            if call in ends:
                times = times_behind(*times, event.entry, latest_ms(*times), ends[call])
            rung[call] = event.ts_ms, min(times)
        else:
            ordered.append(event)
            continue
        ordered.append(replace(event, ts_ms=times[0], received_ms=times[1]))
    return ordered
