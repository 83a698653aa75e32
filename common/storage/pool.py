"""redis-py's pool of connections, without the metrics and events that nobody takes here: they cost
as much CPU as a small command.
"""

from __future__ import annotations

from typing import Any

from redis.connection import ConnectionPool
from redis.exceptions import RedisError


class LeanPool(ConnectionPool):
    """A connection that is there and quiet is handed out and taken back at once, one that has
    something to say is closed; whatever else is the case is redis-py's, which would hand that out.
    """

    _available_connections: list[Any]
    _in_use_connections: set[Any]

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        del command_name, keys, options  # deprecated
        self._checkpid()
        with self._lock:
            if not self._available_connections:
                connection = None
            else:
                connection = self._available_connections.pop()
                self._in_use_connections.add(connection)
        if connection is None:
            return super().get_connection()
        try:
            if getattr(connection, "is_connected", True):  # before redis-py 8 can_read connects
                if not connection.can_read():
                    return connection
                connection.disconnect()  # an answer that its last user has not read
        except (RedisError, OSError):
            pass
        except BaseException:
            self.release(connection)
            raise
        self.release(connection)
        return super().get_connection()  # the same one, most likely: it is connected anew

    def release(self, connection: Any) -> None:
        self._checkpid()
        with self._lock:
            if (
                connection in self._in_use_connections
                and self.owns_connection(connection)
                and not getattr(connection, "should_reconnect", bool)()
            ):
                self._in_use_connections.remove(connection)
                self._available_connections.append(connection)
                return
        super().release(connection)
