"""Who lives: by a set of names, so that a look costs the same however many keys the server has."""

from common.storage.keys import Keys
from common.storage.living import NAMES_MAX, Heartbeats
from common.storage.shards import says_stop


def test_a_look_asks_for_the_fleets_names_only(redis_client, space):
    keys = Keys(f"push{space}")
    living = Heartbeats(redis_client, keys)
    with redis_client.pipeline(transaction=False) as pipe:
        for number in range(20_000):
            pipe.set(f"push{space}:ev:a:{number}", 1, px=60_000)
        pipe.execute()
    living.beat("intake.1", "intake", "h:1")
    living.beat("apns", "delivery:apns", None)
    before = redis_client.info("commandstats").get("cmdstat_scan", {}).get("calls", 0)
    assert living.roles() == {"apns": "delivery:apns", "intake.1": "intake"}
    assert living.targets() == {"intake.1": "h:1"}
    assert redis_client.info("commandstats").get("cmdstat_scan", {}).get("calls", 0) == before


def test_names_of_pods_that_are_gone_do_not_gather(redis_client, space):
    keys = Keys(f"push{space}")
    living = Heartbeats(redis_client, keys)
    for number in range(NAMES_MAX + 5):
        living.beat(f"pod-{number}", "intake", "h:1" if number == 0 else None)
        redis_client.delete(keys.alive(f"pod-{number}"), keys.at_work(f"pod-{number}"))
    living.beat("now", "intake", None)
    assert living.roles() == {"now": "intake"}
    found = redis_client.smembers(keys.process_names)
    assert found == {b"now", b"pod-0"}, "a target that is silent is still looked for"
    assert living.targets() == {"pod-0": "h:1"}


def test_a_heartbeat_is_told_whether_the_number_of_shards_changes(redis_client, space):
    keys = Keys(f"push{space}")
    living = Heartbeats(redis_client, keys)
    assert living.beat("intake.1", "intake", None) == (None, None)
    redis_client.set(keys.shards, 2)
    redis_client.hset(keys.resharding, "phase", "drain")
    told = living.beat("intake.1", "intake", None)
    assert told == (b"drain", b"2")
    found = [says_stop(told, stage, 2) for stage in ("intake", "routing", "console")]
    assert found == [True, False, False]
    assert says_stop((None, b"2"), "console", 1)
