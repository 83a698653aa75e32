"""The fleet's stages on a real cluster: events, presence and members of many slots, and the fleet's
own keys in one.
"""

import dataclasses
import inspect
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError

from common.config import SettingError
from common.model import Urgency, Vendor
from common.publisher import Publisher
from common.storage import keys
from common.storage.cluster import NOT_NOW_S, each
from common.storage.delayed import Later
from common.storage.keys import Keys, renamed
from common.storage.lane_entries import LaneCommit, LaneTerms, NewBatch
from common.storage.members import Members
from common.storage.redis import connect, connect_core
from tests.cluster import ValkeyCluster, valkey_cluster
from tests.integration.cluster.tls_door import tls_doors
from tests.integration.test_core_elsewhere import BY_PERSON, Core
from tests.waiting import wait_for
from workers.cli.worker import doors_of
from workers.handlers.intake import IntakeLoop
from workers.runtime import Runtime

#: Longer than RETRIES_MAX pauses together can be.
DOWN_S = 2.0
GIVEN = {"str": "a:b", "int": 7, "Vendor": Vendor.APNS, "Urgency": Urgency.CHAT}


def all_keys(made: Keys) -> list[str]:
    """Every key that Keys can make."""
    found = []
    for name, member in inspect.getmembers(Keys):
        if name.startswith("_") or name == "prefix":
            continue
        if isinstance(member, property):
            found.append(getattr(made, name))
        elif inspect.isfunction(member):
            parameters = list(inspect.signature(member).parameters.values())[1:]
            given = [GIVEN[one.annotation] for one in parameters]
            found.append(getattr(made, name)(*given))
    return [*found, *map(made.stream, (*keys.WORK_STREAMS, keys.LEDGER, keys.RECEIPTS))]


def test_all_keys_of_the_fleet_share_one_slot(runtime: Runtime) -> None:
    made = all_keys(runtime.keys)
    assert len(made) > 80
    assert {key_slot(key.encode()) for key in made} == {key_slot(b"{s0}")}
    assert len(set(made)) == len(set(all_keys(Keys("push")))), "on a cluster no two keys become one"


def test_on_one_server_the_keys_keep_their_names() -> None:
    plain, own = Keys("push"), Keys("push:{s0}")
    found = (plain.lane("a:apns:b"), plain.stream("presence:chat"))
    assert found == ("push:lane:a:apns:b", "push:{s0}:presence:chat")
    for one, other in zip(all_keys(plain), all_keys(own), strict=True):
        assert renamed(one.encode(), "push", "push:{s0}") == other.encode()
        assert renamed(other.encode(), "push:{s0}", "push") == one.encode()


def test_events_presence_members_and_all_scripts_before_delivery(runtime: Runtime) -> None:
    assert Core(runtime).group_through() == BY_PERSON


def test_several_streams_of_the_core_with_a_slot_each(runtime: Runtime, space: str) -> None:
    streams = tuple(f"im{space}:events{number}" for number in range(4))
    assert len({key_slot(stream.encode()) for stream in streams}) == 4
    spread = Runtime(dataclasses.replace(runtime.settings, event_streams=streams))
    consumer = IntakeLoop(streams, doors_of(spread))
    assert not consumer.once(block_ms=1)
    for stream in streams:
        publisher = Publisher(spread.settings.core_url, stream)
        publisher.publish({"v": 1, "id": stream, "type": "nothing.known", "app": "nobody"})
        publisher.close()
    while consumer.once(block_ms=10):
        pass
    for stream in streams:
        found = (spread.core.xlen(stream), spread.core.xpending(stream, "pushfleet")["pending"])
        assert found == (0, 0)
    letters = runtime.redis.xlen(runtime.keys.stream(keys.LEDGER))
    assert letters, "each became a dead letter"
    spread.close()


def test_a_lane_takes_sends_and_commits(runtime: Runtime) -> None:
    """The scripts of delivery: ready, take, lease of the rate, commit with marks, the delayed set
    and back.
    """
    queues, lane = runtime.lane_queues, "a:apns:b"
    with runtime.redis.pipeline(transaction=True) as pipe:
        queues.put(pipe, [NewBatch(lane, Urgency.CHAT, b"blob", 2, 1, 0)])
        pipe.execute()
    assert queues.pop(Vendor.APNS, dict.fromkeys(Urgency, 5), [])[0] == [(lane, Urgency.CHAT)]
    (taken,) = queues.take([(lane, Urgency.CHAT, LaneTerms(1, 100.0, 10.0), 500)], 15.0)
    assert taken.what == "go"
    assert queues.lease(taken, 2, 2, 15.0).tokens == 2
    commit = LaneCommit(ended=taken.entries, records=[b"record"], bytes_more=-4)
    commit.mark("done", [runtime.keys.claims("2026-01-01", "abcd")], "abcd", 60)
    assert queues.commit(taken, commit) == []
    assert not queues.waiting(lane)
    with runtime.redis.pipeline(transaction=True) as pipe:
        runtime.delayed.put(pipe, [Later(keys.presence(Urgency.CALL), b"later", 0)])
        pipe.execute()
    assert runtime.delayed.release_due() == {keys.presence(Urgency.CALL)}


def test_a_page_of_members_tells_whose_cursor_it_is(
    runtime: Runtime, cluster: ValkeyCluster, space: str
) -> None:
    key = f"im{space}:members:{{a:g}}"
    runtime.core.sadd(key, *(f"u{number}" for number in range(1_000)))
    page = Members(runtime.core, f"im{space}:").page("a", "g", 0, None, 100)
    assert page.server == cluster.owner(key).client.info("server")["run_id"]
    assert page.cursor
    begun_anew = Members(runtime.core, f"im{space}:").page(
        "a", "g", page.cursor, "another server", 100
    )
    assert set(begun_anew.users) == set(page.users)


def test_a_user_of_its_own_and_one_without_rights(cluster: ValkeyCluster, space: str) -> None:
    for node in cluster.nodes:
        node.say(
            "ACL",
            "SETUSER",
            space,
            "on",
            ">p@ss:w",
            "~*",
            "+@all",
            "-@dangerous",
            "+info",
            "+cluster|slots",
            "+cluster|shards",
        )
        user = space + "none"
        node.say(
            "ACL", "SETUSER", user, "on", ">p", "resetkeys", "-@all", "+ping", "+cluster|slots"
        )
    client = connect(cluster.url(f"{space}:p%40ss%3Aw"))
    assert client.set(f"{{s0}}{space}", b"1", px=1000)
    core = connect_core(cluster.url(f"{space}:p%40ss%3Aw"))
    assert core.xadd(f"im{space}:events", {"e": b"{}"})
    with pytest.raises(NoPermissionError):
        connect(cluster.url(f"{space}none:p")).set(f"{{s0}}{space}", b"1")
    client.close()
    core.close()


def test_one_node_behind_a_plain_url_is_refused_with_the_form(cluster: ValkeyCluster) -> None:
    plain = cluster.url().replace("redis+cluster", "redis").partition(",")[0]
    with pytest.raises(
        SettingError, match=r"cluster mode: its form is redis\+cluster://h1:6379,h2:6379"
    ):
        connect(plain)


def test_over_tls_the_nodes_are_verified() -> None:
    """The servers of the wheel know no TLS: each stands behind a door that does, and tells the
    door's address.
    """
    with (
        tls_doors(2) as doors,
        valkey_cluster(2, replicas=False, announced=[door.port for door in doors]) as plain,
    ):
        for door, node in zip(doors, plain.nodes, strict=True):
            door.behind = node.port
        login = plain.url().partition("://")[2].partition("@")[0]
        bare = f"rediss+cluster://{login}@127.0.0.1:{doors[0].port},127.0.0.1:{doors[1].port}"
        url = f"{bare}?ssl_ca_certs={doors[0].ca_file}"
        client, core, publisher = connect(url), connect_core(url), Publisher(url)
        assert client.set("{s0}", b"1")
        assert core.xadd("im:events", {"e": b"{}"})
        publisher.publish({"v": 1})
        assert core.xlen("im:events") == 2
        with pytest.raises(RedisConnectionError):
            connect(bare)
        for one in (client, core, publisher):
            one.close()


def test_a_command_outlasts_a_moment_in_which_the_cluster_is_down() -> None:
    """Longer than the pauses of a broken connection can be. The cluster is without a slot that
    nobody asks for, which is all it takes.
    """
    slot = key_slot(b"nobody's")
    with valkey_cluster(1, replicas=False) as alone, ThreadPoolExecutor(1) as beside:
        client, (node,) = connect(alone.url()), alone.nodes

        def whole_again() -> None:
            time.sleep(DOWN_S)
            node.say("CLUSTER", "ADDSLOTS", slot)

        node.say("CLUSTER", "DELSLOTS", slot)
        wait_for(lambda: "cluster_state:fail" in node.info(), "the cluster is down")
        done = beside.submit(whole_again)
        with client.pipeline(transaction=True) as pipe:
            pipe.set("{s0}", b"1")
            assert pipe.execute() == [True]
        assert client.get("{s0}") == b"1"
        done.result()
        client.close()


def test_a_cluster_that_stays_down_is_a_store_that_is_away() -> None:
    """Also where a node says so itself: a refusal would be something else. Two of three primaries
    are dead, and the one that lives refuses its own keys.
    """
    with valkey_cluster(3, replicas=False) as alone:
        client, core = connect(alone.url()), connect_core(alone.url())
        lives = alone.owner("{s0}")
        for node in alone.nodes:
            if node is not lives:
                node.kill()
        wait_for(lambda: "cluster_state:fail" in lives.info(), "the cluster is down")
        began = time.monotonic()
        with pytest.raises(RedisConnectionError, match="ClusterDownError"):
            client.set("{s0}", b"1")
        assert time.monotonic() - began > NOT_NOW_S
        with pytest.raises(RedisConnectionError, match="ClusterDownError"):
            core.get("{s0}")
        client.close()
        core.close()


def test_a_cluster_that_is_away_is_a_redis_error_for_everybody() -> None:
    """Also where redis-py raises what is none: who waits for a store that is away must know it."""
    with valkey_cluster(1, replicas=False) as alone:
        core, publisher = connect_core(alone.url()), Publisher(alone.url())
        alone.nodes[0].kill()
        with pytest.raises(RedisError):
            core.xlen("im:events")
        with pytest.raises(RedisError):
            each(core, lambda pipe: pipe.xlen("im:events"))
        with pytest.raises(RedisError):
            publisher.publish({"v": 1})
        with pytest.raises(RedisError):
            publisher.publish_many([{"v": 1}, {"v": 1}])
        with pytest.raises(RedisError):
            connect_core(alone.url())
        with pytest.raises(RedisError):
            connect(alone.url())
