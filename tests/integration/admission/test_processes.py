"""Eight processes, one quota, one of them killed in the middle: never a push too many, none lost
but the killed one's.
"""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import redis

from common.model import Bucket, MessageClass
from common.storage.admission import Admission, AdmissionAnswer, AdmissionRequest, LaneLimits
from common.storage.keys import Keys
from tests.integration.admission.taker import BATCH, TAKERS

QUOTA, TRIES = 10_000, 50_000


def read(log: Path) -> dict[str, int]:
    """Sums of the log's words; `open`: what was asked for, or was being given back, when the log
    ends.
    """
    sums = {"ask": 0, "got": 0, "giving": 0, "gave": 0}
    lines = [line.split() for line in log.read_text().splitlines()]
    for word, number in lines:
        sums[word] += int(number)
    last = lines[-1]
    sums["open"] = int(last[1]) if last[0] in ("ask", "giving") else 0
    return sums


@pytest.mark.chaos
def test_a_quota_is_kept_to_the_last_push_while_processes_die(
    redis_client: redis.Redis, redis_url: str, space: str, tmp_path: Path
) -> None:
    terms = LaneLimits("a:vivo:shared", rate_per_s=1e6, burst=1e6, quotas={Bucket.PUBLIC: QUOTA})
    store = Admission(redis_client, Keys(f"push{space}"))
    store.rebuild(terms, store.day(terms), [])
    logs = [tmp_path / f"{number}" for number in range(TAKERS)]
    takers = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.integration.admission.taker",
                redis_url,
                f"push{space}",
                str(number),
                str(TRIES // TAKERS),
                str(QUOTA),
                str(log),
            ]
        )
        for number, log in enumerate(logs)
    ]
    try:
        until = time.monotonic() + 30
        while not (logs[0].exists() and logs[0].read_text().count("gave") >= 5):
            assert time.monotonic() < until, "the takers did not get going"
            time.sleep(0.002)
        takers[0].kill()
        assert [taker.wait(60) for taker in takers[1:]] == [0] * (TAKERS - 1)
        assert takers[0].wait(10) == -signal.SIGKILL
    finally:
        for taker in takers:
            taker.kill()
            taker.wait()
    killed, rest = read(logs[0]), [read(log) for log in logs[1:]]
    found = sum(one["ask"] for one in rest)
    assert found == TRIES // TAKERS * (TAKERS - 1), "every survivor made all its tries"
    used = store.usage(terms)[1].used
    assert used == QUOTA, (
        "more was asked for than there was, to the end: what is given back is taken again"
    )
    kept = sum(one["got"] - one["gave"] for one in (killed, *rest))
    assert kept <= QUOTA + killed["open"]
    assert QUOTA - kept <= killed["open"] <= BATCH
    assert all(one["giving"] == one["gave"] for one in rest)


def test_replicas_together_keep_to_the_rate(
    redis_client: redis.Redis, redis_url: str, space: str
) -> None:
    """Real time: a grant lies between the moments before and after its call, so a second that
    certainly holds too many is a fault.
    """
    rate, burst = 400.0, 40.0
    terms = LaneLimits("a:vivo:rated", rate_per_s=rate, burst=burst)
    grants: list[tuple[float, float, int]] = []
    end = time.monotonic() + 20

    def granted() -> int:
        return sum(count for _, _, count in grants)

    def take(number: int) -> None:
        store = Admission(redis_client, Keys(f"push{space}"))
        for batch in range(100_000):
            if granted() >= 2 * rate or time.monotonic() >= end:
                return
            asks = [
                AdmissionRequest(
                    f"{number:08x}{batch * 10 + i:024x}", Bucket.PRIVATE, MessageClass.CHAT, "t"
                )
                for i in range(10)
            ]
            before = time.monotonic()
            given = store.admit(terms, asks)
            assert given is not None
            answers = [one.answer for one in given]
            grants.append((before, time.monotonic(), answers.count(AdmissionAnswer.GRANTED)))
            time.sleep(min(one.wait_ms for one in given) / 1000)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for begin, _, _ in grants:
        assert (
            sum(count for before, after, count in grants if before >= begin and after <= begin + 1)
            <= burst + rate
        )
    assert granted() >= 2 * rate, "and what may go does go"
