"""A bell that rings while its drain is at work in another thread is heard when that one ends."""

from __future__ import annotations

import threading
import types
from collections.abc import Sequence

from common.model import Urgency, Vendor
from common.storage import keys
from common.storage.streams import Entry
from tests.integration.delivery.conftest import World, chat
from workers.app import DELIVERY, queue_of
from workers.pipeline import stores_of
from workers.queues.consumer import Policy, StreamConsumer


def test_a_bell_that_no_thread_had_time_for_silences_nobody(world: World) -> None:
    """Else the bell counts as ringing for two more seconds, nobody rings again, and what comes meanwhile lies there."""
    belts, queue, belt = world.runtime.belts, queue_of(DELIVERY, Vendor.MEIZU), keys.send(Vendor.MEIZU, Urgency.CHAT)
    finished: list[Entry] = []

    def handle(entries: Sequence[Entry]) -> None:
        finished.extend(entries)
        belts.hand_on(entries)
        if len(finished) == 1:
            assert belts.bell_is_ours(queue), "somebody puts something on the belt and rings"
            second = threading.Thread(target=drain, args=(lambda: False,))
            second.start()
            second.join(5)
            assert not second.is_alive(), "no vendor takes two threads"

    handler = types.SimpleNamespace(handle=handle)
    drain = StreamConsumer(handler, Policy(DELIVERY, {belt: 1}, Vendor.MEIZU), stores_of(world.runtime, DELIVERY, Vendor.MEIZU))
    world.put([chat(1, urgency=Urgency.CHAT)])
    drain(lambda: False)
    assert len(finished) == 1
    assert belts.bell_is_ours(queue), "whoever comes next may ring"
