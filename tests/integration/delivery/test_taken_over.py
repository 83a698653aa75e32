"""A sender that stood still lets go of what another has taken over meanwhile."""

import time

from common.model import Urgency, Vendor
from common.storage.lane_queues import LaneQueues
from tests.integration.delivery.conftest import World, chat
from tests.waiting import eventually
from workers.gate import lane_terms
from workers.handlers.delivery import LaneSender
from workers.handlers.running_rounds import RunningRound


def test_what_another_has_taken_over_is_not_sent_any_more(world: World) -> None:
    assert isinstance(world.drain, LaneSender)
    queues, lane = world.runtime.lane_queues, world.lane
    queues.lease_ms = 100
    world.put([chat(1, urgency=Urgency.CHAT)])
    queues.pop(Vendor.MEIZU, dict.fromkeys(Urgency, 5), ())
    (taken,) = queues.take([(lane.id, Urgency.CHAT, lane_terms(lane), 10)], 15)
    running = RunningRound(taken, list(taken.entries), 10)
    world.drain.running._running[taken.word] = running
    time.sleep(0.2)
    other = LaneQueues(world.runtime.redis, world.runtime.keys)
    eventually(lambda: other.reap(Vendor.MEIZU))
    other.pop(Vendor.MEIZU, dict.fromkeys(Urgency, 5), ())
    (theirs,) = other.take([(lane.id, Urgency.CHAT, lane_terms(lane), 10)], 15)
    assert [entry.id for entry in theirs.entries] == [entry.id for entry in taken.entries]
    world.drain.running._kept(running)
    assert running.entries == []
    done = world.drain._threads.rounds_of(taken).send(taken, taken.entries, lane, 10, running.lost)
    assert [work.target.user for work in done.dropped] == ["u1"]
    assert world.accepted() == []
