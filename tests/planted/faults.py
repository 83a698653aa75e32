"""Faults that somebody could write tomorrow: what to change in the code, and which tests must
notice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


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


FAULTS: Final = (
    Fault(
        "acknowledges before it commits",
        "common/storage/commits.py",
        "            pipe.multi()\n            fill(pipe)\n            leave(pipe)\n",
        "            self._leave(leave)\n            pipe.multi()\n            fill(pipe)\n",
        (
            "tests/integration/test_commits.py",
            "tests/integration/test_consumer.py",
            "tests/chaos/test_streams.py",
        ),
    ),
    Fault(
        "writes what another reader has taken over",
        "common/storage/commits.py",
        "                if len(mine) < len(entries):",
        "                if len(mine) < 0:",
        ("tests/integration/test_commits.py",),
    ),
    Fault(
        "an entry's lease is not renewed while it is worked on",
        "workers/queues/lease_renewer.py",
        "        self._busy.set()\n",
        "",
        ("tests/integration/delivery/test_keeping.py", "tests/integration/test_consumer.py"),
    ),
    Fault(
        "tokens that were not used are not given back",
        "common/storage/lua/lane_commit.lua",
        "if unused[1] then",
        "if unused[9] then",
        ("tests/integration/lanes/test_leases.py", "tests/integration/delivery/test_rate.py"),
    ),
    Fault(
        "the scheduler forgets a lane that has more",
        "workers/handlers/delivery.py",
        "        return max(taken.due_ms, taken.now_ms) if taken.left else None\n",
        "        return None\n",
        ("tests/integration/delivery", "tests/integration/lanes/test_nothing_is_forgotten.py"),
    ),
    Fault(
        "the number of the last change of hands is ignored",
        "common/storage/leases.py",
        "        return self._keys[1]\n",
        '        return self._keys[1] + ":"\n',
        ("tests/integration/test_withdrawals.py", "tests/integration/test_maintenance.py"),
    ),
    Fault(
        "the address of the moment of routing is used",
        "workers/delivery/deliver.py",
        "        mine = done.add(late.addressed(mine, lane, ports.addresses))\n",
        "",
        ("tests/integration/delivery/test_late_binding.py",),
    ),
    Fault(
        "what is urgent does not go before what is not",
        "workers/handlers/lane_turns.py",
        "ahead = {one for one in at_work if one < rank} | passed_over",
        "ahead = set[int]()",
        ("tests/integration/delivery/test_order.py", "tests/integration/lanes"),
    ),
    Fault(
        "an urgent event does not overtake",
        "common/storage/lua/overtake.lua",
        "  if not can_wait(fields) then",
        "  if false then",
        ("tests/integration/test_overtaking.py",),
    ),
    Fault(
        "a ledger writer does not wait for the end of the one before",
        "common/storage/ledger.py",
        "                if fence is not None:\n                    _pass(cursor, fence)\n",
        "",
        ("tests/integration/test_ledger_own.py",),
    ),
    Fault(
        "a badge number is taken twice",
        "common/storage/lua/take_numbers.lua",
        "      local earlier = repeats and taken[place]\n",
        "      local earlier = nil\n",
        ("tests/integration/test_numbers.py", "tests/integration/lanes/test_takeover.py"),
    ),
    Fault(
        "a sender that stood still sends what another has taken",
        "common/storage/lua/take_numbers.lua",
        "  local mine = word == '' or holders[entry] == word\n",
        "  local mine = true\n",
        ("tests/integration/test_numbers.py", "tests/integration/lanes/test_takeover.py"),
    ),
    Fault(
        "plain commands take numbers of an entry that was taken before",
        "common/storage/usual_numbers.py",
        "        [next(taken) for _ in held].count(None) == held.count(word.encode()) == "
        "len(held)\n",
        "        [next(taken) for _ in held] is not None\n",
        ("tests/integration/test_numbers.py",),
    ),
    Fault(
        "the short way passes over a newer push in its place",
        "workers/delivery/usual.py",
        "        and note.collapse_id == note.message_id\n",
        "",
        ("tests/integration/delivery/test_usual.py",),
    ),
    Fault(
        "a number that nobody saw is not given back",
        "common/storage/lua/lane_commit.lua",
        "    uncount(key, mark[3], mark[4])\n",
        "",
        ("tests/integration/test_numbers.py", "tests/integration/lanes/test_takeover.py"),
    ),
    Fault(
        "two pages of a group make two pushes for one person",
        "common/storage/fanouts.py",
        "            pipe.sadd(key, *map(_digest, users))\n",
        "",
        ("tests/integration/test_members.py",),
    ),
    Fault(
        "a shard among others is looked at only once its lanes wait",
        "workers/handlers/shard_senders.py",
        "            if not -1 < dues[number % count] <= now:\n",
        "            if not 0 < dues[number % count] <= now:\n",
        ("tests/integration/shards/test_spread.py",),
    ),
    Fault(
        "one ledger writer for all shards reads the first one's stream only",
        "common/storage/shards.py",
        '        return [f"{number}|{stream}" for number in range(len(self._each))]\n',
        '        return [f"0|{stream}"]\n',
        ("tests/integration/shards/test_spread.py",),
    ),
)
