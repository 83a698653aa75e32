"""One fleet, each process of which is killed while messages travel; PostgreSQL away for longer
than an entry may be idle, and Redis emptied: nothing is lost, and everybody finds back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from common.storage.keys import PRESENCE, ROUTING, STAGE_STREAMS
from common.storage.streams import TAKEOVER_IDLE_MS
from tests.chaos.campaign import good, kill_each, run_on, show
from tests.chaos.fleet import RATE_PER_S, Town, accounts, town, wait_for
from tests.chaos.proxy import ThreadedProxy
from tests.conftest import own_database

pytestmark = [pytest.mark.chaos, pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

AWAY_S = TAKEOVER_IDLE_MS / 1000 + 3
PEOPLE = 100
ROUTED = 8 * RATE_PER_S


@pytest.fixture(scope="module")
def database(database_url: str) -> Iterator[tuple[ThreadedProxy, str]]:
    """A proxy in front of a database of this module's own, and its URL."""
    with own_database(database_url) as url:
        address = urlsplit(url)
        proxy = ThreadedProxy((address.hostname, address.port))
        yield proxy, url.replace(f":{address.port}/", f":{proxy.port}/")
        proxy.stop()


@pytest.fixture(scope="module")
def place(database: tuple[ThreadedProxy, str]) -> Iterator[Town]:
    replicas = {"delivery-apns": 2}
    with town(replicas, people=PEOPLE, quota=100_000, DATABASE_URL=database[1]) as place:
        yield place


def test_a_thousand_messages_are_all_accounted_for_while_each_process_is_killed_once(
    place: Town,
) -> None:
    """Each recipient's device has one row, the vendor has each push at least once."""
    killed = place.beside(people=300, quota=25, seed=7)
    report = run_on(
        killed,
        1_000,
        75,
        7,
        lambda place, trouble, rng: kill_each(place, 1, (1.0, 3.0), trouble, rng),
    )
    show(report)
    assert report["messages"] >= 1_000
    assert report["kills"] == {worker.name: 1 for worker in place.workers}
    assert len(report["kills"]) == 6
    found = set(report["decisions"])
    assert found <= {"accepted", "expired", "throttled", "quota_spent", "uncertain"}
    assert good(report)


def test_while_postgresql_is_away_what_is_routed_goes_out_and_the_rest_waits_unharmed(
    database: tuple[ThreadedProxy, str], place: Town
) -> None:
    proxy, _ = database
    routed = place.sent() + ROUTED
    for _ in range(ROUTED):
        # on the lane with the rate: eight seconds of work that is routed already
        place.publish(to="u0")
    wait_for(lambda: not place.runtime.core.xlen("im:events"), "all is taken in")
    streams = place.runtime.streams
    wait_for(
        lambda: (
            not any(
                b.unread or b.pending
                for b in streams.backlog(
                    [*STAGE_STREAMS[PRESENCE], *STAGE_STREAMS[ROUTING]]
                ).values()
            )
        ),
        "all is routed",
    )
    # the lane's first grant asks the ledger what it has sent today: from then on delivery needs no
    # database
    wait_for(lambda: place.sent() > routed - ROUTED, "the lane flows")
    proxy.refuse(True)
    try:
        proxy.reset_all()
        started = time.monotonic()
        for number in range(50):  # to people that nobody has looked up since the start
            place.publish(to=f"u{PEOPLE - 1 - number}")
        assert place.sent() < routed
        wait_for(lambda: place.sent() >= routed, "what was routed goes out without the database")
        time.sleep(max(0.0, started + AWAY_S - time.monotonic()))
        assert place.sent() == routed
        backlog = streams.backlog(STAGE_STREAMS[PRESENCE]).values()
        waiting = sum(one.unread + one.pending for one in backlog)
        assert waiting + place.runtime.core.xlen("im:events") > 0
    finally:
        proxy.refuse(False)
    back = time.monotonic()
    assert place.settled(120.0, lambda: None)
    print(f"settled {time.monotonic() - back:.1f} s after the database was back")
    told = accounts(place)
    found = (told["lost"], told["dead_letters"], told["rows_without_message"], told["doubled"])
    assert found == (0, 0, 0, 0)


def test_after_redis_has_lost_everything_new_messages_pass(place: Town) -> None:
    place.runtime.redis.flushall()
    place.books.expected.clear()
    before = place.sent()
    for number in range(20):
        place.publish(to=f"u{1 + number % 9}")
    wait_for(lambda: place.sent() == before + 20, "all stages find their streams again")
    assert place.settled(120.0, lambda: None)
    assert accounts(place)["lost"] == 0
