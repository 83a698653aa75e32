"""A server that is restarted in the middle of a scan: its process hashes in another order then."""

from collections.abc import Callable
from typing import Any, ClassVar

import redis
from redis.connection import Connection

from common.storage.redis import connect
from tests.conftest import OwnValkey


class RestartConnection(Connection):
    """Kills the server and starts it again before some of the scans go on."""

    word = b""
    restart: ClassVar[Callable[[], None]]
    scans = restarts_left = 0

    def send_packed_command(self, command: Any, *args: Any, **options: Any) -> None:
        cls, parts = RestartConnection, [command] if isinstance(command, bytes) else command
        if cls.word in b"".join(parts):
            cls.scans += 1
            if cls.restarts_left and cls.scans % 4 == 2:
                cls.restarts_left -= 1
                cls.restart()
        super().send_packed_command(command, *args, **options)


def restarting(server: OwnValkey, scan: str, restarts: int) -> redis.Redis:
    """A client that restarts its server so often, each time before a scan of that kind goes on."""
    client = connect(server.url)
    client.config_set("appendfsync", "always")

    def restart() -> None:
        server.kill()
        server.restart()

    RestartConnection.word, RestartConnection.restart = f"\r\n{scan}\r\n".encode(), restart
    RestartConnection.scans, RestartConnection.restarts_left = 0, restarts
    options = client.connection_pool.connection_kwargs
    return redis.Redis.from_pool(
        redis.ConnectionPool(connection_class=RestartConnection, **options)
    )
