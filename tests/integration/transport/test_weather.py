"""Servers and a network in bad weather: whatever happens, what is told about a request is what
became of it.
"""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame

from tests.chaos.proxy import ThreadedProxy
from tests.examples import LONG
from tests.integration.transport.conftest import pushes, route
from tests.integration.transport.servers import H2Server
from workers.wire import HttpResponse

SECONDS, SEEDS = (12.0, range(1, 6)) if LONG else (3.0, [1])


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


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_told_is_what_became_of_it(serve, either, seed):  # noqa: PLR0915 - one story
    weather = Weather(seed)
    server = serve(H2Server, weather, settings={3: 50})
    proxy = ThreadedProxy(("127.0.0.1", server.port))
    ends, chance = time.monotonic() + SECONDS, random.Random(seed)
    told: dict[Any, Any] = {}

    def caller(number):
        first = 1_000_000 * number
        while time.monotonic() < ends:
            requests = pushes(chance.randint(1, 60), first)
            first += len(requests)
            where = route(
                f"https://localhost:{proxy.port}", pool=f"lane-{number % 2}", connections_max=3
            )
            answers = either.send_many(where, requests, 0.8)
            told.update((r.headers["apns-id"], a) for r, a in zip(requests, answers, strict=True))

    threads = [threading.Thread(target=caller, args=(n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    while time.monotonic() < ends:
        time.sleep(chance.uniform(0.2, 0.8))
        if chance.random() < 0.3:
            proxy.blackhole(True)
            time.sleep(chance.uniform(0.1, 1.0))
            proxy.blackhole(False)
        else:
            proxy.reset_all()
    for thread in threads:
        thread.join(10)
    time.sleep(0.5)
    proxy.stop()
    processed = list(weather.done)
    assert len(told) > 50
    assert len(set(processed)) == len(processed), "nothing is processed twice"
    answered = {one for one, answer in told.items() if isinstance(answer, HttpResponse)}
    assert answered <= set(processed)
    assert all(
        answer.headers["apns-id"] == one
        for one, answer in told.items()
        if isinstance(answer, HttpResponse)
    )
    unsent = {
        one
        for one, answer in told.items()
        if not isinstance(answer, HttpResponse) and not answer.sent
    }
    assert not unsent & set(processed), "what is told as not sent was not processed"
    assert len(answered) > 20
