"""Celery's own Redis is frozen or killed while messages travel, or away when a fleet starts: pushes
go on leaving, and wake-ups come again with it, without a restart.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection

import pytest

from common.storage.redis import SOCKET_TIMEOUT_S, connect
from tests.chaos.fleet import GROUP, GROUP_EVERY, Town, town, wait_for
from tests.conftest import OwnValkey, embedded
from tests.waiting import seconds_until
from workers.broker import LATE_S, WAIT_S
from workers.cli.up import free_ports
from workers.queues.own_looks import LOOK_S, POLL_S

pytestmark = [pytest.mark.chaos, pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]

PEOPLE = GROUP + 10
#: Seconds between two chats, longer than a worker listens after the last one; and their number.
EVERY_S, CHATS = 1.3, 14
#: Longest silence on the vendor's side: until the next chat, and its worker's next heartbeat;
#: a busy machine has its share.
SILENCE_S = EVERY_S + POLL_S + LOOK_S
#: A group's message passes two workers; by then each knows that no wake-up comes.
GROUP_S = WAIT_S + LATE_S + 2 * LOOK_S
#: Workers that wait for wake-ups: presence, routing, delivery.
WORKERS = 3
PROCESSES = WORKERS + 2
#: Seconds in which health is told, although a server hangs.
ANSWERS_S = 2 * SOCKET_TIMEOUT_S + 1
#: Seconds in which Celery connects again, whose pauses grow by 2, and which ends a worker.
HEARS_S, ENDS_S = 60.0, 15.0

TROUBLES: dict[str, tuple[Callable[[OwnValkey], None], Callable[[OwnValkey], None]]] = {
    "frozen": (OwnValkey.pause, OwnValkey.go_on),
    "killed": (OwnValkey.kill, OwnValkey.restart),
}


@pytest.fixture
def broker() -> Iterator[OwnValkey]:
    with embedded(valkey=True) as running:
        own = OwnValkey(running)
        yield own
        own.go_on()


def fleet(broker: OwnValkey) -> contextlib.AbstractContextManager[Town]:
    port = str(free_ports(PROCESSES))
    return town({}, people=PEOPLE, quota=100_000, BROKER_URL=broker.url, METRICS_PORT=port)


def all_hear(broker: OwnValkey) -> bool:
    """Each worker waits at the server for its wake-ups."""
    with contextlib.closing(connect(broker.url)) as client:
        return int(client.info("clients")["blocked_clients"]) >= WORKERS


def hear_again(broker: OwnValkey) -> None:
    """Waits until they ask for them anew: a thawed server counts those that have left, too."""

    def asked() -> int:
        with contextlib.closing(connect(broker.url)) as client:
            return int(client.info("commandstats").get("cmdstat_brpop", {"calls": 0})["calls"])

    before = asked()
    wait_for(lambda: asked() >= before + WORKERS and all_hear(broker), "all hear again", HEARS_S)


def group_s(place: Town) -> float:
    """Seconds until the first push of a group's message has left."""
    place.books.messages += -place.books.messages % GROUP_EVERY
    before = place.sent()
    place.publish()
    return seconds_until(lambda: place.sent() > before, "a group's push")


def health(place: Town, page: str) -> set[int]:
    """What the workers' `/healthz` or `/readyz` answer."""
    found = set[int]()
    for name, address in place.runtime.living.targets().items():
        if name.startswith(("presence", "routing", "delivery")):
            with contextlib.closing(HTTPConnection(address, timeout=ANSWERS_S)) as line:
                line.request("GET", f"/{page}")
                found.add(line.getresponse().status)
    return found


def chats(place: Town) -> None:
    pause = threading.Event()
    for number in range(CHATS):
        place.publish(to=f"u{1 + number % 9}")  # the first of ten is on the lane with a rate
        pause.wait(EVERY_S)


def longest_silence_s(place: Town) -> float:
    times = sorted(line["at_ms"] for line in place.record())
    return max(after - before for before, after in itertools.pairwise(times)) / 1000


@pytest.mark.parametrize(("begins", "ends"), TROUBLES.values(), ids=TROUBLES)
def test_pushes_go_on_leaving_and_wake_ups_come_again(
    broker: OwnValkey, begins: Callable[[OwnValkey], None], ends: Callable[[OwnValkey], None]
) -> None:
    with fleet(broker) as place:
        wait_for(lambda: all_hear(broker), "all hear")
        pids = {one.name: one.process.pid for one in place.workers if one.process}
        core = threading.Thread(target=chats, args=(place,))
        core.start()
        wait_for(lambda: place.sent() > 2, "chats leave")
        begins(broker)
        group = group_s(place)
        told = health(place, "healthz"), health(place, "readyz")
        core.join()
        wait_for(lambda: place.sent() >= CHATS + GROUP, "all have left")
        silence = longest_silence_s(place)
        ends(broker)
        hear_again(broker)
        assert told == ({200}, {503})
        assert health(place, "readyz") == {200}
        assert group <= GROUP_S
        assert silence <= SILENCE_S
        assert {one.name: one.process.pid for one in place.workers if one.process} == pids
        assert place.sent() == CHATS + GROUP, "none twice"


@pytest.mark.parametrize(("begins", "ends"), TROUBLES.values(), ids=TROUBLES)
def test_a_fleet_starts_without_it_and_ends_without_it(
    broker: OwnValkey, begins: Callable[[OwnValkey], None], ends: Callable[[OwnValkey], None]
) -> None:
    begins(broker)
    with fleet(broker) as place:
        place.publish(to="u1")
        wait_for(lambda: place.sent() == 1, "a chat")
        assert group_s(place) <= GROUP_S
        ends(broker)
        hear_again(broker)
        begins(broker)
        for one in place.workers:
            process = one.process
            assert process
            process.send_signal(signal.SIGTERM)
            assert process.wait(ENDS_S) == 0
        ends(broker)
