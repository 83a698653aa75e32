"""Whoever sends a wake-up never hangs on its server, whatever that does; it comes when it can."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from common.model import Vendor
from common.storage.redis import connect
from tests.conftest import OwnValkey
from tests.waiting import eventually
from workers.app import DELIVERY, PRESENCE, ROUTING, queues
from workers.queues.wake_up_sender import SEND_WAIT_S, WakeUpSender
from workers.runtime import Runtime

#: What a busy machine may add.
SPARE_S = 0.5

TROUBLES: dict[str, tuple[Callable[[OwnValkey], None], Callable[[OwnValkey], None]]] = {
    "frozen": (OwnValkey.pause, OwnValkey.go_on),
    "killed": (OwnValkey.kill, OwnValkey.restart),
}


@pytest.fixture
def runtime(
    settings_with: Callable[..., object], restartable_valkey: OwnValkey
) -> Iterator[Runtime]:
    made = Runtime(settings_with(BROKER_URL=restartable_valkey.url))  # type: ignore[arg-type]
    yield made
    made.close()


def ring(runtime: Runtime) -> float:
    """Sends each queue's wake-up, as upkeep does; the seconds that it took."""
    wakes = [(PRESENCE, None), (ROUTING, None), *((DELIVERY, vendor) for vendor in Vendor)]
    for queue in queues():
        runtime.wakes.clear_wake_up(queue)  # as after WAKE_UP_MS
    began = time.monotonic()
    for stage, vendor in wakes:
        runtime.send_wake_up(stage, vendor)
    return time.monotonic() - began


def waiting(runtime: Runtime, server: OwnValkey) -> list[int]:
    """The number of wake-ups in each queue."""
    prefix = runtime.settings.prefix
    return [connect(server.url).llen(f"{prefix}:celery:{queue}") for queue in queues()]


@pytest.mark.parametrize(("begins", "ends"), TROUBLES.values(), ids=TROUBLES)
def test_no_sender_hangs_and_wake_ups_come_after_the_outage(
    runtime: Runtime,
    restartable_valkey: OwnValkey,
    begins: Callable[[OwnValkey], None],
    ends: Callable[[OwnValkey], None],
) -> None:
    ring(runtime)
    assert waiting(runtime, restartable_valkey) == [1] * len(queues())
    connect(restartable_valkey.url).flushall()
    begins(restartable_valkey)
    assert ring(runtime) < SEND_WAIT_S + SPARE_S
    assert [ring(runtime) < SPARE_S for _ in range(20)] == [True] * 20, "it is known to be away"
    ends(restartable_valkey)
    eventually(lambda: min(waiting(runtime, restartable_valkey)) > 0)
    assert max(waiting(runtime, restartable_valkey)) <= 2, "not one for each time it was sent"
    connect(restartable_valkey.url).flushall()
    ring(runtime)
    assert waiting(runtime, restartable_valkey) == [1] * len(queues()), "they are waited for again"


def test_a_sender_waits_no_longer_for_what_has_no_deadline() -> None:
    """As the look-up of a name."""
    answers, sent = threading.Event(), list[str]()

    def publish(stage: str, _vendor: Vendor | None) -> None:
        answers.wait()
        sent.append(stage)

    sender, began = WakeUpSender(publish), time.monotonic()
    for stage in [PRESENCE, ROUTING, ROUTING, PRESENCE]:
        sender.send(stage)
    assert time.monotonic() - began < SEND_WAIT_S + SPARE_S
    answers.set()
    eventually(lambda: len(sent) == 3)
    assert sent == [PRESENCE, ROUTING, PRESENCE], "each that came meanwhile, once"


def test_what_breaks_ends_no_sender() -> None:
    taken, broken = list[str](), [ValueError("a client's own fault"), OSError("away")]

    def publish(stage: str, _vendor: Vendor | None) -> None:
        if broken:
            raise broken.pop()
        taken.append(stage)

    sender = WakeUpSender(publish)
    sender.send(PRESENCE)
    sender.send(ROUTING)
    eventually(lambda: len(taken) == 2)
    assert taken == [ROUTING, PRESENCE], "what does not break waits for none that does"


def test_a_queue_that_takes_no_wake_up_holds_up_no_other(
    runtime: Runtime, restartable_valkey: OwnValkey
) -> None:
    client, (first, *others) = connect(restartable_valkey.url), queues()
    key = f"{runtime.settings.prefix}:celery:{first}"
    client.set(key, "no list")
    ring(runtime)
    rest = [f"{runtime.settings.prefix}:celery:{queue}" for queue in others]
    eventually(lambda: all(client.llen(name) for name in rest))
    client.delete(key)
    eventually(lambda: client.llen(key))


def test_a_machine_without_threads_is_no_error_and_sends_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = list[str]()
    sender = WakeUpSender(lambda stage, _vendor: taken.append(stage))

    def none_left(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as crowded:
        crowded.setattr(threading.Thread, "start", none_left)
        sender.send(PRESENCE)
    assert not taken
    sender.send(ROUTING)
    eventually(lambda: len(taken) == 2)
