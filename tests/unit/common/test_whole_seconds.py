"""A time in whole seconds is any moment of that second, but none after it was published."""

import pytest

from common.whole_seconds import latest_ms


@pytest.mark.parametrize(
    ("time_ms", "received_ms", "latest"),
    [
        (5_000, 9_000, 5_999),
        (5_000, 5_250, 5_250),
        (5_000, 5_000, 5_000),
        (5_000, 4_000, 5_000),  # a host whose clock is ahead
        (5_000, 0, 5_000),  # of a release that knew no time on the stream
        (5_001, 9_000, 5_001),
        (0, 9_000, 999),
    ],
)
def test_the_latest_moment_of_a_time(time_ms: int, received_ms: int, latest: int) -> None:
    assert latest_ms(time_ms, received_ms) == latest
