"""Random walks through admission agree with the model; ten and more planted faults do not."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from redis import Redis

from common.storage.keys import Keys
from common.storage.scripts import source
from tests.examples import LONG
from tests.integration.admission.machine import machine
from tests.tables import table

#: Walks of an ordinary run and of the long form (PUSHFLEET_TEST_LONG=1); steps of each; walks at
#: most until a fault is found.
WALKS = 2_500 if LONG else 200
STEPS, FAULT_WALKS = 25, 2_000


def walk(
    redis: Redis,
    space: str,
    read: Callable[[str], str],
    walks: int,
    *,
    find_from: int | None = None,
) -> None:
    """find_from: a seed; only whether there is a fault matters, not the shortest walk to it."""
    phases = (Phase.generate, Phase.shrink) if find_from is None else (Phase.generate,)
    walks_here = machine(redis, Keys(f"push{space}"), read)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        walks_here if find_from is None else seed(find_from)(walks_here),
        settings=settings(
            max_examples=walks,
            stateful_step_count=STEPS,
            deadline=None,
            phases=phases,
            database=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(900)
def test_every_walk_agrees_with_the_model(redis_client: Redis, space: str) -> None:
    walk(redis_client, space, source, WALKS)


#: name -> (seed, script, the right text, the fault). seed: where the first walks meet the fault, 0
#: where none is named; any other finds it too, after up to FAULT_WALKS walks.
FAULTS = table(r"""
    off by one | 1 | admit | count(name) + 1 <= quota[b] - kept | count(name) <= quota[b] - kept
    refund to today | 4 | refund
      | less(KEYS[1] .. name, BUCKETS[b]) | less(KEYS[1] .. string.format('%d', day), BUCKETS[b])
    day in UTC | 0 | admit | math.floor((now + offset) / 86400) | math.floor(now / 86400)
    cost forgotten | 0 | admit | 0 or cost / rate | 0 or 1 / rate
    a request pays for each of its pushes | 4 | admit
      | paid[request] and 0 or cost / rate | cost / rate
    rate paid on a quota refusal | 4 | admit
      | verdict = -1 | verdict = -1; ahead = ahead + cost / rate; note('t', now + ahead)
    clock back freezes | 2 | admit | if tat > now + lim + 1e-6 then | if false then
    a clamp that a refusal forgets | 2 | admit
      | tat = now + lim; note('t', tat) end | tat = now + lim end
    replay grants twice | 0 | admit
      | "if not again then\n        add(" | "if true then\n        add("
    refund twice | 0 | refund | redis.call('HDEL', held, id) | redis.call('EXISTS', held)
    cap for all devices together | 0 | admit
      | area, LETTERS[b] .. digest | '0000', LETTERS[b] .. KEYS[1]
    cap not given back | 1 | refund
      | less(KEYS[2] .. name .. ':' .. area, LETTERS[b] .. digest) | less(KEYS[2] .. name, digest)
    class mixed up | 4 | admit | add(BUCKETS[b] .. ':' .. class) | add(BUCKETS[b] .. ':0')
    bucket mixed up | 0 | admit | add(BUCKETS[b]) | add(BUCKETS[1])
    reserve ignored | 4 | admit
      | return count(name) + 1 <= quota[b] - kept | return count(name) + 1 <= quota[b]
    the vendor's word ignored | 1 | admit | if counts[name .. ':spent'] then return false end | ""
    Retry-After ignored | 0 | admit | now < hold and 0 or 3, 0 | 3, 0
    bulk does not step aside | 0 | admit | [2] = room_of(2, want[0] + want[1]) | [2] = lim
    groups step aside like bulk | 0 | admit | [1] = 0.5, | [1] = 0.75,
    a group's wait counts for nothing | 0 | admit
      | room_of(2, want[0] + want[1]) | room_of(2, want[0])
    who asks again is counted again | 1 | admit
      | math.max(want[level] - got[level], now | (want[level] - got[level]) + (now
    what was granted is still wanted | 1 | admit | want[level] - got[level] | want[level]
    wants never end | 0 | admit
      | left > 0 and left <= WAIT_MAX_MS / 1000 + GRACE_S and tonumber(cost) or 0
      | tonumber(cost or '0')
    bulk starves | 0 | admit | > STARVED_S then return lim end | > 1e12 then return lim end
    a waiting campaign holds up chats | 0 | admit | dry = level end | dry = 0 end
    a refusal blocks the others | 0 | admit | verdict = -2 | verdict = -2; dry = 0
""")


#: Those of an ordinary run, one of each kind; `make properties` plants all of them.
USUAL = ("off by one", "refund to today", "cap not given back", "reserve ignored", "bulk starves")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", FAULTS if LONG else USUAL)
def test_a_planted_fault_is_found(redis_client: Redis, space: str, name: str) -> None:
    start, script, right, wrong = FAULTS[name]
    assert source(script).count(right) == 1, "the fault has no place any more"

    def faulty(asked: str) -> str:
        return source(asked).replace(right, wrong) if asked == script else source(asked)

    with pytest.raises(AssertionError):
        walk(redis_client, space, faulty, FAULT_WALKS, find_from=start)
