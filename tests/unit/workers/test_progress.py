"""Liveness: progress or nothing to do, and never a question to Redis."""

from types import SimpleNamespace

import pytest
from redis.exceptions import ConnectionError as Away

from workers.cli import worker
from workers.cli.worker import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that Progress sees, for a machine that stands still."""
    now = [1000.0]
    monkeypatch.setattr(worker, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


class Redis:
    waits = False
    away = False
    asked = 0

    def waiting(self) -> bool:
        self.asked += 1
        if self.away:
            raise Away
        return self.waits


def test_what_waits_without_progress_is_unhealthy_and_progress_cures_it(clock: list[float]) -> None:
    redis, at = Redis(), [clock[0]]
    known = Progress(lambda: at[0], redis.waiting, 0.05)
    known.look()
    clock[0] += 0.1
    assert known.healthy(), "nothing to do"
    redis.waits = True
    known.look()
    assert known.healthy(), "it has just come"
    clock[0] += 0.1
    known.look()
    assert not known.healthy()
    at[0] = clock[0]
    assert known.healthy()
    assert redis.asked == 3, "the answer itself asks nobody"


def test_redis_away_is_nobodys_fault_and_after_its_return_the_silence_counts_anew(
    clock: list[float],
) -> None:
    redis = Redis()
    redis.waits = True
    known = Progress(lambda: 0.0, redis.waiting, 0.05)
    known.look()
    clock[0] += 0.1
    assert not known.healthy()
    redis.away = True
    with pytest.raises(Away):
        known.look()
    assert known.healthy()
    redis.away = False
    known.look()
    assert known.healthy()
    clock[0] += 0.1
    assert not known.healthy()
