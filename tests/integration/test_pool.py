"""The pool of connections: what is quiet is used again, what is not is connected anew first."""

import os
import select
from typing import Any

import pytest
import redis

from common.storage.redis import connect
from tests.waiting import eventually


def taken(client: redis.Redis) -> Any:
    pool: Any = client.connection_pool
    return pool.get_connection()


def asked(connection: Any, *command: str) -> Any:
    connection.send_command(*command)
    return connection.read_response()


def test_a_quiet_connection_is_used_again_and_a_second_one_made_beside_it(redis_url: str) -> None:
    client = connect(redis_url)
    pool: Any = client.connection_pool
    first, second = taken(client), taken(client)
    assert first is not second
    assert asked(first, "PING") == asked(second, "PING") == b"PONG"
    for one in (first, second):
        pool.release(one)
    pool.release(second)  # once more: it is nobody's
    assert {id(taken(client)), id(taken(client))} == {id(first), id(second)}
    client.close()


def test_connections_of_the_oldest_client_that_we_take_are_used_again(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py 6 knows neither of these."""
    client = connect(redis_url)
    first = taken(client)
    assert asked(first, "PING") == b"PONG"
    for kind in type(first).__mro__:
        for name in ("is_connected", "should_reconnect"):
            if name in vars(kind):
                monkeypatch.delattr(kind, name)
    client.connection_pool.release(first)
    assert taken(client) is first
    assert asked(first, "PING") == b"PONG"


def readable(connection: Any) -> bool:
    return bool(select.select([connection._sock], [], [], 0)[0])


@pytest.mark.parametrize("what", ["cut by the server", "an answer that nobody has read", "closed"])
def test_whoever_comes_next_gets_the_answers_to_its_own_questions(
    redis_url: str, redis_client: redis.Redis, what: str
) -> None:
    client = connect(redis_url)
    connection = taken(client)
    number = asked(connection, "CLIENT", "ID")
    if what == "cut by the server":
        redis_client.client_kill_filter(_id=number)
        eventually(lambda: readable(connection))
    elif what == "closed":
        connection.disconnect()
    else:
        connection.send_command("ECHO", "another's")
        eventually(lambda: readable(connection))
    client.connection_pool.release(connection)
    again = taken(client)
    assert asked(again, "ECHO", "mine") == b"mine"
    assert asked(again, "CLIENT", "ID") != number
    client.close()


def test_a_fork_leaves_its_parents_connections_alone(redis_url: str) -> None:
    client = connect(redis_url)
    number = client.client_id()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, str(client.client_id()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(read, 100)) != number
    assert client.client_id() == number
    client.close()
