"""What Redis was asked while a test watched, in its own order."""

import threading
from typing import Any

from redis import Redis, RedisCluster
from redis.exceptions import RedisError

from common.model import Urgency
from common.storage.redis import connect
from tests.e2e.conftest import Core
from workers.runtime import Runtime


class Watch:
    """Every command that Redis takes while it is open, as text; of a cluster, that each primary
    and Celery's broker take.
    """

    def __init__(self, core: Core) -> None:
        whole: Any = core.redis
        self._servers: list[Redis] = (
            [
                *(whole.get_redis_connection(node) for node in whole.get_primaries()),
                connect(core.runtime.settings.broker_url or ""),
            ]
            if isinstance(whole, RedisCluster)
            else [whole]
        )
        self.commands: list[str] = []

    def __enter__(self) -> "Watch":
        self._monitors = [one.monitor() for one in self._servers]
        self._threads = [
            threading.Thread(target=self._listen, args=[one.__enter__()], daemon=True)
            for one in self._monitors
        ]
        for one in self._threads:
            one.start()
        return self

    def _listen(self, monitor: Any) -> None:
        try:
            for one in monitor.listen():
                self.commands.append(command := str(one["command"]))
                if command.startswith("ECHO over"):
                    return
        except (RedisError, OSError, ValueError):
            return

    def __exit__(self, *_: object) -> None:
        for server, thread, monitor in zip(
            self._servers, self._threads, self._monitors, strict=True
        ):
            server.echo("over")
            thread.join(10)
            monitor.__exit__(None, None, None)


def first_takes(watch: Watch, runtime: Runtime, lane: str) -> list[Urgency]:
    """The urgencies in the order in which a sender first took of each, after the lane has opened:
    what it decides, whatever a machine that stands still makes of the order in which requests
    arrive.
    """
    queues = {runtime.keys.lane_queue(lane, urgency): urgency for urgency in Urgency}
    opened, found = False, dict[Urgency, None]()
    for command in watch.commands:
        name, key, *_ = [*command.split(" "), ""]
        opened = opened or (name, key) == ("DEL", runtime.keys.lane(lane))
        if opened and name == "ZREM" and key in queues:
            found.setdefault(queues[key])
    return list(found)
