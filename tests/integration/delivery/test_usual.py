"""The short way of usual rounds does what the general way does: the same requests, rows, numbers
and counts, whatever the round holds.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from common.clock import now_ms
from common.contracts import AlikeBatch, Batch, LikeRow, Push, batch_of, decode_batch
from common.model import MessageClass, Urgency, Vendor
from common.storage import counting
from common.storage.bindings import bound
from common.storage.keys import CALL
from common.storage.lane_entries import Taken
from tests.badge_counts import badge_of
from tests.integration.delivery.test_together import (
    LANES,
    Apns,
    Fleet,
    every_kind,
    production,
    push,
    runtime,
    sandbox,
    tell,
)
from tests.queued import packed, queue
from tests.tables import spaced
from tests.waiting import eventually
from workers.delivery import alike as packed_rounds
from workers.delivery import late, pacing, usual
from workers.delivery.lane import Lane
from workers.delivery.results import Delivered
from workers.gate import lane_terms
from workers.handlers.joint_rounds import JointRounds
from workers.runtime import Runtime

__all__ = ["production", "runtime", "sandbox"]


def chats(app: str, count: int = 3, **note: Any) -> list[Push]:
    return [push(app, f"u{number}", f"{number:064x}", **note) for number in range(count)]


class Two:
    """The same round on a lane of its own each: the short way, and the general one. whole, packed:
    rounds that were accepted as a whole in the short way, and the shortest.
    """

    def __init__(
        self, runtime: Runtime, production: Apns, word: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.runtime, self.production, self.monkeypatch = runtime, production, monkeypatch
        self.fleet = Fleet(runtime, word)
        self.whole = 0
        tried = usual.tried

        def counted(*asked: Any) -> Delivered:
            done = tried(*asked)
            self.whole += done.whole
            return done

        monkeypatch.setattr(usual, "tried", counted)
        self.packed, packed = 0, packed_rounds.tried

        def counted_packed(*asked: Any) -> Delivered | None:
            done = packed(*asked)
            self.packed += done is not None
            return done

        monkeypatch.setattr(packed_rounds, "tried", counted_packed)

    def send(
        self, app: str, batch: Batch | AlikeBatch
    ) -> tuple[list[Any], list[Any], list[Any], list[float]]:
        """Rows, requests, numbers and counts of one round."""
        before, lines = self._counts(), len(self.production.simulator.record.lines())
        general = batch_of(batch) if isinstance(batch, AlikeBatch) else batch
        pushes = general.pushes
        queue(self.runtime, [batch])
        self.fleet.work()
        rows = [row[1:] for row in self.fleet.rows() if row[0] == app]
        keys = self.runtime.keys
        users = sorted({target.user for push in pushes for target in push.targets})
        numbers = [badge_of(self.runtime.redis, keys, app, user) for user in users]
        left = list(self.runtime.redis.scan_iter(match=f"{keys.prefix}:*taken:*"))
        assert not left, "what was taken is forgotten with the entry"
        requests = sorted(self.production.simulator.record.lines()[lines:], key=str)
        told = [{name: value for name, value in one.items() if name not in OWN} for one in requests]
        return (
            rows,
            sorted(told, key=str),
            numbers,
            [after - was for after, was in zip(self._counts(), before, strict=True)],
        )

    def _counts(self) -> list[float]:
        found = []
        for name in (
            "pushfleet_decisions_total",
            "pushfleet_vendor_requests_total",
            "pushfleet_stored_to_accepted_seconds_count",
        ):
            collected = REGISTRY.collect()
            found.append(
                sum(one.value for metric in collected for one in metric.samples if one.name == name)
            )
        return found

    def agree(
        self, pushes: Callable[[str], Sequence[Push]], ways: Callable[[list[Any]], bool] = bool
    ) -> list[Any]:
        return self.agree_on(lambda app: packed(pushes(app), "ios", Vendor.APNS, app), ways)

    def agree_on(
        self, batch: Callable[[str], Batch | AlikeBatch], ways: Callable[[list[Any]], bool] = bool
    ) -> list[Any]:
        """The rows. ways: of the rows, whether `whole` and `packed` are as they must be."""
        first, second = self.fleet.apps[:2]
        short = self.send(first, batch(first))
        self.monkeypatch.setenv(usual.GENERAL_ONLY, "1")
        general = self.send(second, batch(second))
        self.monkeypatch.delenv(usual.GENERAL_ONLY)
        assert short == general
        ways_of = f"{self.whole} rounds went the short way, {self.packed} the shortest"
        assert ways(short[0]), ways_of
        return short[0]


#: Of a line of the simulator's record: what is each request's own.
OWN = set(spaced("at_ms id apns_id push_id topic_id expiration expires_at headers connection"))


@pytest.fixture(autouse=True)
def no_round_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round that took a second goes the general way, which a machine that stands still makes of
    any.
    """
    monkeypatch.setattr(late, "ADDRESS_GOOD_MS", 60_000)
    monkeypatch.setattr(late, "LEASE_GOOD_MS", 60_000)
    monkeypatch.setattr(pacing, "ANSWER_S", 60.0)


@pytest.fixture
def two(runtime: Runtime, production: Apns, space: str, monkeypatch: pytest.MonkeyPatch) -> Two:
    tell(production)
    return Two(runtime, production, space + "u", monkeypatch)


def alike(app: str, texts: Sequence[str], **like: Any) -> AlikeBatch:
    """Chats of two as intake packs them."""
    made, now = push(app, "u0", "0" * 64, **{"app_name": "Demo", **like}).note, now_ms()
    rows = [
        LikeRow(
            uuid.uuid4().hex,
            f"m{n}",
            "ann",
            now,
            now,
            now + 600_000,
            "Ann",
            text,
            "ann",
            f"u{n}",
            "d",
            f"{n:064x}",
            1,
            "1.2",
        )
        for n, text in enumerate(texts)
    ]
    return AlikeBatch(
        app=app,
        vendor=Vendor.APNS,
        business_id="ios",
        by_entry=True,
        platform="ios",
        like=made,
        rows=tuple(rows),
    )


def test_chats_as_they_were_packed_go_the_shortest_way(two: Two) -> None:
    rows = two.agree_on(
        lambda app: alike(app, ["hi", 'a "quoted" line\n', "会议", "x" * 600, "%s 100%"]),
        lambda _: two.packed == 1,
    )
    assert [row[1:3] for row in rows] == [("accepted", "200")] * 5


@pytest.mark.parametrize("what", ["read", "recalled", "moved", "dead", "again", "malformed", "own"])
def test_one_packed_chat_that_is_not_usual(two: Two, what: str) -> None:
    def made(app: str) -> AlikeBatch:
        batch, marks = alike(app, ["a", "b", "c"]), two.runtime.marks
        if what == "read":
            marks.read_up_to(app, "u1", "c2c:ann", now_ms() + 60_000)
        elif what == "recalled":
            marks.recall(app, "c2c:ann", "m1")
        elif what == "moved":
            marks.bindings.put([(app, "u1", "d", "-")])
        elif what == "again":  # the same token as it was routed to
            marks.bindings.put([(app, "u1", "d", bound("apns", "ios", f"{1:064x}", None))])
        token = {"dead": "dead" * 16, "malformed": "no token"}.get(what, f"{1:064x}")
        text = "b" * 5_000 if what == "own" else "b"
        rows = [
            msgspec.structs.replace(row, token=token, text=text) if row.user == "u1" else row
            for row in batch.rows
        ]
        return msgspec.structs.replace(batch, rows=tuple(rows))

    rows = two.agree_on(made)
    decisions = {
        "read": "read_elsewhere",
        "recalled": "recalled",
        "moved": "no_device",
        "dead": "token_dead",
        "malformed": "token_dead",
    }
    assert [row[1] for row in rows] == ["accepted", decisions.get(what, "accepted"), "accepted"]
    assert two.packed <= (what in ("again", "own", "dead"))


#: By the lane's number a token that the vendor does not take, or that can't be one.
ODD_TOKENS = {2: "dead" * 16, 3: "f0" * 32, 4: "no token"}


def odd_chats(number: int, app: str) -> list[AlikeBatch]:
    """Two entries of this lane; of lane 1 the second chats are too long for the form."""
    found = []
    for text in ("a", "b"):
        one = alike(app, [text, "x" * 5_000 if number == 1 else text])
        first = msgspec.structs.replace(
            one.rows[0], token=ODD_TOKENS.get(number, one.rows[0].token)
        )
        found.append(msgspec.structs.replace(one, rows=(first, *one.rows[1:])))
    return found


def told(runtime: Runtime, word: str) -> tuple[list[Any], list[Any]]:
    """Rows and numbers of `odd_chats`; one of the first lane's was recalled."""
    fleet = Fleet(runtime, word)
    runtime.marks.recall(fleet.apps[0], "c2c:ann", "m1")
    queue(runtime, [one for n, app in enumerate(fleet.apps) for one in odd_chats(n, app)])
    fleet.work()
    assert not list(runtime.redis.scan_iter(match=f"{runtime.keys.prefix}:*taken:*"))
    numbers = [badge_of(runtime.redis, runtime.keys, app, "u0").get(b"d:n") for app in fleet.apps]
    assert any(numbers)
    return [(app.removeprefix(word), *rest) for app, *rest in fleet.rows()], numbers


def test_packed_chats_of_many_lanes_go_together_as_each_does_in_the_general_way(
    runtime: Runtime, production: Apns, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(production)
    ready, in_columns = packed_rounds.prepared, list[int]()

    def prepared(rounds: Any, world: Any) -> Any:
        found = ready(rounds, world)
        in_columns.append(len(found) - found.count(None))
        return found

    monkeypatch.setattr(packed_rounds, "prepared", prepared)
    together = told(runtime, space + "t")
    assert max(in_columns) == LANES - 2, "all but those of which one push may not go"
    monkeypatch.setenv(usual.GENERAL_ONLY, "1")
    before = len(in_columns)
    assert told(runtime, space + "g") == together
    assert not any(in_columns[before:])
    decisions = Counter(row[2] for row in together[0])
    assert decisions["recalled"] == 2
    assert decisions["token_dead"] == 4
    assert None not in decisions


def test_a_round_whose_claims_do_not_fit_its_pushes_keeps_no_other_from_being_sent(
    runtime: Runtime, production: Apns, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rounds have taken their numbers, and each goes on in the general way."""
    fleet, claims_of, asked = Fleet(runtime, space + "c"), packed_rounds.claims_of, list[Any]()

    def one_short(one: Any) -> Any:
        asked.append(one)
        return claims_of(one)[: -1 if len(asked) == 1 else None]

    opened, kept = JointRounds._opened, list[Any]()

    def given_up(self: JointRounds, one: Any, packed: Any, known: dict[int, Any]) -> Any:
        before = dict(known)
        found = opened(self, one, packed, known)
        if found is None:
            kept.append(known.keys() - before)
        return found

    monkeypatch.setattr(JointRounds, "_opened", given_up)
    monkeypatch.setattr(packed_rounds, "_requests", lambda *_: None)
    monkeypatch.setattr(packed_rounds, "claims_of", one_short)
    queue(runtime, [alike(app, ["a", "b"]) for app in fleet.apps])
    fleet.work()
    assert len(asked) > 1
    assert kept == [set()], "its pushes' ids are other pushes' in a moment"
    assert Counter(row[2] for row in fleet.rows())["accepted"] >= 2 * (LANES - 1)


def page(app: str, count: int, **note: Any) -> Batch:
    """A page of a group: one notification to `count` devices."""
    made = push(app, "u0", "0" * 64, **{"title": "Team", **note})
    made = msgspec.structs.replace(
        made, note=msgspec.structs.replace(made.note, conversation_type="group")
    )
    targets = [
        msgspec.structs.replace(
            made.targets[0], user=f"u{n}", token=f"{n:064x}", push_id=f"{n:032x}"
        )
        for n in range(count)
    ]
    return packed([Push(note=made.note, targets=tuple(targets))], "ios", Vendor.APNS, app)


@pytest.mark.parametrize("words", ["hi", 'a "quoted" line\n', "会议", "x" * 5_000, "%s 100%"])
def test_a_page_of_a_group_goes_the_shortest_way(two: Two, words: str) -> None:
    rows = two.agree_on(lambda app: page(app, 9, body=words), lambda _: two.packed == 1)
    assert [row[1:3] for row in rows] == [("accepted", "200")] * 9


def test_few_devices_of_one_notification_are_built_one_by_one(two: Two) -> None:
    assert len(two.agree_on(lambda app: page(app, 3))) == 3
    assert not two.packed


@pytest.mark.parametrize("what", ["read", "recalled", "moved", "dead", "malformed", "again"])
def test_one_member_of_a_group_who_is_not_as_the_others(two: Two, what: str) -> None:
    def made(app: str) -> Batch:
        batch, marks = page(app, 9, message_id="m", collapse_id="m"), two.runtime.marks
        note = batch.pushes[0].note
        if what == "read":
            marks.read_up_to(app, "u1", f"group:{note.conversation_id}", now_ms() + 60_000)
        elif what == "recalled":
            marks.recall(app, f"group:{note.conversation_id}", "m")
        elif what == "moved":
            marks.bindings.put([(app, "u1", "d", "-")])
        odd: dict[str, dict[str, Any]] = {
            "dead": {"token": "dead" * 16},
            "malformed": {"token": "no token"},
            "again": {"again": "unavailable"},
        }
        targets = list(batch.pushes[0].targets)
        targets[1] = msgspec.structs.replace(targets[1], **odd.get(what, {}))
        pushes = (Push(note=note, targets=tuple(targets)),)
        return msgspec.structs.replace(batch, pushes=pushes)

    rows = two.agree_on(made, lambda _: two.packed == (what == "dead"))
    decisions = {"read": "read_elsewhere", "moved": "no_device"} | dict.fromkeys(
        ("dead", "malformed"), "token_dead"
    )
    others = "recalled" if what == "recalled" else "accepted"
    assert [row[1] for row in rows] == [others, decisions.get(what, others), *[others] * 7]


@pytest.mark.parametrize(
    "reason", ["InternalServerError", "TooManyRequests", "BadTopic", "PayloadTooLarge", "Unheard"]
)
def test_one_packed_chat_that_the_vendor_does_not_take(two: Two, reason: str) -> None:
    """The others' rows are written, this one waits, goes again or ends as in the general way;
    nothing is sent twice.
    """
    two.production.door("tokens", **{f"{1:064x}": {"reason": reason}})  # type: ignore[no-untyped-call]
    runtime, found = two.runtime, []

    def rows_of(app: str) -> list[Any]:
        return [row for row in two.fleet.rows() if row[0] == app]

    for app in two.fleet.apps[:2]:
        lines = len(two.production.simulator.record.lines())
        queue(runtime, [alike(app, ["a", "b", "c"]), alike(app, ["d"], title="")])
        two.fleet.drain(lambda app=app: len(rows_of(app)) == 4)  # type: ignore[misc]
        lane, keys = f"{app}:apns:ios", runtime.keys
        left = [
            [push.targets[0].user for push in decode_batch(cast(bytes, blob)).pushes]
            for blob in runtime.redis.hgetall(keys.lane_blobs(lane)).values()
        ]
        load = runtime.redis.hgetall(keys.lane_load(lane))
        assert not list(runtime.redis.scan_iter(match=f"{keys.prefix}:*taken:*"))
        numbers = [
            badge_of(runtime.redis, keys, app, f"u{number}").get(b"d:n") for number in range(3)
        ]
        rows = sorted((row[1], row[2], row[3].partition(",")[0], row[4]) for row in rows_of(app))
        word = load.get(b"w")
        found.append(
            (rows, left, word, numbers, len(two.production.simulator.record.lines()) - lines)
        )
        two.monkeypatch.setenv(usual.GENERAL_ONLY, "1")
    assert found[0] == found[1]
    assert [row[1] for row in found[0][0]].count("accepted") == 3
    assert two.packed <= 1, "a machine that stands still for a second makes it a general round"


def test_a_round_of_chats_goes_the_short_way(two: Two) -> None:
    rows = two.agree(chats, lambda _: two.whole == 1)
    assert [row[1:3] for row in rows] == [("accepted", "200")] * 3


@pytest.mark.parametrize("odd", range(3, 12), ids=lambda n: every_kind("a")[n].targets[0].user)
def test_one_push_that_is_not_usual_among_chats(two: Two, odd: int) -> None:
    def fit(rows: list[Any]) -> bool:  # once its words are cut
        return any(row[0] == "large" for row in rows)

    two.agree(lambda app: [*chats(app), every_kind(app)[odd]], lambda rows: two.whole == fit(rows))


def test_what_a_person_has_read_or_the_sender_recalled_meanwhile(two: Two) -> None:
    def stopped(app: str) -> list[Push]:
        two.runtime.marks.recall(app, "c2c:ann", "mu1")
        two.runtime.marks.read_up_to(app, "u2", "c2c:ann", now_ms() + 60_000)
        two.runtime.marks.end_call(app, CALL, now_ms())
        return chats(app)

    rows = two.agree(stopped)
    assert [row[1] for row in rows] == ["accepted", "recalled", "read_elsewhere"]


def test_a_device_that_has_another_token_by_now(two: Two) -> None:
    def moved(app: str) -> list[Push]:
        two.runtime.marks.bindings.put([(app, "u1", "d", "-")])
        return chats(app)

    assert [row[1] for row in two.agree(moved)] == ["accepted", "no_device", "accepted"]


def test_an_answer_that_says_come_later(two: Two) -> None:
    two.production.faults(status=503, status_share=0.5)  # type: ignore[no-untyped-call]
    for app in two.fleet.apps[:2]:
        queue(two.runtime, [packed(chats(app, 4), "ios", Vendor.APNS, app)])
        two.fleet.drain(lambda: False)
        two.monkeypatch.setenv(usual.GENERAL_ONLY, "1")
    rows = two.fleet.rows()  # when a push goes again is left to chance
    short, general = (
        [(row[2], row[3].partition(",")[0]) for row in rows if row[0] == app]
        for app in two.fleet.apps[:2]
    )
    assert sorted(short, key=str) == sorted(general, key=str)
    assert [row[0] for row in short].count(None) == 2, "they wait"


def test_an_entry_that_another_sender_took_over_meanwhile_is_not_written(
    runtime: Runtime, space: str, monkeypatch: Any
) -> None:
    fleet, tried = Fleet(runtime, space + "o"), usual.tried
    app = fleet.apps[0]
    batches = [packed(chats(app), "ios", Vendor.APNS, app) for _ in range(2)]
    holders = runtime.keys.lane_holders(f"{app}:apns:ios")

    def taken_over(works: Any, *more: Any) -> Delivered:
        done = tried(works, *more)
        assert done.whole
        runtime.redis.hset(holders, works[-1].entry, "other")
        return done

    monkeypatch.setattr(usual, "tried", taken_over)
    queue(runtime, batches)
    fleet.drain(lambda: False)
    assert [row[2] for row in fleet.rows()] == ["accepted"] * 3, (
        "the other entry's rows are the other sender's"
    )
    assert list(runtime.redis.hvals(holders)) == [b"other"]


NOTES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "body": st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
            "title": st.sampled_from(["", "Ann", "会议"]),
            "badge_increment": st.sampled_from([0, 1, 7, 99]),
            "message_class": st.sampled_from([MessageClass.CHAT, MessageClass.MARKETING]),
            "sound_ios": st.sampled_from([None, "none", "ring.caf"]),
            "ext": st.sampled_from([None, "{}"]),
            "collapse_id": st.sampled_from(["order"]),
        },
    ),
    min_size=1,
    max_size=5,
)


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(NOTES)
def test_any_round(two: Two, notes: list[dict[str, Any]]) -> None:
    for app in two.fleet.apps[:2]:  # as if nobody had been pushed to
        for number in range(len(notes)):
            two.runtime.redis.delete(two.runtime.keys.badges(app, f"u{number}"))
            counting.forget(two.runtime.redis, two.runtime.keys, app, f"u{number}")
    before = set(map(str, two.fleet.rows()))
    two.agree(
        lambda app: [
            push(app, f"u{number}", f"{number:064x}", **note) for number, note in enumerate(notes)
        ]
    )
    assert len(two.fleet.rows()) > len(before)


@pytest.mark.parametrize("shortest", [False, True])
def test_a_round_that_waits_a_moment_for_its_rate_goes_no_longer_way(
    two: Two, runtime: Runtime, shortest: bool
) -> None:
    """Another sender holds the lane's tokens until 38 ms beyond what may go early."""
    app, rate = two.fleet.apps[0], 1_000
    runtime.credentials.set_limits(app, "apns", "ios", {"rate": rate})
    runtime.catalog.changed()
    lane = runtime.catalog.fresh().lanes[app, Vendor.APNS, "ios"]
    terms = lane_terms(lane)
    queue(
        runtime,
        [alike(app, ["a", "b", "c"]) if shortest else packed(chats(app), "ios", Vendor.APNS, app)],
    )
    other = Taken(lane.id, Urgency.CHAT, "other", "go", 0, terms=terms)
    held = runtime.lane_queues.lease(other, int(terms.burst + 0.038 * terms.rate_per_s), 1, 15)
    two.fleet.work()
    assert [row[2] for row in two.fleet.rows()] == ["accepted"] * 3
    assert (two.packed, two.whole) == ((1, 0) if shortest else (0, 1))
    first_ms = min(line["at_ms"] for line in two.production.simulator.record.lines())
    assert first_ms >= int((held.last_s - held.lim_s) * 1000)


@pytest.mark.parametrize("general", [False, True])
def test_of_an_entry_longer_than_the_rate_nothing_is_taken_for_what_stays(
    runtime: Runtime, production: Apns, space: str, monkeypatch: pytest.MonkeyPatch, general: bool
) -> None:
    """Its sender dies at the first request, at 5 a second: 54 of 60 never left."""
    if general:
        monkeypatch.setenv(usual.GENERAL_ONLY, "1")
    runtime.lane_queues.lease_ms = 300
    fleet = Fleet(runtime, f"{space}r{general}")
    app = fleet.apps[0]
    runtime.credentials.set_limits(app, "apns", "ios", {"rate": 5})
    runtime.catalog.changed()
    queue(runtime, [alike(app, ["hi"] * 60)])

    def dies(*_: Any) -> Any:
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr(Lane, "send_many", dies)
        end = time.monotonic() + 0.5
        fleet.drain(lambda: time.monotonic() > end)
    for number in range(60):
        runtime.marks.recall(app, "c2c:ann", f"m{number}")
    eventually(lambda: runtime.lane_queues.reap(Vendor.APNS) == 1)
    runtime.credentials.set_limits(app, "apns", "ios", {"rate": 1_000})
    runtime.catalog.changed()
    fleet.work()
    assert Counter(row[2] for row in fleet.rows())["recalled"] >= 50
