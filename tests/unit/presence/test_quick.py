"""The quick way of people without devices says what judge() says of each."""

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from common.ports import Session
from tests.unit.routing.builders import NOW_MS, device, message
from workers.presence.absence import judge
from workers.presence.offline_recipients import look

PHONE = device(device_id="phone")
SESSIONS = st.builds(
    Session,
    st.sampled_from(["phone", "web"]),
    st.booleans(),
    st.sampled_from(["ios", "web"]),
    st.sampled_from([None, NOW_MS, NOW_MS + 1]),
)
PEOPLE = st.lists(
    st.tuples(st.lists(SESSIONS, max_size=2), st.sampled_from([(), (PHONE,)])),
    min_size=2,
    max_size=12,
)


class World:
    """Presence and registry as they are given. ann, who sends, is one of the people."""

    def __init__(self, people: Sequence[tuple[list[Session], tuple[Any, ...]]]) -> None:
        self.people = {
            ("ann" if index == 0 else f"u{index}"): one for index, one in enumerate(people)
        }

    def sessions(self, people: Sequence[tuple[str, str]]) -> tuple[list[list[Session]], int]:
        return [self.people[user][0] for _, user in people], 0

    def of_people(self, people: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Any]:
        return {who: found for who in people if (found := self.people[who[1]][1])}


@given(PEOPLE, st.booleans())
def test_the_quick_way_is_the_usual_one(people: Any, second: bool) -> None:
    world: Any = World(people)
    one = message(recipients=tuple(world.people), second_look=second)
    seen = look([one], world, world, world, NOW_MS)
    wanted = {user: judge(one, user, *world.people[user]) for user in world.people}
    told: set[tuple[str, str | None, Any]] = {
        (user, None, part.decision) for part in seen.deviceless for user in part.users
    }
    told |= {(row.user, row.device.device_id, row.decision) for row in seen.rows}
    assert told == {
        (user, d and d.device_id, decision)
        for user, one in wanted.items()
        for d, decision in one.rows
    }
    away = {who.user: who for part in seen.offline for who in part.recipients}
    assert away == {user: one.away for user, one in wanted.items() if one.away is not None}
    waits = {user for part in seen.later for user in part.recipients or ()}
    assert waits == {user for user, one in wanted.items() if one.waits}
