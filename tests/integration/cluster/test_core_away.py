"""The core's keys on the fleet's own cluster, one primary of which is away: whom nobody can tell
anything of waits, and nobody else does.
"""

import contextlib
import dataclasses
import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from redis.exceptions import RedisError

from common.config import Settings
from common.storage.shards import shard_of_group
from tests.cluster import Node, ValkeyCluster
from tests.integration.cluster.test_shards_away import (
    SHARDS,
    Fleet,
    alone,
    people_of,
    wait_turning,
)
from tests.integration.conftest import opened
from tests.waiting import wait_for
from workers.app import PRESENCE, ROUTING
from workers.cli.worker import intake_loop
from workers.handlers.shard_part import AT_ONCE
from workers.pipeline import Stages
from workers.runtime import Runtime

__all__ = ["alone"]


@pytest.fixture
def fleet(keyed: Settings, redis_url: str, alone: ValkeyCluster) -> Iterator[Runtime]:
    """One process of eight shards, whose core has its keys on the same cluster."""
    urls = {"redis_url": alone.url(), "core_url": alone.url(), "broker_url": redis_url}
    with opened(dataclasses.replace(keyed, shards=SHARDS, **urls)) as found:
        yield found


@pytest.fixture
def victim(fleet: Runtime, alone: ValkeyCluster) -> Iterator[Node]:
    """Neither shard 0's nor the events'."""
    (stream,) = fleet.settings.event_streams
    needed = {alone.owner(key).port for key in ("{s0}", stream)}
    found = next(node for node in alone.nodes if node.port not in needed)
    yield found
    with contextlib.suppress(ProcessLookupError):
        found.send(signal.SIGCONT)
    alone.revive()
    wait_for(alone.healthy, "the cluster is whole")
    found.say("CONFIG", "SET", "cluster-require-full-coverage", "no")  # it has begun anew


class Town(Fleet):
    """is_ill: also who is well, but whose presence is not to be had."""

    def __init__(self, runtime: Runtime, alone: ValkeyCluster, victim: Node) -> None:
        super().__init__(runtime, alone, victim)
        app, prefix = self.core.app, self.core.prefix
        self.hidden = {
            user
            for user in self.people
            if alone.owner(f"{prefix}presence:{{{app}:{user}}}") is victim
        }
        assert any(not Fleet.is_ill(self, user) for user in self.hidden)

    def is_ill(self, user: str) -> bool:
        return user in self.hidden or super().is_ill(user)


@pytest.fixture
def town(fleet: Runtime, alone: ValkeyCluster, victim: Node) -> Town:
    return Town(fleet, alone, victim)


def back(how: signal.Signals, alone: ValkeyCluster, victim: Node) -> None:
    if how == signal.SIGKILL:
        alone.revive()
    else:
        victim.send(signal.SIGCONT)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_people_whose_presence_can_be_asked_do_not_wait_for_the_others(
    town: Town, alone: ValkeyCluster, victim: Node, how: signal.Signals
) -> None:
    intake, stages = intake_loop(town.runtime), Stages(town.runtime)
    first = town.chats(40)
    wait_turning(intake, lambda: set(first) <= set(town.rows(well=False)), "all are well")
    victim.send(how)
    sent = town.chats(2 * AT_ONCE)
    wait_turning(intake, lambda: town.well(sent) <= set(town.rows(well=True)), "the well go on")
    more = town.chats(40)
    began = time.monotonic()
    wait_turning(intake, lambda: town.well(more) <= set(town.rows(well=True)), "the well go on")
    assert time.monotonic() - began < 5, "nobody waits for the node once more"
    unseen = {one for one, user in {**sent, **more}.items() if user in town.hidden}
    assert not unseen & set(town.rows(well=True)), "nobody is guessed to be online or away"
    back(how, alone, victim)

    def all_have_rows() -> bool:
        with contextlib.suppress(RedisError, OSError):
            for one in town.runtime.shards:
                one.delayed.release_due()
            stages.consumer(PRESENCE)(lambda: False)
            return {*first, *sent, *more} <= set(town.rows(well=False))
        return False

    wait_turning(intake, all_have_rows, "all are decided")
    wait_turning(intake, lambda: not town.runtime.core.xlen(town.core.stream), "all is taken in")
    rows = town.rows(well=False)
    assert {rows[one] for one in (*first, *sent, *more)} == {1}


def name_at(alone: ValkeyCluster, town: Town, form: str, node: Node, *, well: bool) -> str:
    """A group's name whose key is on the node, or on another; its shard is well."""
    app = town.core.app
    names = (name for name in map(str, range(500)) if shard_of_group(SHARDS, app, name) == 0)
    own = (n for n in names if (alone.owner(form.format(f"{{{app}:{n}}}")) is not node) is well)
    return next(own)


@pytest.mark.parametrize("well", [True, False], ids=["members well", "members away"])
def test_a_group_reaches_the_members_of_whom_something_is_known_and_each_once(
    town: Town, alone: ValkeyCluster, victim: Node, well: bool
) -> None:
    """A page has members of whom nobody can tell now: they alone wait. Behind it a c2c chat goes
    on although nobody can tell the group's members.
    """
    core, members = town.core, [f"m{number}" for number in range(300)]
    form = core.prefix + "members:{}"
    group = name_at(alone, town, form, victim, well=well)
    town.runtime.core.sadd(form.format(f"{{{core.app}:{group}}}"), *members)
    presence = f"{core.prefix}presence:{{{core.app}:%s}}"
    unseen = {name for name in members if alone.owner(presence % name) is victim}
    intake, stages = intake_loop(town.runtime), Stages(town.runtime)
    wait_turning(intake, lambda: True, "it has begun")
    victim.kill()
    data = {"message_id": "m", "conversation": {"type": "group", "id": group}}
    words = {"sender": {"id": "boss"}, "elements": [{"type": "text", "text": "hi"}]}
    core.publish("message.stored", {**data, **words})

    def reached() -> Counter[str]:
        found = Counter[str]()
        for one in town.runtime.shards:
            with contextlib.suppress(RedisError, OSError):
                one.delayed.release_due()
                found.update(people_of(one))
        for stage in (PRESENCE, ROUTING):
            stages.consumer(stage)(lambda: False)
        return found

    seen = {name for name in members if not town.is_ill(name) and name not in unseen} - {
        name for name in members if not well
    }
    chats = town.chats(40)
    wait_turning(intake, lambda: town.well(chats) <= set(town.rows(well=True)), "chats go on")
    wait_turning(intake, lambda: seen <= set(reached()), "members whose presence is known")
    assert not unseen & set(reached()), "nobody is guessed"
    alone.revive()
    wait_for(alone.healthy, "the cluster is whole")
    wait_turning(intake, lambda: set(members) <= set(reached()), "all members")
    assert {reached()[name] for name in members} == {1}
