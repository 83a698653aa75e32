"""Page by page it is known whether a message is for anybody."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import pytest

from common.contracts import Message, decode_messages
from common.model import Urgency
from common.ports import MemberPage
from tests.unit.routing.builders import group
from workers.handlers.intake import packed_messages
from workers.pipeline import READ
from workers.presence.offline_recipients import PAGES, is_for_nobody, page_for

CROWD = tuple(f"c{number}" for number in range(450))


@dataclass(frozen=True)
class Pages:
    """The members of every group, by page."""

    pages: Sequence[Sequence[str]]

    def page(
        self, _app: str, _group: str, cursor: int, _server: str | None, _count: int
    ) -> MemberPage:
        return MemberPage(list(self.pages[cursor]), (cursor + 1) % len(self.pages), "server")


def read(message: Message, pages: Sequence[Sequence[str]]) -> tuple[list[str], bool]:
    """All people of the message's pages, and whether it turns out to be for nobody."""
    people = list[str]()
    more: Message | None = message
    while more is not None:
        message = more
        users, more = page_for(message, Pages(pages))
        people += users
    return people, is_for_nobody(message, users, more)


@pytest.mark.parametrize(
    ("pages", "exclude", "left"),
    [
        ([()], (), []),
        ([("a", "b")], ("a", "b"), []),
        ([("a", "b"), ("c",)], ("a", "b", "c"), []),
        ([("a",), ("b",), ()], ("a", "b"), []),
        ([(), (), ()], (), []),
        ([("a", "b"), ("c",)], ("c",), ["a", "b"]),
        ([("a", "b"), ("c",)], ("a", "b"), ["c"]),
        ([("a",), ("b",), ("c",), ()], ("a", "c"), ["b"]),
    ],
)
def test_a_group_is_for_nobody_when_no_page_of_it_was_for_somebody(
    pages: list[tuple[str, ...]], exclude: tuple[str, ...], left: list[str]
) -> None:
    assert read(group(exclude=exclude), pages) == (left, not left)


@pytest.mark.parametrize("left", [(), CROWD[:1], CROWD[-1:], CROWD[200:210]])
def test_so_is_a_list_of_people(left: tuple[str, ...]) -> None:
    exclude = tuple(name for name in CROWD if name not in left)
    assert read(group(recipients=CROWD, exclude=exclude), [()]) == (list(left), not left)


def test_what_an_earlier_release_began_may_have_had_somebody() -> None:
    going_on = msgspec.structs.replace(group(exclude=("b",)), cursor=1, pages=1)
    assert read(going_on, [("a",), ("b",)]) == ([], False)
    assert read(going_on, [("a",), ("b",), ("b",)]) == ([], False)


def test_one_read_of_groups_that_name_nobody_is_for_a_bearable_number_of_people() -> None:
    """What is read is worked on at once: 76,000 people took more memory than a process may have,
    and longer than a lease lasts.
    """
    packs = packed_messages([group(message_id=f"m{number}") for number in range(160)])
    together = READ[list(Urgency).index(Urgency.GROUP)]
    most = max(len(decode_messages(blob)) for _, blob in packs)
    assert 1 < most * together * PAGES[0] <= 32_000
    # the next pages of a message are an entry of their own
    assert together * max(PAGES) <= 8_000
