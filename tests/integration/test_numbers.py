"""Badge numbers of pushes that go by their entry, on a real server: each taken once, whoever dies
with it or stands still.
"""

import itertools
import sys
import time
from collections.abc import Sequence
from typing import Any, cast

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import msgpack

from common.model import Urgency
from common.storage import counting, row_numbers, usual_numbers
from common.storage.badges import Badges
from common.storage.claims import Claims, ClaimState, Wanted
from common.storage.counting import FirstNumbers
from common.storage.keys import CALL, Keys
from common.storage.lane_entries import LaneCommit, LaneEntry, Taken
from common.storage.lane_queues import LaneQueues
from common.storage.marks import EventMarks
from common.storage.row_numbers import RowAsks
from tests.badge_counts import unspoken
from tests.integration.test_badges import STEPS
from tests.integration.test_marks import CHAT, STOPS, TS
from tests.processes import at_once

LANE, APP, USER = "demo:apns:b", "demo", "bob"
#: Its messages go to phones that have had no push yet.
GROUP = "group:g"
OURS, REVOKED, ELSEWHERE = int(ClaimState.OURS), int(ClaimState.REVOKED), int(ClaimState.ELSEWHERE)
_numbers = itertools.count()


class Sender:
    """One sender of one lane. entry, place: of the push that is asked for. usual: see Claims."""

    def __init__(
        self,
        client: redis.Redis,
        prefix: str,
        *,
        usual: bool = False,
        rows: bool = False,
        few: bool = False,
    ) -> None:
        self.client, self.keys, self.usual, self.rows = client, Keys(prefix), usual or rows, rows
        self.claims = Claims(client, self.keys, usual=self.usual)
        if not few:
            self.claims.few_max = 0
        self.badges, self.marks = Badges(client, self.keys), EventMarks(client, self.keys)
        self.queues = LaneQueues(client, self.keys)

    def ask(
        self,
        entry: str,
        place: int = 0,
        *,
        step: int = 1,
        counted: str = "",
        message: str = "",
        **other: Any,
    ) -> Wanted:
        more: dict[str, Any] = {
            "conversation": CHAT,
            "ts_ms": TS,
            "user": USER,
            "device": "phone",
        } | other
        name = message or f"m{next(_numbers)}"
        return (
            entry,
            place,
            APP,
            name,
            more["conversation"],
            more["ts_ms"],
            more["user"],
            more["device"],
            step,
            counted,
        )

    def take(
        self, *asks: Wanted, word: str = "", sends: bool = True
    ) -> list[tuple[int, int, str, str]]:
        if self.usual and not word:  # the plain commands are for entries that somebody holds
            word = f"w{next(_numbers)}"
            self.client.hset(
                self.keys.lane_holders(LANE), mapping=dict.fromkeys([ask[0] for ask in asks], word)
            )
        taken = self._by_rows(asks, word) if self.rows and word and sends else None
        if taken is not None:
            return taken
        return [
            cast(Any, tuple(one))
            for one in self.claims.take(self.keys.lane_holders(LANE), word, asks, sends=sends)
        ]

    def _by_rows(self, asks: Sequence[Wanted], word: str) -> list[tuple[int, int, str, str]] | None:
        """In columns, where the asks are whole entries of one step each that nothing was counted
        of.
        """
        entries: dict[str, list[Wanted]] = {}
        for ask in asks:
            entries.setdefault(ask[0], []).append(ask)
        whole = all(
            [one[1] for one in own] == list(range(len(own))) and len({one[8] for one in own}) == 1
            for own in entries.values()
        )
        if not whole or any(ask[9] or ask[4] == CALL or ask[2] != asks[0][2] for ask in asks):
            return None
        _, _, _, messages, conversations, times, users, devices, _, _ = zip(*asks, strict=True)
        sizes = [(name, len(own), own[0][8]) for name, own in entries.items()]
        holders = self.keys.lane_holders(LANE)
        told = (users, devices, conversations, messages, times)
        rows = RowAsks(*(self.keys, holders, word, asks[0][2], sizes), *told)
        lot = (rows, lambda bindings: len(bindings) == len(asks))
        (taken,) = self.claims.take_rows([lot])
        return None if taken is None else [(OURS, badge, "", counted) for badge, counted in taken]

    def number(self, entry: str, **ask: Any) -> int:
        ((state, badge, _, _),) = self.take(self.ask(entry, **ask))
        assert state == OURS
        return badge

    def commit(self, entry: str, counts: Sequence[str] = ()) -> None:
        """The entry ends; these of its counts were seen by nobody."""
        word = f"w{next(_numbers)}"
        name = f"{entry};1;1;1;1;1;1"
        self.client.hset(self.keys.lane_holders(LANE), name, word)
        commit = LaneCommit(ended=[LaneEntry(name, b"")], taken=[self.keys.taken(entry)])
        for count in counts:
            hashes = commit.share(counting.hashes_of(self.keys, counting.bucket_of(APP, USER)))
            commit.mark("uncount", [self.keys.badges(APP, USER)], "phone", count, hashes)
        assert self.queues.commit(Taken(LANE, Urgency.CHAT, word, "go", 0), commit) == []


@pytest.fixture(params=["script", "plain commands", "columns", "a few"])
def sender(request: pytest.FixtureRequest, redis_client: redis.Redis, space: str) -> Sender:
    return Sender(
        redis_client,
        f"push{space}",
        usual=request.param == "plain commands",
        rows=request.param in ("columns", "a few"),
        few=request.param == "a few",
    )


@pytest.mark.parametrize(("base", "steps", "shown"), STEPS.values(), ids=STEPS)
def test_a_number_is_the_base_and_what_was_pushed_since(
    sender: Sender, base: int | None, steps: tuple[int, ...], shown: list[int | None]
) -> None:
    if base is not None:
        sender.badges.report(APP, USER, "phone", TS, base)
    asks = [sender.ask("e", place, step=step) for place, step in enumerate(steps)]
    assert [badge for _, badge, _, _ in sender.take(*asks)] == [
        -1 if badge is None else badge for badge in shown
    ]


def test_who_takes_an_entry_over_counts_none_of_its_pushes_again(sender: Sender) -> None:
    """The planted fault `badge taken twice`."""
    asks = [sender.ask("e", place) for place in range(3)]
    assert sender.take(*asks) == [(OURS, number, "", "1@0") for number in (1, 2, 3)]
    assert sender.number("other") == 4
    assert sender.take(*asks) == [(OURS, 4, "uncertain", "1@0")] * 3, "each shows the number of now"
    sender.commit("e")
    assert sender.number("last") == 5


def test_what_its_dead_sender_had_not_come_to_is_new(sender: Sender) -> None:
    first, second = sender.ask("e", 0), sender.ask("e", 1)
    assert sender.take(first) == [(OURS, 1, "", "1@0")]
    assert sender.take(first, second) == [(OURS, 1, "uncertain", "1@0"), (OURS, 2, "", "1@0")]
    assert sender.claims.taken(["e", "f"]) == [{0: "1@0", 1: "1@0"}, {}]
    assert [why for _, _, why, _ in sender.take(first, second)] == ["uncertain"] * 2, (
        "both were taken by now"
    )


def test_places_that_are_far_apart_are_kept_apart(sender: Sender) -> None:
    sender.take(sender.ask("e", 7), sender.ask("e", 499, step=-1))
    assert sender.claims.taken(["e"]) == [{7: "1@0", 499: ""}]


def test_what_goes_again_stands_once_in_the_count_and_shows_the_number_of_now(
    sender: Sender,
) -> None:
    ((_, _, _, counted),) = sender.take(sender.ask("e", message="m"))
    sender.commit("e")  # it may be on the screen: its retry brings the count along
    assert sender.number("other") == 2
    assert sender.number("retry", message="m", counted=counted) == 2
    sender.badges.report(APP, USER, "phone", TS + 1, 0)  # the app was opened: a new count
    assert sender.take(sender.ask("again", message="m", counted=counted)) == [
        (OURS, 1, "", f"1@{TS + 1}")
    ]


def test_what_nobody_saw_leaves_its_number_to_the_next_also_when_it_is_written_twice(
    sender: Sender,
) -> None:
    ((_, _, _, counted),) = sender.take(sender.ask("e"))
    sender.commit("e", [counted])
    assert sender.number("f") == 1
    sender.badges.report(APP, USER, "phone", TS + 1, None)
    sender.commit("f", ["1@0"])
    assert sender.number("g") == 1, "what was counted before is not taken off the new count"


def test_a_sender_that_stood_still_takes_nothing_of_what_is_anothers(sender: Sender) -> None:
    sender.client.hset(sender.keys.lane_holders(LANE), "e", "other")
    found = sender.take(sender.ask("e"), sender.ask("gone"), word="mine")
    assert found == [(ELSEWHERE, -1, "", "")] * 2
    assert sender.claims.taken(["e", "gone"]) == [{}, {}]
    assert sender.number("f") == 1


@pytest.mark.parametrize(("stop", "why"), STOPS.values(), ids=STOPS)
def test_a_word_stops_the_push_takes_no_number_and_holds_after_a_death(
    sender: Sender, stop: Any, why: str
) -> None:
    app, user = "a", "u"
    other = {"user": user, "conversation": CALL if why == "call_ended" else CHAT}
    head = sender.ask("e", message="m1", **cast(Any, other))[:2]
    ask = (*head, app, *sender.ask("e", message="m1", **cast(Any, other))[3:])
    later = (*ask[:3], "m2", ask[4], TS + 60_000, *ask[6:])
    stop(sender.marks)
    for _ in range(2):  # it was not sent, so the second sender is not in doubt
        assert sender.take(ask) == [(REVOKED, -1, why, "")]
    assert sender.take(later) == [(OURS, 1, "", "1@0")]


@pytest.mark.parametrize(("stop", "why"), STOPS.values(), ids=STOPS)
def test_what_a_dead_sender_may_have_sent_is_uncertain_when_the_word_comes_after(
    sender: Sender, stop: Any, why: str
) -> None:
    ask = ("e", 0, "a", "m1", CALL if why == "call_ended" else CHAT, TS, "u", "d", 1, "")
    assert sender.take(ask) == [(OURS, 1, "", "1@0")]
    stop(sender.marks)
    assert sender.take(ask) == [(REVOKED, -1, "uncertain", "1@0")], "and it stays counted"


def test_a_call_that_ended_rings_again_later(sender: Sender) -> None:
    sender.marks.end_call(APP, "c1", TS)
    found = sender.take(sender.ask("e", message="c1", conversation=CALL, step=-1))[0][:3]
    assert found == (REVOKED, -1, "call_ended")
    later = sender.ask("e", message="c1", conversation=CALL, step=-1, ts_ms=TS + 1)
    assert sender.take(later)[0][0] == OURS


def test_a_look_without_sending_takes_and_notes_nothing(sender: Sender) -> None:
    assert sender.take(sender.ask("e", step=-1), sends=False) == [(OURS, -1, "", "")]
    assert sender.claims.taken(["e"]) == [{}]
    sender.take(sender.ask("e"))
    assert sender.take(sender.ask("e", step=-1), sends=False) == [(OURS, -1, "uncertain", "1@0")]


def test_more_than_one_call_holds(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.storage.claims.LEASE_MAX", 3)
    asks = [sender.ask("e", place) for place in range(8)]
    assert [badge for _, badge, _, _ in sender.take(*asks)] == list(range(1, 9))
    assert [(badge, why) for _, badge, why, _ in sender.take(*asks)] == [(8, "uncertain")] * 8


def test_a_count_is_prolonged_while_it_is_used_and_not_at_every_push(sender: Sender) -> None:
    """As long as the word beside it, which is that of an open app."""
    key = sender.keys.badges(APP, USER)
    sender.badges.report(APP, USER, "phone", TS, None)
    sender.number("e")
    assert sender.client.ttl(key) > 89 * 86_400
    sender.client.expire(key, 1_000)
    sender.number("f")
    assert sender.client.ttl(key) <= 1_000
    sender.client.hset(key, ":x", 1)
    sender.number("g")
    assert sender.client.ttl(key) > 89 * 86_400
    assert 0 < sender.client.ttl(sender.keys.taken("g")) <= 9 * 86_400


#: What one process does: `pushes` pushes to one device, some a call; the numbers it got, as JSON.
PUSHER = """
import json, sys
from common.storage.claims import Claims
from common.storage.keys import Keys
from common.storage.redis import connect
url, prefix, name, pushes, at_once = sys.argv[1], sys.argv[2], sys.argv[3], *map(int, sys.argv[4:])
keys, client = Keys(prefix), connect(url)
claims = Claims(client, keys, usual=name == "a")
sys.stdin.readline()  # until all are ready
got = []
for start in range(0, pushes, at_once):
    asks = [(f"{name}{start}", place, "demo", f"{name}{start + place}", "c2c:x", 1, "bob", "phone", 1, "") for place in range(at_once)]
    client.hset("holders" + prefix, f"{name}{start}", name)
    got += [badge for _, badge, _, _ in claims.take("holders" + prefix, name, asks, sends=True)]
print(json.dumps(got))
"""  # noqa: E501


def test_pushes_of_two_processes_use_each_number_once(
    sender: Sender, redis_url: str, space: str
) -> None:
    command = [sys.executable, "-c", PUSHER, redis_url, f"push{space}"]
    told = at_once([[*command, name, "300", "5"] for name in "ab"])
    assert sorted(number for numbers in told for number in numbers) == list(range(1, 601))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["take", "die", "seen", "unseen", "retry"])),
        max_size=20,
    )
)
def test_the_icon_shows_the_pushes_that_may_be_on_the_screen_whatever_dies(
    redis_client: redis.Redis, space: str, acts: list[tuple[int, str]]
) -> None:
    """Against the count by hand: entries of one push, taken, taken over, ended in view or unseen,
    tried again with what they carry.
    """
    sender = Sender(redis_client, f"push{space}{next(_numbers)}", usual=bool(next(_numbers) % 2))
    carried, held, shown, ended = dict.fromkeys(range(4), ""), set[int](), set[int](), set[int]()
    for entry, act in acts:
        if entry in ended:
            continue
        if act == "take" or (act == "die" and entry in held):
            ((_, badge, why, carried[entry]),) = sender.take(
                sender.ask(f"e{entry}", message=f"m{entry}", counted=carried[entry])
            )
            assert (why == "uncertain") == (entry in held)
            held.add(entry)
            shown.add(entry)
            assert badge == len(shown)
        elif entry in held:
            gives_back = act == "unseen"
            sender.commit(f"e{entry}", [carried[entry]] if gives_back else [])
            held.discard(entry)
            if gives_back:
                shown.discard(entry)
                carried[entry] = ""
            if act == "seen":
                ended.add(entry)
    assert sender.number("last") == len(shown) + 1


_WORLDS = st.lists(
    st.tuples(
        st.integers(0, 2),  # entry
        st.sampled_from(["bob", "ann", "zoë"]),
        st.sampled_from(["phone", "tablet"]),
        st.sampled_from([-1, 1, 7, 99]),
        st.sampled_from(["m1", "m2", "m3", "mä"]),
        st.sampled_from([CHAT, "", GROUP]),
        st.sampled_from([TS, TS + 60_000]),
    ),
    min_size=1,
    max_size=8,
)
_BEFORE = st.lists(
    st.sampled_from(["recall", "upto", "single", "base", "open", "own"]), unique=True
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(_WORLDS, _BEFORE)
def test_plain_commands_say_and_leave_what_the_script_does(
    redis_client: redis.Redis, space: str, pushes: list[tuple[Any, ...]], before: list[str]
) -> None:
    told, left = [], []
    for usual in (False, True):
        prefix = f"push{space}{next(_numbers)}"
        sender = Sender(redis_client, prefix, usual=usual)
        _before(sender, before)
        order = sorted(pushes, key=lambda push: push[0])
        asks: list[Wanted] = [
            (f"e{entry}", place, APP, message, conversation, ts, user, device, step, "")
            for place, (entry, user, device, step, message, conversation, ts) in enumerate(order)
        ]
        word = "w"
        redis_client.hset(
            sender.keys.lane_holders(LANE), mapping=dict.fromkeys([ask[0] for ask in asks], word)
        )
        if usual:
            part = (sender.keys.lane_holders(LANE), word, asks)
            assert usual_numbers.is_usual(asks)
            (numbers,) = usual_numbers.take(
                redis_client, sender.keys, FirstNumbers(redis_client), [part], 60
            )
            assert numbers is not None, "it is the plain commands that are compared"
            told.append(numbers)
        else:
            told.append(sender.take(*asks, word=word))
        record = sender.claims.taken(sorted({ask[0] for ask in asks}))
        told.append(sender.take(*asks, word=word))
        hashes = [
            redis_client.hgetall(sender.keys.badges(APP, user)) for user in ("bob", "ann", "zoë")
        ]
        kept = [
            redis_client.ttl(sender.keys.badges(APP, user)) > 0 for user in ("bob", "ann", "zoë")
        ]
        left.append((record, hashes, kept, unspoken(redis_client, prefix)))
    assert told[2:] == told[:2]
    assert left[0] == left[1]


def _before(sender: Sender, what: Sequence[str]) -> None:
    marks, badges = sender.marks, sender.badges
    acts = {
        "recall": lambda: marks.recall(APP, CHAT, "m1"),
        "upto": lambda: marks.read_up_to(APP, "bob", CHAT, TS + 1),
        "single": lambda: marks.read_message(APP, "ann", CHAT, "m2", TS),
        "base": lambda: badges.report(APP, "bob", None, TS, 5),
        "own": lambda: badges.report(APP, "bob", "phone", TS + 1, 2),
        "open": lambda: badges.report(APP, "zoë", "tablet", TS, None),
    }
    for one in what:
        acts[one]()


def test_a_push_alone_takes_its_number_in_six_commands(
    redis_client: redis.Redis, space: str
) -> None:
    """Their script among them; plain commands were twelve."""
    sender = Sender(redis_client, f"push{space}", rows=True, few=True)
    for entry in ("first", "second"):
        redis_client.hset(sender.keys.lane_holders(LANE), entry, "w")
        before = _commands(redis_client)
        assert sender.take(sender.ask(entry), word="w")[0][0] == OURS
        cost = _commands(redis_client) - before - 1  # the question for it
    assert cost <= 6
    assert sender.claims.taken(["second"]) == [{0: "1@0"}]
    other = sender.take(sender.ask("third"), word="w")
    assert other == [(ELSEWHERE, -1, "", "")], "nobody holds it: nothing is taken"


@pytest.mark.parametrize("way", [usual_numbers, row_numbers], ids=["plain commands", "columns"])
def test_an_entry_that_was_taken_between_two_writes_is_the_scripts(
    redis_client: redis.Redis, space: str, monkeypatch: Any, way: Any
) -> None:
    sender = Sender(redis_client, f"push{space}", usual=True, rows=way is row_numbers)
    numbered = way._numbered

    def taken_meanwhile(*args: Any) -> Any:
        other = Sender(redis_client, f"push{space}")
        assert other.take(sender.ask("e"), word="w") == [(OURS, 1, "", "1@0")]
        return numbered(*args)

    monkeypatch.setattr(way, "_numbered", taken_meanwhile)
    redis_client.hset(sender.keys.lane_holders(LANE), "e", "w")
    assert sender.take(sender.ask("e"), word="w") == [(OURS, 1, "uncertain", "1@0")], "counted once"


def test_a_sender_that_dies_before_it_noted_since_when_it_counts_is_not_counted_twice(
    redis_client: redis.Redis, space: str
) -> None:
    sender = Sender(redis_client, f"push{space}")
    sender.badges.report(APP, USER, "phone", TS, 3)
    assert sender.number("e") == 4
    redis_client.set(sender.keys.taken("e"), msgpack.encode({1: "1@?"}))
    assert sender.take(sender.ask("e")) == [(OURS, 4, "uncertain", f"1@{TS}")]


@pytest.mark.parametrize("way", ["plain commands", "columns"])
@pytest.mark.parametrize("spoken", [(), (3, 40, 97)], ids=["none of them", "but a few"])
def test_phones_of_which_no_word_is_known_share_the_commands_of_a_round(
    redis_client: redis.Redis, space: str, spoken: Sequence[int], way: str
) -> None:
    """Each was two commands; the first ones of a round make up to eight hashes, with their ends."""
    sender = Sender(redis_client, f"push{space}", usual=True, rows=way == "columns")

    def asks(entry: str) -> list[Wanted]:
        return [
            sender.ask(entry, place, user=f"u{phone}", conversation=GROUP, message="m")
            for place, phone in enumerate(range(100))
        ]

    for phone in spoken:
        sender.badges.report(APP, f"u{phone}", "phone", TS, 4)
    since = [TS if phone in spoken else 0 for phone in range(100)]
    for entry, most in (("e", 60), ("f", 28)):
        first, before = asks(entry), _commands(redis_client)
        taken = sender.take(*first)
        assert _commands(redis_client) - before <= most + (15 + 18 * len(spoken) if spoken else 0)
        badges = [(entry == "f") + (5 if phone in spoken else 1) for phone in range(100)]
        each = zip(badges, since, strict=True)
        assert taken == [(OURS, badge, "", f"1@{ts}") for badge, ts in each]
        assert sender.claims.taken([entry]) == [dict(enumerate([f"1@{ts}" for ts in since]))]


def test_of_a_first_count_that_is_given_back_nothing_is_left(
    redis_client: redis.Redis, space: str
) -> None:
    sender = Sender(redis_client, f"push{space}", usual=True)
    assert sender.number("a") == 1
    assert len(unspoken(redis_client, sender.keys.prefix)) == 1
    sender.commit("a", ["1@0"])
    assert not redis_client.exists(sender.keys.badges(APP, USER))
    assert not unspoken(redis_client, sender.keys.prefix)
    assert sender.number("b", device="tablet") == sender.number("c") == 1
    sender.commit("c", ["1@0"])
    assert sender.number("b2", device="tablet") == 2, "the other phone's stays"
    assert [sender.number("c2"), sender.number("c3")] == [1, 2]
    sender.commit("c3", ["1@0"])
    sender.badges.report(APP, USER, "phone", TS, 3)
    assert sender.number("d") == 4
    sender.commit("d", [f"1@{TS}"])
    assert sender.number("e") == 4


@pytest.mark.parametrize("goes", ["given back", "erased", "lost with its server"])
def test_a_hash_of_counts_that_was_gone_has_an_end_again(
    redis_client: redis.Redis, space: str, goes: str
) -> None:
    """Also for a process that knew that the one before had one."""
    sender = Sender(redis_client, f"push{space}", usual=True)

    def ends() -> list[int]:
        names = redis_client.scan_iter(match=f"{sender.keys.prefix}:{{s0}}:counts:*")
        return [redis_client.ttl(name) for name in names]

    assert sender.number("a") == 1
    if goes == "given back":
        sender.commit("a", ["1@0"])
    elif goes == "erased":
        counting.forget(redis_client, sender.keys, APP, USER)
    else:
        redis_client.delete(*redis_client.keys(f"{sender.keys.prefix}:*"))
    assert ends() == []
    twice = [sender.ask("b", place, message=f"b{place}") for place in (0, 1)]
    assert [badge for _, badge, *_ in sender.take(*twice)] == [1, 2]
    assert [one > 0 for one in ends()] == [True]


def test_a_count_lasts_eight_weeks_and_a_hash_of_counts_goes_before_it_ends(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hashes() -> list[int]:
        names = sender.client.scan_iter(match=f"{sender.keys.prefix}:{{s0}}:counts:*")
        assert all(84 * 86_400 < sender.client.ttl(one) <= 90 * 86_400 for one in list(names))
        found = sender.client.scan_iter(match=f"{sender.keys.prefix}:{{s0}}:counts:*")
        return sorted(int(name.split(b":")[-2]) for name in found)

    for period, number in ((700, 1), (701, 2), (703, 3), (703, 4), (705, 5), (708, 1)):
        monkeypatch.setattr(counting, "period_now", lambda period=period: period)
        assert sender.number(f"e{next(_numbers)}") == number
        assert period - 3 not in hashes(), "what is read no more is dropped by the next one"
    assert counting.KEEP_S > counting.KEPT * counting.PERIOD_S


def test_a_count_of_before_the_word_on_its_device_is_none_whatever_comes_after(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "period_now", lambda: 700)
    assert sender.number("a", device="phone") == sender.number("b", device="tablet") == 1
    assert sender.number("c", device="phone") == 2
    sender.badges.report(APP, USER, "phone", TS, 5)
    assert [sender.number("d"), sender.number("e", device="tablet")] == [6, 2]
    sender.badges.report(APP, USER, None, TS + 1, None)
    monkeypatch.setattr(counting, "period_now", lambda: 702)
    assert [sender.number("f"), sender.number("g", device="tablet")] == [6, 1]
    assert sender.client.ttl(sender.keys.badges(APP, USER)) > counting.KEEP_S - 60


def test_what_an_earlier_release_has_counted_and_goes_on_to_count_is_added(sender: Sender) -> None:
    """It knows the person's own hash only: also while both are at work, and after a way back."""
    own = sender.keys.badges(APP, USER)
    sender.client.hset(own, mapping={"phone:n": 3, ":x": int(time.time()) // 86_400})
    assert sender.number("a") == 4
    sender.client.hincrby(own, "phone:n", 2)
    assert sender.number("b") == 7
    sender.commit("b", ["1@0"])
    assert sender.number("c") == 7
    sender.client.hincrby(own, "phone:n", -3)
    assert sender.number("d") == 5
    sender.badges.report(APP, USER, None, TS, 0)
    assert sender.number("e") == 1


def _commands(client: redis.Redis) -> int:
    """Of all clients of the test's own server."""
    return int(client.info("stats")["total_commands_processed"])


@pytest.mark.parametrize("way", [usual_numbers, row_numbers], ids=["plain commands", "columns"])
def test_a_word_that_comes_between_the_look_and_the_writeunspoken(
    redis_client: redis.Redis, space: str, monkeypatch: Any, way: Any
) -> None:
    sender = Sender(redis_client, f"push{space}", usual=True, rows=way is row_numbers)
    numbered = way._numbered

    def told_meanwhile(*args: Any) -> Any:
        sender.badges.report(APP, USER, "phone", TS, 5)
        return numbered(*args)

    monkeypatch.setattr(way, "_numbered", told_meanwhile)
    redis_client.hset(sender.keys.lane_holders(LANE), "e", "w")
    ask = sender.ask("e", conversation=GROUP)
    assert sender.take(ask, word="w") == [(OURS, 6, "", f"1@{TS}")]


def test_two_devices_of_one_person_and_two_messages_to_one(sender: Sender) -> None:
    places = enumerate(["phone", "tablet"])
    asks = [sender.ask("e", place, conversation=GROUP, device=device) for place, device in places]
    assert [badge for _, badge, _, _ in sender.take(*asks)] == [1, 1]
    twice = [sender.ask("f", place, conversation=GROUP, device="watch") for place in range(2)]
    assert [badge for _, badge, _, _ in sender.take(*twice)] == [1, 2]


def test_of_who_is_erased_no_count_is_left_and_of_others_all(
    redis_client: redis.Redis, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = Sender(redis_client, f"push{space}", usual=True)
    for period in (700, 701):  # the second one shadows the first
        monkeypatch.setattr(counting, "period_now", lambda period=period: period)
        for user in ("b*b", "bob", "b*"):
            sender.number(f"{user}{period}", user=user)
            sender.number(f"{user}{period}-2", user=user, device="tablet")
    assert counting.forget(redis_client, sender.keys, APP, "b*b") == 4
    left = set(unspoken(redis_client, sender.keys.prefix))
    whose = {(one, device) for one in ("bob", "b*") for device in ("phone", "tablet")}
    assert left == {counting.field_of(APP, *one).encode() for one in whose}
