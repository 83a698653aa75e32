"""Who lives: by a set of names, so that a look costs the same however many keys the server has."""

from __future__ import annotations

from common.storage.keys import Keys
from common.storage.living import NAMES_MAX, Heartbeats


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
    assert redis_client.smembers(keys.process_names) == {b"now", b"pod-0"}, (
        "a target that is silent is still looked for"
    )
    assert living.targets() == {"pod-0": "h:1"}
