"""A scenario in its short form."""

from __future__ import annotations

from tests.isolation.scenarios import SCENARIOS

#: Of the long form: the shares of load and time.
SIZE = 0.02
#: Times of a few seconds beside another test file are that file's: the long form judges them.
OF_TIME = frozenset(
    {
        "all_chats_taken_s",
        "call_ms",
        "call_over_alone",
        "commands_per_push",
        "commands_per_push_with_chats",
        "cpu_s",
        "lane_rate_never_over",
        "lane_rate_over_limit",
        "maintenance_share_of_a_core",
        "p99_over_alone",
        "recall_read_s",
    }
)


def failed(name: str) -> dict[str, tuple[float, float]]:
    """Figures that do not hold, each with its limit."""
    return {
        one: (value.figure, value.limit)
        for one, value in SCENARIOS[name](SIZE).items()
        if not value.holds and one not in OF_TIME
    }
