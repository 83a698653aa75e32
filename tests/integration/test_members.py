"""A group is read whole, though its server is restarted between two pages."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
import redis

from common.contracts import Device, Message, decode_messages
from common.ledger_records import PageRecord, unpack_users
from common.model import Vendor
from common.ports import MemberPage
from common.storage.fanouts import Fanouts
from common.storage.keys import Keys
from common.storage.members import Members
from common.storage.presence import Presence
from common.storage.redis import connect
from tests.builders import stored_message
from tests.conftest import OwnValkey
from workers.handlers.presence import PresenceHandler
from workers.presence.offline_recipients import PAGES, chunks
from workers.queues.consumer import Commit

SIZE = 6_000


def message(**more: Any) -> Message:
    return stored_message("group:g", 1, **{"app": "A", "expires_at_ms": 2, **more})


def pages(
    members: Members, first: Message, between: dict[int, Callable[[], None]] | None = None
) -> list[tuple[str, ...]]:
    found = []
    more: Message | None = first
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
def test_a_group_is_read_whole_though_its_server_is_killed_between_two_pages(
    restartable_valkey: OwnValkey, after: int
) -> None:
    client = connect(restartable_valkey.url)
    client.config_set("appendfsync", "always")
    everybody = fill(client)

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


class Registry:
    """Everybody has one phone."""

    def of_people(
        self, people: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[Device, ...]]:
        phone = Device("phone", "ios", Vendor.APNS, "b", "t", None, None, None, None, 1)
        return dict.fromkeys(people, (phone,))

    def of_users(self, app: str, users: Sequence[str]) -> dict[str, tuple[Device, ...]]:
        return {
            user: own for (_, user), own in self.of_people([(app, user) for user in users]).items()
        }


def people_of(row: Any) -> list[str]:
    """Whom a record of presence is about."""
    return unpack_users(row.users) if isinstance(row, PageRecord) else [row.user]


def handler_of(client: redis.Redis, space: str, registry: Any) -> PresenceHandler:
    fanouts = Fanouts(client, Keys(f"push{space}"))
    return PresenceHandler(Members(client, "im:"), Presence(client, "im:"), registry, fanouts)


def committed(client: redis.Redis, commit: Commit) -> tuple[list[Message], list[Message]]:
    """Writes what a commit adds; the messages that go on at once, and those of a second look."""
    with client.pipeline(transaction=True) as pipe:
        for more in commit.extra:
            more(pipe)
        pipe.execute()
    return (
        [one for _, blob in commit.forward for one in decode_messages(blob)],
        [one for later in commit.deferred for one in decode_messages(later.blob)],
    )


def fan_out(
    client: redis.Redis, space: str, restarts: int, lost_commits: int, registry: Any = None
) -> list[str]:
    """Who of the group is told, or has a row, page by page: after the first of them all begins anew
    so often; so many commits come to nothing.
    """
    handler = handler_of(client, space, Registry() if registry is None else registry)
    todo, told = [message(expires_at_ms=2**50)], list[str]()
    while todo:
        away, commit = handler.look(todo)
        if lost_commits:
            lost_commits -= 1
            continue
        told += [who.user for one in away for who in one.recipients]
        todo, _ = committed(client, commit)
        told += [name for row in commit.rows for name in people_of(row)]
        if restarts:
            restarts -= 1
            todo = [msgspec.structs.replace(one, cursor_of="another") for one in todo]
    return told


@pytest.mark.parametrize(("restarts", "lost_commits"), [(0, 0), (3, 0), (2, 2)])
def test_nobody_is_told_twice_though_all_pages_come_again(
    redis_client: redis.Redis, space: str, restarts: int, lost_commits: int
) -> None:
    everybody = fill(redis_client, 1_500)
    told = fan_out(redis_client, space, restarts, lost_commits)
    assert sorted(told) == sorted(everybody)


class NoPhones(Registry):
    """Nobody has a phone: each has a row of presence and no push."""

    def of_people(self, people: Sequence[tuple[str, str]]) -> Any:
        return {}


@pytest.mark.parametrize(("restarts", "lost_commits"), [(0, 0), (3, 0), (2, 2)])
def test_nobody_without_a_phone_has_two_rows_though_all_pages_come_again(
    redis_client: redis.Redis, space: str, restarts: int, lost_commits: int
) -> None:
    everybody = fill(redis_client, 1_500)
    for user in everybody:  # nobody waits for a registration
        redis_client.hset(f"im:presence:{{A:{user}}}", "pc", f"foreground|windows|{2**50}")
    told = fan_out(redis_client, space, restarts, lost_commits, NoPhones())
    assert sorted(told) == sorted(everybody)


@pytest.mark.parametrize("comes", ["before", "beside", "after"])
def test_a_second_look_is_no_repeat_whenever_it_comes(
    redis_client: redis.Redis, space: str, comes: str
) -> None:
    """Nobody has a phone yet: each is looked at again, before or beside the next page or after the
    last.
    """
    everybody, handler = fill(redis_client, 1_500), handler_of(redis_client, space, NoPhones())
    todo, rows, pages_read = [message(expires_at_ms=2**50)], list[Any](), 0
    while todo:
        some, todo = (todo, []) if comes == "beside" else (todo[:1], todo[1:])
        pages_read += sum(not one.second_look for one in some)
        _, commit = handler.look(some)
        onward, looks = committed(redis_client, commit)
        rows += commit.rows
        todo = [*onward, *todo, *looks] if comes == "after" else [*looks, *onward, *todo]
    assert pages_read > 1
    assert Counter(name for row in rows for name in people_of(row)) == Counter(everybody)


def test_a_large_group_is_remembered_until_its_last_page(
    redis_client: redis.Redis, space: str
) -> None:
    """Each message to it would keep 41 bytes a member for a day."""
    fill(redis_client, 1_500)
    fan_out(redis_client, space, 1, 0)
    assert not list(redis_client.scan_iter(match=f"push{space}:*:fan:*"))


def test_a_group_is_forgotten_though_a_long_second_look_comes_with_its_last_page(
    redis_client: redis.Redis, space: str
) -> None:
    """That look goes on by pages, too: its next one is no page of the group."""
    everybody, handler = fill(redis_client, 1_500), handler_of(redis_client, space, NoPhones())
    todo, rows, together = [message(expires_at_ms=2**50)], list[Any](), False
    while todo:
        _, commit = handler.look(todo)
        onward, looks = committed(redis_client, commit)
        rows += commit.rows
        is_last = any(not one.second_look for one in todo) and all(
            one.second_look for one in onward
        )
        together |= is_last and bool(onward)
        todo = [*onward, *looks]
    assert together
    assert Counter(name for row in rows for name in people_of(row)) == Counter(everybody)
    assert not list(redis_client.scan_iter(match=f"push{space}:*:fan:*"))


def test_a_group_of_one_page_is_not_remembered(redis_client: redis.Redis, space: str) -> None:
    everybody = fill(redis_client, 100)
    assert set(fan_out(redis_client, space, 0, 0)) == everybody
    assert not list(redis_client.scan_iter(match=f"push{space}:*:fan:*"))
