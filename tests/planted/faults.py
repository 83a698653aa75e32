"""Faults that somebody could write tomorrow: what to change in the code, and which tests must
notice.
"""

from dataclasses import dataclass
from typing import Final

from tests.tables import table


@dataclass(frozen=True, slots=True)
class Fault:
    """old: stands in `file` exactly once. tests: what pytest is given; at least one of them must
    fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


#: name | file | tests, below tests/ | old | new
TABLE: Final = r"""
    acknowledges before it commits | common/storage/commits.py
      | integration/test_commits.py integration/test_consumer.py chaos/test_streams.py
      | "pipe.multi()\n            fill(pipe)\n            leave(pipe)"
      | "self._leave(leave)\n            pipe.multi()\n            fill(pipe)"
    writes what another reader has taken over | common/storage/commits.py
      | integration/test_commits.py | if len(mine) < len(entries): | if len(mine) < 0:
    an entry's lease is not renewed while it is worked on | workers/queues/lease_renewer.py
      | integration/delivery/test_keeping.py integration/test_consumer.py
      | "        self._busy.set()\n" | ""
    tokens that were not used are not given back | common/storage/lua/lane_commit.lua
      | integration/lanes/test_leases.py integration/delivery/test_rate.py
      | if unused[1] then | if unused[9] then
    the scheduler forgets a lane that has more | workers/handlers/delivery.py
      | integration/delivery integration/lanes/test_nothing_is_forgotten.py
      | return max(taken.due_ms, taken.now_ms) if taken.left else None | return None
    the number of the last change of hands is ignored | common/storage/leases.py
      | integration/test_withdrawals.py integration/test_maintenance.py
      | return self._keys[1] | return self._keys[1] + ":"
    the address of the moment of routing is used | workers/delivery/deliver.py
      | integration/delivery/test_late_binding.py
      | "        mine = done.add(late.addressed(mine, lane, ports.addresses))\n" | ""
    what is urgent does not go before what is not | workers/handlers/lane_turns.py
      | integration/delivery/test_order.py integration/lanes
      | "ahead = {one for one in at_work if one < rank} \u007c passed_over" | ahead = set[int]()
    an urgent event does not overtake | common/storage/lua/overtake.lua
      | integration/test_overtaking.py | elseif step == 'take' then | elseif false then
    a ledger writer does not wait for the end of the one before | common/storage/ledger.py
      | integration/test_ledger_own.py
      | "                if fence is not None:\n                    _pass(cursor, fence)\n" | ""
    a badge number is taken twice | common/storage/lua/take_numbers.lua
      | integration/test_numbers.py integration/lanes/test_takeover.py
      | local earlier = repeats and taken[place] | local earlier = nil
    a sender that stood still sends what another has taken | common/storage/lua/take_numbers.lua
      | integration/test_numbers.py integration/lanes/test_takeover.py
      | local mine = word == '' or holders[entry] == word | local mine = true
    first numbers are taken of an entry that was taken before | common/storage/lua/take_first.lua
      | integration/test_numbers.py
      | if told_of > 0 and call('EXISTS', unpack(KEYS, 1, stops)) > 0 then return '' end | ""
    the short way passes over a newer push in its place | workers/delivery/usual.py
      | integration/delivery/test_usual.py
      | "        and note.collapse_id == note.message_id\n" | ""
    a number that nobody saw is not given back | common/storage/lua/lane_commit.lua
      | integration/test_numbers.py integration/lanes/test_takeover.py
      | "    uncount(mark[2], mark[3], mark[4], mark[5])\n" | ""
    two pages of a group make two pushes for one person | common/storage/fanouts.py
      | integration/test_members.py | "                pipe.sadd(key, *marks)\n" | ""
    who is looked at a second time counts as told | workers/presence/offline_recipients.py
      | integration/test_members.py | " and not chunk.message.second_look:" | ":"
    what is taken of a shard among others counts as the first one's | common/storage/joint_lanes.py
      | integration/shards/test_spread.py
      | "            taken.shard = number" | "            taken.shard = 0"
    one ledger writer for all shards reads the first one's stream only | common/storage/shards.py
      | integration/shards/test_spread.py
      | return [f"{number}|{stream}" for number in range(len(self._each))] | return [f"0|{stream}"]
"""
FAULTS: Final = tuple(
    Fault(name, file, old, new, tuple(f"tests/{one}" for one in tests.split()))
    for name, (file, tests, old, new) in table(TABLE).items()
)
