"""One account whose vendor's side hangs costs the vendor's other accounts nothing: it is tried
beside them.
"""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from common.config import Settings
from common.contracts import Push
from common.model import Urgency, Vendor, Verdict
from tests.builders import stored_credential
from tests.integration.delivery.conftest import chat, demo
from tests.queued import packed, queue
from tests.waiting import eventually
from workers.app import DELIVERY
from workers.delivery.results import Delivered
from workers.handlers.delivery import LaneSender
from workers.pipeline import Stages
from workers.runtime import Runtime
from workers.vendors.types import Outcome


class Hall:
    """A vendor's door. Account `slow` gets no answer before `open` is set; every other's pushes are
    taken. accepted: their tokens.
    """

    def __init__(self) -> None:
        self.open, self.held = threading.Event(), threading.Semaphore(0)
        self.accepted: list[str] = []
        hall = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                if form["appId"] == ["slow"]:
                    hall.held.release()
                    hall.open.wait(20)
                hall.accepted += form["pushIds"][0].split(",")
                body = b'{"code":"200","message":"","value":{},"redirect":"","msgId":"1"}'
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hall() -> Iterator[Hall]:
    made = Hall()
    yield made
    made.open.set()
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def runtime(own_settings: Callable[..., Settings], hall: Hall) -> Iterator[Runtime]:
    with demo(own_settings(ENDPOINT_MEIZU=hall.url, SEND_TIMEOUT_S="15")) as made:
        yield made


def account(runtime: Runtime, business_id: str, app_id: str) -> None:
    new = stored_credential("demo", Vendor.MEIZU, business_id, options={"app_id": app_id})
    runtime.credentials.add(new)
    runtime.catalog.changed()


def put(runtime: Runtime, business_id: str, number: int, urgency: Urgency = Urgency.CHAT) -> str:
    one = chat(number, urgency=urgency)
    pushes = [Push(note=one.note, targets=(one.target,))]
    queue(runtime, [packed(pushes, business_id)], urgency)
    return one.target.token


def test_a_lane_that_hangs_is_tried_beside_the_others(
    runtime: Runtime, hall: Hall, space: str
) -> None:
    slow, well = f"{space}s", f"{space}w"
    account(runtime, slow, "slow")
    account(runtime, well, "well")
    drain = Stages(runtime).consumer(DELIVERY, Vendor.MEIZU)
    assert isinstance(drain, LaneSender)
    lane = f"demo:meizu:{slow}"
    drain.running.silent.add(lane)  # its last round waited in vain
    hung = [put(runtime, slow, number) for number in range(2)]
    taken = [put(runtime, well, number) for number in range(10, 13)]
    drain(lambda: False)
    assert hall.held.acquire(timeout=10), "the slow one is asked"
    assert sorted(hall.accepted) == sorted(taken), "and nobody waited for it"
    late = put(runtime, slow, 3)
    drain(lambda: False)
    found = runtime.lane_queues.waiting(lane)
    assert found == 1, "one round at a time: what comes meanwhile is given back"
    hall.open.set()
    eventually(lambda: not runtime.lane_queues.any_left(), 60, lambda: drain(lambda: False))
    assert sorted(hall.accepted) == sorted([*taken, *hung, late])
    assert not drain.running.silent, "it answers again"


def test_a_lane_that_is_put_off_while_redis_is_away_holds_no_other_up(
    runtime: Runtime, hall: Hall, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, well = f"{space}s", f"{space}w"
    account(runtime, slow, "slow")
    account(runtime, well, "well")
    drain = Stages(runtime).consumer(DELIVERY, Vendor.MEIZU)
    assert isinstance(drain, LaneSender)
    drain.running.silent.add(f"demo:meizu:{slow}")
    put(runtime, slow, 0)
    drain(lambda: False)
    assert hall.held.acquire(timeout=10), "a round of the slow lane is at work: it has no second"
    refused = threading.Event()

    def away(*_: object) -> None:
        refused.set()
        raise RedisConnectionError("away")

    with monkeypatch.context() as patched:
        patched.setattr(runtime.lane_queues, "give_back", away)
        taken = [put(runtime, well, 10)]
        put(runtime, slow, 1, Urgency.CALL)
        drain(lambda: False)
        assert refused.is_set()
    eventually(lambda: hall.accepted == taken, 60, lambda: drain(lambda: False))
    assert [one.taken.lane for one in drain.running.own()] == [f"demo:meizu:{slow}"]


TOLD = {
    "none was answered": (["timeout"] * 3, True),
    "half of them were": (["timeout", "200"], True),
    "one was not": (["timeout", "200", "200"], False),
    "no access token came": (["access"], True),
    "refused at the door is an answer": (["503", "refused"], False),
    "nothing was asked": ([], True),
}


@pytest.mark.parametrize(("statuses", "silent"), TOLD.values(), ids=TOLD)
def test_a_lane_is_silent_after_a_round_that_mostly_waited_in_vain(
    runtime: Runtime, statuses: list[str], silent: bool
) -> None:
    deliveries, key = LaneSender(runtime, Vendor.MEIZU, 500, lambda: False), "demo:meizu:b"
    told = [
        (chat(number), Outcome(Verdict.UNCERTAIN, status)) for number, status in enumerate(statuses)
    ]
    if not told:
        deliveries.running.silent.add(key)
    deliveries.running.learn(key, Delivered(outcomes=told))
    assert (key in deliveries.running.silent) is silent
