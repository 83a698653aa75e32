"""Many callers at once: a group of a thousand is a thousand requests. All are taken, in few
commands.
"""

import asyncio
import json
import resource
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.conftest import Core, wait_for
from tests.e2e.doors import open_gateway
from tests.e2e.tenant import device_token
from tests.e2e.town import Town
from workers.gateway.feed import StreamFeed, StreamUnavailable, packed

pytestmark = [pytest.mark.e2e]
CALLERS = 1_000


@pytest.fixture(scope="module")
def town(fleet: Core, tmp_path_factory: pytest.TempPathFactory) -> Town:
    made = Town(fleet, Path(tmp_path_factory.mktemp("accounts")), vendors=("apns",))
    assert made.add("apns", "apns-mx", "--alias", f"{made.app}.ios")[0] == 0
    made.changed()
    return made


@pytest.fixture(scope="module")
def door(fleet: Core, town: Town) -> Iterator[httpx.Client]:
    with open_gateway(fleet) as client:
        yield client


def notification(town: Town, event_id: str) -> dict[str, Any]:
    device = {"app_id": f"{town.app}.ios", "pushkey": device_token("apns"), "pushkey_ts": 1}
    content = {"msgtype": "m.text", "body": "hello"}
    base = {
        "event_id": event_id,
        "room_id": "!r:hs",
        "type": "m.room.message",
        "sender": "@ann:hs",
        "content": content,
    }
    return {"notification": {**base, "devices": [device]}}


async def post_all(url: str, bodies: list[dict[str, Any]]) -> list[bytes]:
    """Status lines; each caller has a connection of its own, and all are open at once."""
    address = urlsplit(url)
    head = (
        "POST /_matrix/push/v1/notify HTTP/1.1\r\nHost: x\r\nConnection: "
        "close\r\nContent-Length: {}\r\n\r\n"
    )

    async def one(body: dict[str, Any]) -> bytes:
        raw, until = json.dumps(body).encode(), time.monotonic() + 60
        while True:
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.write(head.format(len(raw)).encode() + raw)
            line = await reader.readline()
            writer.close()
            # as every homeserver does; on a busy machine some are told so after 8 s
            if line.split()[1] != b"503" or time.monotonic() > until:
                return line
            await asyncio.sleep(1)

    return await asyncio.gather(*map(one, bodies))


@pytest.fixture
def files() -> Iterator[None]:
    """Room for both sides' sockets in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8_192, hard) if hard > 0 else 8_192, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("files")
def test_a_thousand_callers_at_once_are_all_taken(town: Town, door: httpx.Client) -> None:
    name = uuid.uuid4().hex
    bodies = [notification(town, f"${name}-{number}") for number in range(CALLERS)]
    began = time.monotonic()
    statuses = asyncio.run(post_all(str(door.base_url), bodies))
    assert {line.split()[1] for line in statuses} == {b"200"}
    assert time.monotonic() - began < 60
    town.core.settled()
    tokens = {body["notification"]["devices"][0]["pushkey"] for body in bodies}

    def arrived() -> bool:
        return len(tokens & {line["token"] for line in town.core.record("apns")}) == CALLERS

    wait_for(arrived, "all of them are pushed", 90)


def test_callers_beyond_the_bound_are_asked_to_come_again(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, stream = town.core.runtime, "im:feed-" + uuid.uuid4().hex
    monkeypatch.setattr("workers.gateway.feed.WAITING_MAX", 0)
    feed = StreamFeed(runtime.core, stream)
    try:
        with pytest.raises(StreamUnavailable):
            asyncio.run(feed.put([{"e": b"{}"}]))
    finally:
        feed.close()
    assert not runtime.core.exists(stream)


def test_what_came_while_a_write_ran_goes_in_one(town: Town) -> None:
    """Round trips, not commands, are what a thousand callers would cost."""
    runtime, stream = town.core.runtime, "im:feed-" + uuid.uuid4().hex
    feed = StreamFeed(runtime.core, stream)
    executed: list[int] = []
    pipeline = runtime.core.pipeline

    def counted(*args: Any, **more: Any) -> Any:
        executed.append(1)
        return pipeline(*args, **more)

    async def together() -> None:
        await asyncio.gather(*(feed.put([{"e": b"{}"}]) for _ in range(CALLERS)))

    runtime.core.pipeline = counted  # type: ignore[method-assign]
    try:
        asyncio.run(together())
    finally:
        del runtime.core.pipeline
        feed.close()
    entries: Any = runtime.core.xrange(stream)
    events = [
        line for _, fields in entries for line in (fields.get(b"e") or fields[b"b"]).split(b"\n")
    ]
    assert events == [b"{}"] * CALLERS
    assert len(executed) <= CALLERS // 10, "20 where the machine is quiet"
    assert len(entries) <= CALLERS // 10
    runtime.core.delete(stream)


def test_what_is_no_native_event_stays_an_entry_and_the_order_holds() -> None:
    cloud: dict[str, bytes | str] = {"e": b"{}", "d": "zego"}
    large = b"x" * 150_000
    found = packed([{"e": b"1"}, {"e": b"2"}, cloud, {"e": b"3"}, {"e": large}, {"e": large}])
    assert found == [{"b": b"1\n2"}, cloud, {"b": b"3\n" + large}, {"e": large}]
    assert [len(fields["b"].split(b"\n")) for fields in packed([{"e": b"1"}] * 400)] == [200, 200]  # type: ignore[arg-type]


def test_while_redis_is_away_nobody_is_told_that_it_was_taken() -> None:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    nobody = Redis(port=1, socket_connect_timeout=0.2, retry=Retry(NoBackoff(), 0))
    feed = StreamFeed(nobody, "im:nowhere")

    async def one() -> None:
        await feed.put([{"e": b"{}"}])

    with pytest.raises(StreamUnavailable):
        asyncio.run(one())
    feed.close()
