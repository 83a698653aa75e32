"""Access tokens: eight real processes, one OAuth door that counts; whatever they do at once, one
of them asks it.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.fernet import Fernet

from common.clock import now_ms
from common.model import Vendor
from common.storage.access import AccessStore
from common.storage.keys import Keys
from common.storage.redis import connect
from common.storage.vault import Vault
from tests.taken import ask
from tests.unit.vendors.pushkit_builders import PRIVATE_PEM
from workers.delivery.access import FleetAccess
from workers.delivery.lane import Lane
from workers.transport.curl import CurlTransport
from workers.vendors.harmony import HARMONY
from workers.vendors.huawei import HUAWEI
from workers.vendors.types import AccessToken, Credential
from workers.wire import NoAnswer, Request, Route

PROCESSES = 8
MINUTE_MS = 60_000
#: Seconds of a wait whose length is nobody's question.
PATIENCE_S = 60


@dataclass
class Door:
    """Huawei's simulator as a process of its own; only its OAuth door is asked here."""

    told: dict[str, Any]

    def tell(self, action: str, wanted: Any = None) -> Any:
        return ask(self.told, action, wanted)

    @property
    def calls(self) -> int:
        return int(self.tell("stats")["counts"].get("requests", 0))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = str(tmp_path_factory.mktemp("door"))
    command = [sys.executable, "-m", "simulators", "huawei", "--dir", folder]
    process = subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        yield Door(json.loads(process.stdout.readline()))
    finally:
        process.kill()  # asked to end it waits for its callers
        process.wait()


@pytest.fixture
def door(running: Door) -> Iterator[Door]:
    running.tell("faults", {"delay_ms": 200})  # long enough for all to come while one asks
    yield running
    running.tell("faults", {"delay_ms": 0, "status": 0, "status_share": 0.0})


@dataclass
class World:
    """What each process makes anew after its fork: connections are never shared."""

    redis_url: str
    prefix: str
    key: str
    door: Door

    def lane(self) -> Lane:
        options, secrets = {"app_id": "100000001"}, {"app_secret": "s"}
        credential = Credential(self.prefix, Vendor.HUAWEI, "h", 1, options, secrets)
        endpoints = {name: self.door.told["endpoints"][name] for name in HUAWEI.endpoints}
        route = Route(f"{credential.lane}:1", endpoints, False, None)
        return Lane(HUAWEI, credential, route, HUAWEI.limits)

    def store(self) -> AccessStore:
        return AccessStore(connect(self.redis_url), Keys(self.prefix), Vault((self.key,)))

    def access(self, clock: Callable[[], int] = now_ms) -> FleetAccess:
        ca_file = self.door.told["ca_file"]
        return FleetAccess(
            self.store(), CurlTransport(ca_file=Path(ca_file)), clock, time.sleep, 10.0
        )

    def hold(self, value: str, refresh_ms: int, expires_ms: int) -> None:
        """Puts a token there; times from now."""
        self.store().save(self.lane().id, 1, value, now_ms() + refresh_ms, now_ms() + expires_ms)


@pytest.fixture
def world(redis_url: str, space: str, door: Door) -> World:
    return World(redis_url, f"push{space}", Fernet.generate_key().decode(), door)


Scene = Callable[[World, FleetAccess, Any], list[Any]]


def at_once(world: World, scene: Scene) -> list[list[Any]]:
    """`scene` in so many processes, all let go at the same moment; what each gave back."""
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(PROCESSES), context.Queue()

    def work() -> None:
        access = world.access()
        barrier.wait(PATIENCE_S)
        try:
            results.put([_told(one) for one in scene(world, access, barrier)])
        finally:
            results.close()
            results.join_thread()
            os._exit(0)

    processes = [context.Process(target=work) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    told = [results.get(timeout=PATIENCE_S) for _ in processes]
    for process in processes:
        process.join(PATIENCE_S)
    return told


def _told(one: Any) -> str:
    return one.value if isinstance(one, AccessToken) else f"refused: {one.verdict} {one.code}"


def once(world: World, access: FleetAccess, _barrier: Any) -> list[Any]:
    return [access.get(world.lane(), now_ms())]


def test_without_a_token_one_process_asks_and_all_have_it(world: World) -> None:
    before = world.door.calls
    values = {value for told in at_once(world, once) for value in told}
    assert world.door.calls == before + 1
    assert len(values) == 1
    assert not next(iter(values)).startswith("refused")


def test_an_expired_token_is_fetched_anew_once(world: World) -> None:
    world.hold("old", -2 * MINUTE_MS, -MINUTE_MS)
    before = world.door.calls
    values = {value for told in at_once(world, once) for value in told}
    assert world.door.calls == before + 1
    assert len(values) == 1
    assert "old" not in values


def _across_the_refresh(world: World, _access: FleetAccess, barrier: Any) -> list[Any]:
    ahead_ms = 0

    def clock() -> int:
        return now_ms() + ahead_ms

    access = world.access(clock)
    first = access.get(world.lane(), clock())
    barrier.wait(PATIENCE_S)
    ahead_ms = 30 * MINUTE_MS
    second = access.get(world.lane(), clock())
    barrier.wait(PATIENCE_S)
    return [first, second, access.get(world.lane(), clock())]


def test_a_token_that_is_due_is_refreshed_once(world: World) -> None:
    world.hold("old", 20 * MINUTE_MS, 60 * MINUTE_MS)
    before = world.door.calls
    told = at_once(world, _across_the_refresh)
    assert world.door.calls == before + 1
    assert {one[0] for one in told} == {"old"}
    new = {one[2] for one in told}
    assert len(new) == 1
    assert "old" not in new
    assert {one[1] for one in told} <= {"old"} | new


def test_while_another_refreshes_the_old_token_is_used_at_once(world: World) -> None:
    world.hold("old", -1, MINUTE_MS)
    store, lane, before = world.store(), world.lane(), world.door.calls
    word = store.lock(lane.id, 1)
    assert word is not None
    assert _told(world.access().get(lane, now_ms())) == "old"
    assert world.door.calls == before
    store.unlock(lane.id, 1, word)
    assert _told(world.access().get(lane, now_ms())) != "old"


def _refused_by_the_vendor(world: World, access: FleetAccess, barrier: Any) -> list[Any]:
    token = access.get(world.lane(), now_ms())
    assert isinstance(token, AccessToken)
    barrier.wait(PATIENCE_S)
    access.refused(world.lane(), token, now_ms())
    return [token, access.get(world.lane(), now_ms())]


def test_a_token_that_the_vendor_refuses_is_fetched_anew_once_and_nobody_takes_the_bad_one_again(
    world: World,
) -> None:
    world.hold("bad", 30 * MINUTE_MS, 60 * MINUTE_MS)
    before = world.door.calls
    told = at_once(world, _refused_by_the_vendor)
    assert world.door.calls == before + 1
    assert {one[0] for one in told} == {"bad"}
    new = {one[1] for one in told}
    assert len(new) == 1
    assert "bad" not in new


def test_a_word_against_the_token_is_believed_once_in_ten_seconds(world: World) -> None:
    access, lane = world.access(), world.lane()
    before = world.door.calls
    for _ in range(5):
        token = access.get(lane, now_ms())
        assert isinstance(token, AccessToken)
        access.refused(lane, token, now_ms())
    assert world.door.calls == before + 2


def test_what_one_process_was_refused_no_other_sends_again(world: World) -> None:
    world.hold("bad", 30 * MINUTE_MS, 60 * MINUTE_MS)
    one, other, lane = world.access(), world.access(), world.lane()
    token = one.get(lane, now_ms())
    assert token == other.get(lane, now_ms())
    assert isinstance(token, AccessToken)
    one.refused(lane, token, now_ms())
    assert other.get(lane, now_ms()) == one.get(lane, now_ms()) != token


def test_a_token_that_is_signed_here_is_signed_anew_when_the_vendor_refuses_it(
    world: World,
) -> None:
    access, lane = world.access(), signing_lane(world)
    token = access.get(lane, now_ms())
    assert isinstance(token, AccessToken)
    access.refused(lane, token, now_ms())
    again = access.get(lane, now_ms())
    assert isinstance(again, AccessToken)
    assert again.value != token.value
    assert access.get(lane, now_ms()) == again


def signing_lane(world: World) -> Lane:
    options = {"project_id": "p1", "key_id": "k1", "sub_account": "sub-1"}
    credential = Credential(
        world.prefix, Vendor.HARMONY, "n", 1, options, {"private_key": PRIVATE_PEM}
    )
    return Lane(HARMONY, credential, Route(f"{credential.lane}:1", {}, False, None), HARMONY.limits)


def test_while_the_door_is_shut_the_old_token_is_used_as_long_as_it_lives(world: World) -> None:
    world.door.tell("faults", {"status": 503, "status_share": 1.0})
    world.hold("old", -1, MINUTE_MS)
    assert {value for told in at_once(world, once) for value in told} == {"old"}


class SlowDoor:
    """Answers nothing within the deadline; the clock goes on meanwhile."""

    def __init__(self) -> None:
        self.late_ms = 0

    def now_ms(self) -> int:
        return now_ms() + self.late_ms

    def send_many(
        self, route: Route, requests: Sequence[Request], deadline_s: float
    ) -> list[NoAnswer]:
        self.late_ms += int(deadline_s * 1000)
        return [NoAnswer("timeout", True, "the deadline passed")] * len(requests)

    def renew(self, pool: str) -> None: ...
    def close(self) -> None: ...


@pytest.mark.parametrize(("lives_s", "used"), [(40, True), (12, False)])
def test_an_old_token_whose_time_ends_while_the_door_is_asked_is_not_used(
    world: World, lives_s: int, used: bool
) -> None:
    world.hold("old", -1, lives_s * 1_000)
    door = SlowDoor()
    access = FleetAccess(world.store(), door, door.now_ms, time.sleep, 10.0)
    found = access.get(world.lane(), now_ms())
    assert _told(found) == ("old" if used else "refused: unavailable timeout")


def test_a_lock_that_became_anothers_is_left_to_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where that happens right behind the look at whose it is."""
    store, other, lane = world.store(), connect(world.redis_url), world.lane()
    word = store.lock(lane.id, 1)
    assert word is not None
    key, look, gone = Keys(world.prefix).access(lane.id, 1) + ":lock", store._redis.get, list[str]()

    def stands_still(name: str) -> Any:
        found = look(name)
        gone.append(name)
        other.set(key, "another's")
        return found

    monkeypatch.setattr(store._redis, "get", stands_still)
    store.unlock(lane.id, 1, word)
    assert other.get(key) == (b"another's" if gone else None)


def test_a_door_that_is_shut_gives_everybody_a_reason(world: World) -> None:
    world.door.tell("faults", {"status": 503, "status_share": 1.0, "delay_ms": 0})
    # Huawei's page: 503 of the OAuth door is flow control; whatever it is, it is not the
    # credential's fault
    found = {value for told in at_once(world, once) for value in told}
    assert found <= {"refused: throttled 503", "refused: unavailable busy"}


def test_tokens_lie_encrypted_in_redis(world: World) -> None:
    world.access().get(world.lane(), now_ms())
    client = connect(world.redis_url)
    names = client.scan_iter(match=f"{world.prefix}:*")
    (key,) = [key for key in names if client.type(key) == b"string" and b":forced" not in key]
    found = world.store().load(world.lane().id, 1)
    assert found
    assert found[0].encode() not in cast(bytes, client.get(key))
    assert client.pttl(key) > 0
