"""Which invitations a call's end ends; what comes later rings again, however soon (contract §3).

Clocks of the core's hosts may differ, the stream's is one for all; but an event may also have been
published long after its time.
"""

from __future__ import annotations

from typing import Final, NamedTuple

#: Clocks of the core's hosts may be behind by so much, ms; what is older was published late.
BEHIND_MS: Final = 2_000


def invited_ms(ts_ms: int, received_ms: int) -> int:
    """When an invitation is from; it is over where this is not after `ended_ms`.

    received_ms: on the stream; nothing is published before its time. 0: unknown.
    """
    return min(ts_ms, received_ms) if received_ms else ts_ms


def ended_ms(ts_ms: int, received_ms: int) -> int:
    return received_ms if received_ms - ts_ms <= BEHIND_MS else ts_ms


class End(NamedTuple):
    """An end of a call: by the core's time, as `ended_ms` has it, and its place in the stream (ms,
    number, line of the entry).
    """

    ts_ms: int
    ended_ms: int
    ms: int
    number: int
    line: int


def end_at(ts_ms: int, received_ms: int, entry: str) -> End:
    """entry: `<stream>/<ms>-<number>[#<line>]`."""
    return End(ts_ms, ended_ms(ts_ms, received_ms), *_place(entry))


def times_behind(
    ts_ms: int, received_ms: int, entry: str, latest_ms: int, end: End
) -> tuple[int, int]:
    """(ts_ms, received_ms) of an invitation: of one that the core wrote behind the call's end,
    later than it, at least the next millisecond. One that is older by its own time was overtaken.

    latest_ms: the latest moment that ts_ms may mean.
    """
    if _place(entry) <= end[2:] or latest_ms < end.ts_ms:
        return ts_ms, received_ms
    return max(ts_ms, end.ended_ms + 1), max(received_ms, end.ended_ms + 1)


def _place(entry: str) -> tuple[int, int, int]:
    where, _, line = entry.rpartition("/")[2].partition("#")
    ms, _, number = where.partition("-")
    return int(ms), int(number), int(line or 0)
