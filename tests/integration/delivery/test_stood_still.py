"""A process that stood still right before its send, while another took its entries over and sent
them, sends none of them once more.
"""

import itertools
import os
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from common.contracts import Push
from common.model import Vendor
from tests.integration.delivery.test_together import (
    LANES,
    Apns,
    Fleet,
    production,
    push,
    runtime,
    sandbox,
)
from tests.queued import packed, queue
from workers.app import DELIVERY
from workers.delivery import late, pacing, usual
from workers.delivery.pacing import LeasedPace
from workers.handlers.delivery import LaneSender
from workers.handlers.joint_parts import GeneralPart, Wanted
from workers.handlers.joint_rounds import JointRounds
from workers.handlers.round_threads import RoundThreads
from workers.handlers.running_rounds import RunningRounds
from workers.maintenance.timer import Timer
from workers.pipeline import Stages
from workers.runtime import Runtime

__all__ = ["production", "runtime", "sandbox"]

PUSHES = 10
#: After so long a lease is renewed before a send.
LEASE_GOOD_MS = 300


@pytest.fixture(autouse=True)
def brief_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late, "LEASE_GOOD_MS", LEASE_GOOD_MS)


def chats(app: str) -> list[Push]:
    return [push(app, f"u{number}", token(app, number)) for number in range(PUSHES)]


def group(app: str) -> list[Push]:
    """One notification for many devices: it goes in columns."""
    first = push(app, "u", token(app, 0))
    targets = tuple(
        msgspec.structs.replace(
            first.targets[0], user=f"u{number}", token=token(app, number), push_id=f"{number:032x}"
        )
        for number in range(PUSHES)
    )
    return [msgspec.structs.replace(first, targets=targets)]


def token(app: str, number: int) -> str:
    return f"{app.encode().hex()}{number:02x}".rjust(64, "0")


#: Where a process stops: a method, and at which of its calls.
Place = tuple[type, str, int]
#: Of each way: how many lanes have work, what, the short paths or not, and where the process stops.
WAYS: dict[str, tuple[int, Callable[[str], list[Push]], bool, Place]] = {
    "many lanes, in columns": (LANES, group, True, (JointRounds, "_at_once", 1)),
    "many lanes, the general way": (LANES, chats, False, (JointRounds, "_at_once", 1)),
    "many lanes, one was looked at": (LANES, chats, False, (GeneralPart, "look", 2)),
    "one lane, in columns": (1, group, True, (LeasedPace, "part", 1)),
    "one lane, usual pushes": (1, chats, True, (LeasedPace, "part", 1)),
    "one lane, the general way": (1, chats, False, (LeasedPace, "part", 1)),
}


class Sender:
    """Another process with a delivery of its own, which stops itself at one call of one method. Its
    lease renewer never comes in time.
    """

    def __init__(self, runtime: Runtime, at: Place, lease_ms: int) -> None:
        self.pid = os.fork()
        if not self.pid:
            try:
                self._live(runtime, at, lease_ms)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "it has come to its send"

    @staticmethod
    def _live(runtime: Runtime, at: Place, lease_ms: int) -> None:
        (kind, method, number), calls, stood = at, itertools.count(1), threading.Event()
        goes_on = getattr(kind, method)

        def stops_once(*asked: Any) -> Any:
            if next(calls) == number:
                # at this very step: a signal to the process stops whichever thread gets it first,
                # and this one a moment later, which may be right behind the last check
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
                stood.set()
            return goes_on(*asked)

        setattr(kind, method, stops_once)
        # A lease that was late takes the lane's tokens, and the lane goes alone in a thread of its
        # own: the stop would meet that one wherever it is, also right behind its last look.
        pacing.ANSWER_S = 60.0
        slow = RoundThreads._slow

        def slow_after_the_stop(self: RoundThreads, one: Wanted, rest: Callable[[], Any]) -> None:
            slow(self, one, lambda: (stood.wait(20), rest())[1])

        RoundThreads._slow = slow_after_the_stop  # type: ignore[method-assign]
        RunningRounds._renew = lambda self: None  # type: ignore[method-assign]
        own = Runtime(runtime.settings)
        own.lane_queues.lease_ms = lease_ms
        drain = Stages(own).consumer(DELIVERY, Vendor.APNS)
        assert isinstance(drain, LaneSender)
        drain(lambda: False)
        end = time.monotonic() + 20
        while drain.running.own() and time.monotonic() < end:
            time.sleep(0.02)

    def goes_on(self) -> None:
        """Until it has ended its round."""
        pid, self.pid = self.pid, 0
        os.kill(pid, signal.SIGCONT)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    def close(self) -> None:
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def put(fleet: Fleet, apps: Sequence[str], pushes: Callable[[str], list[Push]]) -> None:
    queue(fleet.runtime, [packed(pushes(app), "ios", Vendor.APNS, app) for app in apps])


def sent(production: Apns) -> Counter[str]:
    return Counter(line["token"] for line in production.simulator.record.lines())


def taken_over(fleet: Fleet) -> None:
    """All that the stopped process holds is sent by this one, with upkeep beside it."""
    end, upkeep = time.monotonic() + 60, Timer(fleet.runtime)
    while fleet.runtime.lane_queues.any_left():
        assert time.monotonic() < end, "its leases end, and the work is done"
        fleet.runtime.lane_queues.reap(Vendor.APNS)
        upkeep.turn()
        fleet.drain(lambda: False)
        time.sleep(0.02)


@pytest.mark.parametrize("way", WAYS)
def test_what_another_has_sent_meanwhile_is_not_sent_by_who_stood_still(
    runtime: Runtime, production: Apns, space: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    lanes, pushes, short, at = WAYS[way]
    if not short:
        monkeypatch.setenv(usual.GENERAL_ONLY, "1")
    fleet = Fleet(runtime, space)
    apps = fleet.apps[:lanes]
    put(fleet, apps, pushes)
    stood = Sender(runtime, at, lease_ms=100)
    try:
        assert not sent(production)
        time.sleep(LEASE_GOOD_MS / 1000 + 0.2)
        taken_over(fleet)
        once = {token(app, number): 1 for app in apps for number in range(PUSHES)}
        assert sent(production) == once
        stood.goes_on()
    finally:
        stood.close()
    assert sent(production) == once
    assert {decision for _, _, decision, _, _ in fleet.rows()} == {"accepted"}


@pytest.mark.parametrize("way", WAYS)
def test_what_nobody_has_taken_over_is_sent_once_by_who_stood_still_or_after_it(
    runtime: Runtime, production: Apns, space: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    lanes, pushes, short, at = WAYS[way]
    if not short:
        monkeypatch.setenv(usual.GENERAL_ONLY, "1")
    fleet = Fleet(runtime, space)
    put(fleet, fleet.apps[:lanes], pushes)
    stood = Sender(runtime, at, lease_ms=runtime.lane_queues.lease_ms)
    try:
        time.sleep(LEASE_GOOD_MS / 1000 + 0.2)
        stood.goes_on()
    finally:
        stood.close()
    taken_over(fleet)  # what it left, as its part of the lane's rate was over by then
    assert set(sent(production).values()) == {1}
    assert len(sent(production)) == lanes * PUSHES
    assert not runtime.lane_queues.any_left()
