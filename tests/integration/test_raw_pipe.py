"""The pipe that reads its answers by hiredis alone: what a server says besides answers is no
answer.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hiredis
import pytest
import redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.retry import Retry

from common.storage.presence import Presence
from common.storage.raw_pipe import command, execute_watched, raw_pipe, read_all
from common.storage.scripts import script
from tests.records import fields_of

HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"


@contextmanager
def server(answer: Callable[[list[bytes]], bytes]) -> Iterator[int]:
    """A server of Redis' protocol that lets a client in and answers its commands with these bytes;
    its port.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    wire, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=(wire,), daemon=True).start()

        def talk(wire: socket.socket) -> None:
            reader = hiredis.Reader()
            while data := wire.recv(65536):
                reader.feed(data)
                while (asked := reader.gets()) is not False:
                    name = asked[0].upper()
                    wire.sendall(
                        HELLO
                        if name == b"HELLO"
                        else b"+OK\r\n"
                        if name == b"CLIENT"
                        else answer(asked)
                    )

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


def client_of(port: int, **named: Any) -> redis.Redis:
    return redis.Redis("127.0.0.1", port, retry=Retry(NoBackoff(), 0), socket_timeout=5, **named)


@pytest.mark.parametrize(
    "words", ["LOADING Redis is loading the dataset in memory", "ERR max number of clients reached"]
)
def test_a_server_that_loads_its_data_is_away(words: str) -> None:
    """Else its word counts as the answer, breaks who reads it, and good pushes
    become dead letters.
    """
    with server(lambda _asked: f"-{words}\r\n".encode()) as port:
        client = client_of(port, protocol=2)
        with pytest.raises(redis.ConnectionError):
            Presence(client, "im:").sessions([("app", "ann"), ("app", "bob")])
        with pytest.raises(redis.ConnectionError), raw_pipe(client) as pipe:
            pipe.ask_each(command("GET", "a"), 1)
        client.close()


def test_a_read_is_tried_again_when_the_data_is_loaded() -> None:
    asked: list[list[bytes]] = []

    def answer(one: list[bytes]) -> bytes:
        asked.append(one)
        return b"-LOADING\r\n" if len(asked) < 3 else b"$1\r\n" + one[1] + b"\r\n"

    with server(answer) as port:
        client = redis.Redis(
            "127.0.0.1", port, retry=Retry(NoBackoff(), 3), socket_timeout=5, protocol=2
        )
        assert read_all(client, command("GET", "a"), 1) == [b"a"]
        client.close()


def test_what_a_server_tells_of_itself_is_nobodys_answer() -> None:
    """A notice between two answers would make each person's answer the next one's."""

    def answer(one: list[bytes]) -> bytes:
        return b">2\r\n$7\r\nWARNING\r\n:1\r\n" + b"$1\r\n" + one[1] + b"\r\n"

    with server(answer) as port:
        client = client_of(port, protocol=3)
        found = read_all(client, command("GET", "a") + command("GET", "b") + command("GET", "c"), 3)
        assert found == [b"a", b"b", b"c"]
        client.close()


@contextmanager
def watching(client: redis.Redis, key: str) -> Iterator[Pipeline]:
    """A MULTI that holds only while nobody changes the key."""
    with client.pipeline(transaction=True) as pipe:
        pipe.watch(key)  # type: ignore[no-untyped-call]
        pipe.multi()
        yield pipe


def test_what_a_watched_pipeline_holds_is_written_in_one_step(
    redis_client: redis.Redis, space: str
) -> None:
    key = f"{space}:key"
    lease = script(redis_client, "lease")
    with watching(redis_client, key) as pipe:
        pipe.xadd(f"{space}:stream", {"b": b"\r\n\xff"})
        pipe.hset(f"{space}:hash", mapping={"ü": 1, b"\0": "x"})
        lease(keys=[f"{space}:lease", f"{space}:epoch"], args=["me", 10_000], client=pipe)
        execute_watched(pipe)
    assert fields_of(redis_client, f"{space}:stream") == [{b"b": b"\r\n\xff"}]
    assert redis_client.hgetall(f"{space}:hash") == {"ü".encode(): b"1", b"\0": b"x"}
    assert redis_client.exists(f"{space}:lease")


def test_a_changed_key_ends_a_watched_pipeline_unwritten(
    redis_client: redis.Redis, space: str
) -> None:
    key = f"{space}:key"
    with watching(redis_client, key) as pipe:
        redis_client.set(key, "another's")
        pipe.set(f"{space}:other", "1")
        with pytest.raises(redis.WatchError):
            execute_watched(pipe)
    assert not redis_client.exists(f"{space}:other")


@pytest.mark.parametrize("words", [("SET", "{key}"), ("HSET", "{key}", "field", "value")])
def test_a_refused_command_of_a_watched_pipeline_is_raised(
    redis_client: redis.Redis, space: str, words: tuple[str, ...]
) -> None:
    """One that the server refuses when it comes, one that fails when it runs."""
    key = f"{space}:key"
    redis_client.set(key, "no hash")
    with watching(redis_client, key) as pipe:
        pipe.execute_command(*(word.format(key=key) for word in words))
        with pytest.raises(redis.ResponseError):
            execute_watched(pipe)
    assert redis_client.get(key) == b"no hash"


def test_a_connection_that_breaks_while_keys_are_watched_may_have_written() -> None:
    """The caller looks whose its entries are, and the next connection is a new one."""
    asked: list[bytes] = []

    def answer(words: list[bytes]) -> bytes:
        asked.append(words[0].upper())
        return b"-LOADING it loads\r\n" if words[0] == b"MULTI" else b"+OK\r\n"

    with server(answer) as port:
        client = client_of(port, protocol=2)
        with watching(client, "key") as pipe:
            pipe.set("a", "b")
            with pytest.raises(redis.WatchError):
                execute_watched(pipe)
        assert client.execute_command("GET", "c") == b"OK"
        client.close()
    # of two connections: which one the server reads from first is its own
    assert asked[:3] == [b"WATCH", b"MULTI", b"SET"]
    assert sorted(asked[3:]) == [b"EXEC", b"GET"]
