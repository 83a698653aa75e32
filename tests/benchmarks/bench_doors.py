"""The Matrix door on one core beside XADD of the same events and an empty handler: POSTs a second,
CPU a POST, p99 at half the rate.

`python -m tests.benchmarks.bench_doors`. The door's process has the first core of this machine,
Valkey and the callers have the others; what publishes by XADD has the door's core, in its turn.
Other work of the machine is not kept away: `door_busy` is the share of its core that the door got,
and the figures by CPU hold whatever else runs.
"""

import heapq
import json
import multiprocessing
import os
import resource
import select
import socket
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from redis import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from common.model import Vendor
from tests.conftest import embedded
from workers import serving
from workers.gateway import matrix
from workers.gateway.aliases import Alias, DoorAccount, Found
from workers.gateway.directory import Directory
from workers.gateway.events import encoded
from workers.gateway.feed import StreamFeed
from workers.gateway.http import CALLS_MAX, make_app

POSTS, CALLERS = 4_000, 64
#: As long as callers wait for any answer before they look again.
ANSWERED_S = 5.0


def pin(pid: int, cores: set[int]) -> None:
    """All threads of a process on these cores; its later threads inherit that."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def cpu_s() -> float:
    """Of this process until now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def bodies(count: int) -> list[bytes]:
    made = []
    for _ in range(count):
        device = {"app_id": "x.ios", "pushkey": uuid.uuid4().hex * 2, "pushkey_ts": 1}
        content = {"msgtype": "m.text", "body": "hello"}
        one = {
            "event_id": "$" + uuid.uuid4().hex,
            "room_id": "!r:hs",
            "type": "m.room.message",
            "sender": "@a:hs",
            "content": content,
        }
        notification = {**one, "counts": {"unread": 1}, "devices": [device]}
        made.append(json.dumps({"notification": notification}).encode())
    return made


class Still:
    """Stands for what operators configured and for decisions that never come late."""

    account = DoorAccount("x", Vendor.APNS, "ios", (Alias("x.ios"),))
    now = Directory([account], {"x": [account]}, {}, {}, {"x": "en"})
    key = "none"

    def expect(self, event_ids: Any) -> dict[str, Any]:
        return dict.fromkeys(event_ids)

    async def gather(self, _futures: Any, _seconds: float) -> dict[str, Any]:
        return {}

    def forget(self, _futures: Any) -> None:
        return


class Caller:
    """One kept-alive connection; asks as an epoll loop lets it, as asyncio's own streams would take
    more of the callers' core than the door takes of its own.
    """

    def __init__(self, port: int, mine: list[bytes], due: list[float]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.mine, self.due = mine, due
        self.turn, self.began, self.got = 0, 0.0, b""

    def ask(self, now: float) -> None:
        self.began = self.due[self.turn] or now
        raw = self.mine[self.turn]
        head = b"POST /_matrix/push/v1/notify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
        self.socket.sendall(head % len(raw) + raw)
        self.turn += 1

    def answered(self) -> bool:
        self.got += self.socket.recv(65_536)
        head, found, body = self.got.partition(b"\r\n\r\n")
        if not found:
            return False
        whole = len(body) >= int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        if whole:
            self.got = b""
        return whole


def call(port: int, given: list[bytes], told: Any, rate: float, cores: set[int]) -> None:
    """The callers' process: seconds, and the answers' p99. rate: POSTs a second, each waited for
    from its own moment; 0: all they can.
    """
    os.sched_setaffinity(0, cores)
    start = time.perf_counter()
    waiting: list[tuple[float, int]] = []
    callers: dict[int, Caller] = {}
    spent: list[float] = []
    epoll = select.epoll()
    for number in range(CALLERS):
        mine = given[number::CALLERS]
        turns = range(len(mine))
        due = [start + (turn * CALLERS + number) / rate if rate else 0.0 for turn in turns]
        one = Caller(port, mine, due)
        callers[one.socket.fileno()] = one
        epoll.register(one.socket, select.EPOLLIN)
        waiting.append((due[0], one.socket.fileno()))
    heapq.heapify(waiting)
    while len(spent) < len(given):
        now = time.perf_counter()
        while waiting and waiting[0][0] <= now:
            callers[heapq.heappop(waiting)[1]].ask(now)
        rest = waiting[0][0] - now if waiting else ANSWERED_S
        for fd, _ in epoll.poll(rest):
            one = callers[fd]
            if one.answered():
                spent.append(time.perf_counter() - one.began)
                if one.turn < len(one.mine):
                    heapq.heappush(waiting, (one.due[one.turn], fd))
    spent.sort()
    told.send((time.perf_counter() - start, spent[int(len(spent) * 0.99)]))


def served(app: Any, others: set[int]) -> tuple[float, float, float]:
    """(POSTs/s, p99 s at half of that rate, CPU s a POST) of an app, after a warm-up. others: the
    callers' cores.
    """
    listener = serving.bind("127.0.0.1:0", "PORT")
    port, stop = listener.getsockname()[1], threading.Event()
    thread = threading.Thread(target=serving.serve, args=(app, listener, stop, CALLS_MAX))
    thread.start()
    context = multiprocessing.get_context("fork")
    seconds = p99 = cpu = 0.0
    rate = 0.0
    for count, half in ((500, 0.0), (POSTS, 0.0), (POSTS // 2, 0.5)):
        mine, theirs = context.Pipe()
        given = bodies(count)
        before = cpu_s()
        process = context.Process(target=call, args=(port, given, theirs, rate * half, others))
        process.start()
        seconds, p99 = mine.recv()
        used = cpu_s() - before
        process.join()
        if not half:
            rate, cpu = count / seconds, used / count
    stop.set()
    thread.join()
    return rate, p99, cpu


async def _empty(request: Request) -> Response:
    await request.body()
    return JSONResponse({"rejected": []})


def by_xadd(redis: Redis) -> tuple[float, float]:
    """(events a second, CPU s an event) that a core publishes, one command each, made as the door
    makes them.
    """
    found = Found(Still.account, voip=False)
    given = [json.loads(raw)["notification"] for raw in bodies(POSTS)]
    began, before = time.perf_counter(), cpu_s()
    for one in given:
        event = matrix.event_of(one, one["devices"][0], found, "en", 0)
        assert event is not None
        redis.xadd("im:bench", encoded(event))  # type: ignore[arg-type]
    return POSTS / (time.perf_counter() - began), (cpu_s() - before) / POSTS


def main() -> int:
    first, *more = sorted(os.sched_getaffinity(0))
    others = set(more) or {first}
    with embedded(valkey=True) as running:
        redis = Redis.from_url(running.redis_url or "")
        server: Any = redis.info("server")
        pin(server["process_id"], others)
        pin(os.getpid(), {first})
        feed = StreamFeed(redis, "im:bench")
        still: Any = Still()
        world: Any = still
        direct, direct_cpu = by_xadd(redis)
        rate, p99, cpu = served(make_app(world, feed, still, still), others)
        _, _, empty = served(
            Starlette(routes=[Route("/_matrix/push/v1/notify", _empty, methods=["POST"])]), others
        )
        feed.close()
        redis.close()
    shown = {
        "cores": {"door and XADD": [first], "Valkey and callers": sorted(others)},
        "posts_per_s": round(rate),
        "over_xadd": round(rate / direct, 2),
        "over_xadd_by_cpu": round(direct_cpu / cpu, 2),
        "door_busy": round(rate * cpu, 2),
        "half_rate_p99_ms": round(p99 * 1000, 1),
    }
    shown |= {"cpu_us_a_post": round(cpu * 1e6), "cpu_over_empty_handler": round(cpu / empty, 2)}
    print(json.dumps(shown, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
