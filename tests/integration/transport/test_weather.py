"""Servers and a network in bad weather: whatever happens, what is told about a request is what
became of it.
"""

import random
import threading
import time
from typing import Any

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame

from tests.chaos.proxy import ThreadedProxy
from tests.examples import LONG
from tests.integration.transport.conftest import patience_s, pushes, route
from tests.integration.transport.servers import H2Server
from tests.waiting import eventually
from workers.wire import HttpResponse

#: How often the weather turns, each time only once there have been answers again.
TURNS, SEEDS = (20, range(1, 6)) if LONG else (4, [1])


class Weather:
    """Answers most, and does to the others what servers do. done: ids that it has really processed,
    one entry each time.
    """

    def __init__(self, seed: int) -> None:
        self.random, self.lock = random.Random(seed), threading.Lock()
        self.done: list[Any] = []

    def __call__(self, connection, seen) -> None:
        dice = self.random.random()
        if getattr(connection, "last", seen.stream) < seen.stream:
            return  # above a GOAWAY's last id: not processed
        if dice < 0.02:
            connection.reset(seen.stream, ErrorCodes.REFUSED_STREAM)
            return
        self.done.append(seen.id)
        if dice < 0.03:
            connection.reset(seen.stream, ErrorCodes.INTERNAL_ERROR)
        elif dice < 0.04:
            connection.later(0.05, connection.reply, seen.stream, 200, {"apns-id": seen.id})
        elif dice < 0.045:
            connection.transport.abort()
        elif dice < 0.05:
            connection.last = seen.stream
            connection.reply(seen.stream, 200, {"apns-id": seen.id})
            connection.frame(GoAwayFrame(0, last_stream_id=seen.stream, error_code=0))
            connection.later(0.1, connection.transport.close)
        elif dice < 0.06:
            connection.reply(
                seen.stream, 400, {"apns-id": seen.id}, b'{"reason":"BadDeviceToken"}' * 500
            )
        elif dice > 0.999:
            pass  # silence
        else:
            connection.reply(seen.stream, 200, {"apns-id": seen.id})


def turns(proxy: ThreadedProxy, chance: random.Random) -> None:
    if chance.random() < 0.3:
        proxy.blackhole(True)
        time.sleep(chance.uniform(0.1, 1.0))
        proxy.blackhole(False)
    else:
        proxy.reset_all()


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_told_is_what_became_of_it(serve, either, seed):  # noqa: PLR0915 - one story
    weather = Weather(seed)
    server = serve(H2Server, weather, settings={3: 50})
    proxy = ThreadedProxy(("127.0.0.1", server.port))
    base, over, chance = f"https://localhost:{proxy.port}", threading.Event(), random.Random(seed)
    told: dict[Any, Any] = {}
    answers: list[HttpResponse] = []
    deadline_s = patience_s(either, base)

    def caller(number):
        first = 1_000_000 * number
        while not over.is_set():
            requests = pushes(chance.randint(1, 60), first)
            first += len(requests)
            where = route(base, pool=f"lane-{number % 2}", connections_max=3)
            batch = either.send_many(where, requests, deadline_s)
            told.update((r.headers["apns-id"], a) for r, a in zip(requests, batch, strict=True))
            answers.extend(a for a in batch if isinstance(a, HttpResponse))

    threads = [threading.Thread(target=caller, args=(n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(TURNS):
            eventually(lambda turn=turn: len(answers) > 10 * turn)
            for _ in range(chance.randint(1, 3)):
                time.sleep(chance.uniform(0.2, 0.8))
                turns(proxy, chance)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    time.sleep(0.5)
    proxy.stop()
    processed = set(weather.done)
    assert len(processed) == len(weather.done), "nothing is processed twice"
    for one, answer in told.items():
        if isinstance(answer, HttpResponse):
            assert one in processed
            assert answer.headers["apns-id"] == one
        else:
            assert answer.sent or one not in processed, "what is told as not sent was not processed"
