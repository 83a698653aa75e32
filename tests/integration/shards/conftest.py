"""A fleet of several shards in this process: real Redis, PostgreSQL and transport, and Meizu's
simulator behind it.
"""

import dataclasses
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import text

from common.config import Settings
from common.model import Urgency, Vendor
from common.storage.migrations import migrate
from common.storage.tenants import Tenant
from tests.builders import core_event, device_of, stored_credential
from tests.integration.delivery.conftest import brief_slices, meizu
from tests.integration.simulators.running import Running
from tests.waiting import eventually
from workers.app import DELIVERY, PRESENCE, ROUTING
from workers.cli.worker import intake_loop
from workers.maintenance.ledger_writer import LedgerWriter
from workers.maintenance.recalls import Recalls, ShardRecalls
from workers.maintenance.timer import ShardTimers
from workers.pipeline import Stages
from workers.runtime import Runtime
from workers.shards import any_left, backlog

__all__ = ["brief_slices", "meizu"]


def token_of(user: str) -> str:
    """A new token, 32 characters; its random part has no letters: a simulator reads words as `dead`
    as what becomes of it.
    """
    return f"{user}-{uuid.uuid4().int:039d}"[:32]


PEOPLE = [f"u{number}" for number in range(40)]


class ShardedFleet:
    """All workers of a fleet, turned by hand, and its core."""

    def __init__(self, runtime: Runtime, meizu: Running) -> None:
        self.runtime, self.meizu, self.app = runtime, meizu, "s" + uuid.uuid4().hex[:10]
        (self.stream,) = runtime.settings.event_streams
        migrate(runtime.engine)
        runtime.tenants.add(Tenant(self.app, "Shards", "en", "UTC"))
        self.lane("m1")
        self._made()

    def _made(self) -> None:
        runtime = self.runtime
        self.intake, self.stages = intake_loop(runtime), Stages(runtime)
        self.timers = [ShardTimers(runtime)]
        self.writers = [LedgerWriter(runtime, shards=runtime.shards)]
        joint = runtime.together and len(runtime.shards) > 1
        self.recalls: list[Recalls | ShardRecalls] = (
            [ShardRecalls(runtime)] if joint else [Recalls(one) for one in runtime.shards]
        )

    def reopened(self, shards: int) -> None:
        """The fleet with another number of shards."""
        self.runtime.close()
        self.runtime = Runtime(
            dataclasses.replace(self.runtime.settings, shards=shards), role="reshard"
        )
        self._made()

    def apart(self) -> None:
        """From now on its shards are treated as if each had a server of its own."""
        self.runtime.together = False
        self._made()

    def lane(self, business_id: str, **limits: Any) -> str:
        new = stored_credential(
            self.app, Vendor.MEIZU, business_id, rights=frozenset({"meizu.private"}), limits=limits
        )
        self.runtime.credentials.add(new)
        self.runtime.catalog.changed()
        return f"{self.app}:meizu:{business_id}"

    def pause(self, business_id: str, paused: bool) -> None:
        self.runtime.credentials.set_paused(self.app, Vendor.MEIZU, business_id, paused)
        self.runtime.catalog.changed()
        self.runtime.catalog.fresh()

    # ------------------------------------------------------------ the core

    def event(self, kind: str, data: dict[str, Any], event_id: str = "") -> dict[str, Any]:
        return core_event(self.app, kind, data, event_id=event_id or uuid.uuid4().hex)

    def publish(self, *events: dict[str, Any], packed: bool = False) -> None:
        lines = [json.dumps(event).encode() for event in events]
        with self.runtime.core.pipeline(transaction=False) as pipe:
            for line in [b"\n".join(lines)] if packed else lines:
                pipe.xadd(self.stream, {"b" if packed else "e": line})
            pipe.execute()

    def phone(self, user: str, business_id: str = "m1") -> dict[str, Any]:
        data = device_of(
            user, device_id=f"d-{user}", platform="android", vendor="meizu", business_id=business_id
        )
        return self.event("device.registered", {**data, "token": token_of(user)})

    def chat(self, user: str, message_id: str, **more: Any) -> dict[str, Any]:
        data = {
            "message_id": message_id,
            "conversation": {"type": "c2c", "id": "boss"},
            "sender": {"id": "boss"},
            "recipients": [user],
        }
        elements = [{"type": "text", "text": f"hello {message_id}"}]
        return self.event("message.stored", {**data, "elements": elements, **more})

    def group(self, group: str, message_id: str, **more: Any) -> dict[str, Any]:
        conversation = {"type": "group", "id": group}
        data = {"message_id": message_id, "conversation": conversation, "sender": {"id": "boss"}}
        elements = [{"type": "text", "text": f"hello {message_id}"}]
        return self.event("message.stored", {**data, "elements": elements, **more})

    def members(self, group: str, users: Sequence[str]) -> None:
        self.runtime.core.sadd(
            f"{self.runtime.settings.key_prefix}members:{{{self.app}:{group}}}", *users
        )

    # ------------------------------------------------------------ its workers

    def take_in(self, *events: dict[str, Any], packed: bool = False) -> None:
        """These, and all that is published."""
        if events:
            self.publish(*events, packed=packed)
        while self.intake.once(block_ms=10):
            pass

    def through(self, *events: dict[str, Any], packed: bool = False) -> None:
        """These are taken in and routed."""
        self.take_in(*events, packed=packed)
        self.route()

    def route(self) -> None:
        """Until nothing is on its way between the stages."""
        names = [f"{at}:{one}" for at in ("presence", "out", "routing") for one in Urgency]

        def turn() -> None:
            for timer in self.timers:
                timer.turn()
            for stage in (PRESENCE, ROUTING):
                self.stages.consumer(stage)(lambda: False)

        eventually(
            lambda: not any(b.unread + b.pending for b in backlog(self.runtime, names).values()),
            meanwhile=turn,
            what="the stages do not come to an end",
        )

    def send(self, until: Callable[[], Any]) -> None:
        def turn() -> None:
            for timer in self.timers:
                timer.turn()
            self.stages.consumer(DELIVERY, Vendor.MEIZU)(lambda: bool(until()))

        eventually(until, meanwhile=turn)

    def all_sent(self) -> None:
        self.send(lambda: not any_left(self.runtime))

    def write(self) -> None:
        for writer in self.writers:
            while writer.flush():
                pass

    def rows(self, message_id: str) -> dict[str, list[str | None]]:
        """The decisions of each person's rows."""
        self.write()
        sql = text(
            'SELECT l."user", l.decision FROM ledger_all l JOIN events e ON e.app = l.app '
            "AND e.event_id = l.event_id"
            " WHERE l.app = :app AND e.message_id = :m"
        )
        found: dict[str, list[str | None]] = {}
        with self.runtime.engine.connect() as connection:
            for user, decision in connection.execute(sql, {"app": self.app, "m": message_id}):
                found.setdefault(user, []).append(decision)
        return found

    def shown(self) -> Counter[str]:
        """How often each token was shown something."""
        return Counter(
            str(token) for line in self.meizu.simulator.record.lines() for token in _tokens(line)
        )


def _tokens(line: dict[str, Any]) -> list[str]:
    return [str(line.get("token") or line.get("pushId") or "")]


@pytest.fixture(params=[4])
def sharded(
    request: pytest.FixtureRequest, own_settings: Callable[..., Settings], meizu: Running
) -> Iterator[ShardedFleet]:
    where = {"ENDPOINT_MEIZU": meizu.base, "CA_FILE": str(meizu.ca)}
    wanted = own_settings(RETRY_FIRST_S="0.2", SEND_TIMEOUT_S="10", **where)
    settings = dataclasses.replace(wanted, shards=request.param)
    fleet = ShardedFleet(Runtime(settings, role="test"), meizu)
    yield fleet
    fleet.runtime.close()


@pytest.fixture
def peopled(sharded: ShardedFleet) -> ShardedFleet:
    """With a phone of each of PEOPLE."""
    sharded.take_in(*map(sharded.phone, PEOPLE))
    return sharded


@pytest.fixture(params=["together", "apart"])
def wherever(request: pytest.FixtureRequest, sharded: ShardedFleet) -> ShardedFleet:
    """Its shards on one server, and treated as if each had a server of its own."""
    if request.param == "apart":
        sharded.apart()
    return sharded
