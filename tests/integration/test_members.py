"""A group is read whole, though its server is restarted between two pages."""

from __future__ import annotations

import time
from collections import Counter

import pytest
import redis

from common.contracts import Conversation, Message, Sender
from common.ports import MemberPage
from common.storage.members import Members
from common.storage.redis import connect
from tests.conftest import OwnValkey
from workers.presence.stage import PAGES, chunks

SIZE = 6_000


def message(**more: object) -> Message:
    return Message(
        app="A",
        event_id="e",
        type="message.stored",
        message_id="m",
        ts_ms=1,
        received_ms=1,
        expires_at_ms=2,
        conversation=Conversation(type="group", id="g"),
        sender=Sender(id="boss"),
        **more,
    )


def pages(members: Members, first: Message, between: dict[int, object] | None = None) -> list[tuple[str, ...]]:
    found, more = [], first
    while more is not None:
        ((chunk, more),) = chunks([more], members)
        found.append(chunk.users)
        if between and len(found) in between:
            between[len(found)]()
    return found


def fill(client: redis.Redis, size: int = SIZE) -> set[str]:
    names = [f"u{number}" for number in range(size)]
    client.sadd("im:members:{A:g}", *names)
    return set(names)


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_group_is_read_whole_though_its_server_is_killed_between_two_pages(restartable_valkey: OwnValkey, after: int) -> None:
    client = connect(restartable_valkey.url)
    everybody = fill(client)
    time.sleep(1.2)  # the append-only file's second

    def killed() -> None:
        restartable_valkey.kill()
        restartable_valkey.restart()

    found = pages(Members(client, "im:"), message(), {after: killed})
    assert {user for page in found for user in page} == everybody


def test_pages_grow(redis_client: redis.Redis) -> None:
    everybody = fill(redis_client)
    found = pages(Members(redis_client, "im:"), message())
    assert {user for page in found for user in page} == everybody
    assert [len(page) // 100 * 100 for page in found[:3]] == list(PAGES)
    assert all(not [user for user, times in Counter(page).items() if times > 1] for page in found)


def test_people_that_an_event_names_go_by_pages_too() -> None:
    names = tuple(f"u{number}" for number in range(5_000))
    found = pages(None, message(recipients=names))  # type: ignore[arg-type]
    assert [len(page) for page in found] == [200, 500, 2_000, 2_000, 300]
    assert tuple(user for page in found for user in page) == names


def test_an_entry_of_an_older_version_goes_on_from_its_cursor(redis_client: redis.Redis) -> None:
    everybody = fill(redis_client)
    members = Members(redis_client, "im:")
    first = members.page("A", "g", 0, None, 500)
    assert isinstance(first, MemberPage)
    found = pages(members, message(cursor=first.cursor))
    assert {*first.users, *(user for page in found for user in page)} == everybody
    assert len([user for page in found for user in page]) < SIZE


def test_a_cursor_of_another_server_begins_anew(redis_client: redis.Redis) -> None:
    everybody = fill(redis_client)
    members = Members(redis_client, "im:")
    cursor = members.page("A", "g", 0, None, 500).cursor
    found = pages(members, message(cursor=cursor, cursor_of="another"))
    assert {user for page in found for user in page} == everybody
