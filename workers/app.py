"""The Celery app: names of queues and tasks, and settings; no task of its own.

Celery carries wake-ups only: a message carries no data, may be lost and may come twice
(docs/architecture.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from common.config import Settings
from common.model import Vendor
from common.storage.redis import CONNECT_TIMEOUT_S, kombu_url

if TYPE_CHECKING:
    from celery import Celery

PRESENCE: Final = "presence"
ROUTING: Final = "routing"
DELIVERY: Final = "delivery"

#: Wake-ups are small and may be lost, so their connections are given up early: half-open ones hold
#: a worker for broker.WAIT_S and WAKE_UP_HEALTH_S at most (whole seconds, as kombu wants them).
WAKE_UP_TIMEOUT_S: Final = 2.0
WAKE_UP_HEALTH_S: Final = 3


def queue_of(stage: str, vendor: Vendor | str | None = None) -> str:
    """The queue of a stage's wake-ups: `presence`, `routing`, `delivery.<vendor>`.

    Raises ValueError for a stage without one.
    """
    if stage == DELIVERY and vendor is not None:
        return f"{DELIVERY}.{Vendor(vendor).value}"
    if stage not in (PRESENCE, ROUTING) or vendor is not None:
        raise ValueError(f"no such queue: {stage}")
    return stage


def task_of(stage: str) -> str:
    """The task of a stage's streams: `presence.drain`, `routing.drain`, `delivery.drain`.

    The last one's argument is the vendor.
    """
    if stage not in (PRESENCE, ROUTING, DELIVERY):
        raise ValueError(f"no such stage: {stage}")
    return f"{stage}.drain"


def queues() -> tuple[str, ...]:
    return (PRESENCE, ROUTING, *(queue_of(DELIVERY, vendor) for vendor in Vendor))


def _route(
    name: str, args: Sequence[object], kwargs: Mapping[str, object], *_: object, **__: object
) -> str | None:
    """Celery's router: a wake-up goes to its own stage's queue, a delivery's to its vendor's."""
    stage = name.removesuffix(".drain")
    if stage == DELIVERY:
        return queue_of(DELIVERY, str(args[0] if args else kwargs["vendor"]))
    return stage if stage in (PRESENCE, ROUTING) else None


def make_app(settings: Settings) -> Celery:
    """The app on the Redis of the wake-ups. settings: resolved, `embedded` is no URL. A process
    without wake-ups does not load Celery.
    """
    from celery import Celery  # noqa: PLC0415

    broker = kombu_url(settings.broker_url or settings.redis_url)
    app = Celery("pushfleet", broker=broker.url, set_as_current=False)
    app.conf.update(
        broker_transport=f"workers.broker:{broker.transport}",
        broker_transport_options={
            **broker.options,
            "ack_emulation": False,  # no record of what is a hint: upkeep sends lost ones again
            "global_keyprefix": f"{settings.prefix}:celery:",
            "socket_timeout": WAKE_UP_TIMEOUT_S,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_keepalive": True,
            "health_check_interval": WAKE_UP_HEALTH_S,
            "max_retries": 0,  # of a sender's connection: kombu would go on for CONNECT_TIMEOUT_S
        },
        broker_connection_retry_on_startup=True,
        broker_connection_retry=True,
        # Redis may be away for hours: a worker waits, supervisors are the second net
        broker_connection_max_retries=None,
        broker_connection_timeout=CONNECT_TIMEOUT_S,
        **_SERIALIZING,
        **_WORKING,
        task_queues=_task_queues(),
        task_create_missing_queues=False,
        task_routes=(_route,),
    )
    return app


def publish(app: Celery, stage: str, vendor: Vendor | str | None = None) -> None:
    """A wake-up through the broker. OSError: it did not take it; ResponseError: nor will it take
    this one.
    """
    from kombu.exceptions import KombuError  # noqa: PLC0415

    args = (str(vendor),) if stage == DELIVERY else ()
    try:
        app.send_task(
            task_of(stage),
            args=args,
            queue=queue_of(stage, vendor),
            retry=False,
            ignore_result=True,
        )
    except KombuError as error:
        if isinstance(error.__cause__, ResponseError):
            raise error.__cause__ from error
        raise ConnectionError(type(error).__name__) from error


def _task_queues() -> tuple[Any, ...]:
    from kombu import entity  # noqa: PLC0415

    kombu: Any = entity  # untyped
    exchange = kombu.Exchange("pushfleet", "direct")
    return tuple(kombu.Queue(name, exchange, routing_key=name) for name in queues())


_SERIALIZING: Final = {
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "result_accept_content": ["json"],
    "result_backend": None,
    "task_ignore_result": True,
    "task_store_errors_even_if_ignored": False,
}
_WORKING: Final = {
    "task_acks_late": False,  # a wake-up is a hint: what matters waits in the streams
    "worker_prefetch_multiplier": 1,
    "worker_enable_remote_control": False,
    "worker_send_task_events": False,
    "task_send_sent_event": False,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "enable_utc": True,
    "timezone": "UTC",
}
