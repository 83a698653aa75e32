"""The step of a round that sends: at once where the lane's rate allows it, else in parts."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

from msgspec.structs import replace

from common.values import Value
from workers.delivery.lane import Lane
from workers.delivery.ports import DeliveryPorts
from workers.delivery.results import Granted
from workers.vendors.types import AccessToken
from workers.wire import HttpResponse, NoAnswer, Request


class Exchange(Value, frozen=True):
    """Requests with their answers. requests: how many were sent, second ones included."""

    granted: Granted
    answers: Sequence[HttpResponse | NoAnswer]
    requests: int


NO_EXCHANGE = Exchange((), (), 0)


def joined(parts: Sequence[Exchange]) -> Exchange:
    return Exchange(
        [one for part in parts for one in part.granted],
        [answer for part in parts for answer in part.answers],
        sum(part.requests for part in parts),
    )


def costs(granted: Granted, lane: Lane) -> list[int]:
    """The costs of the requests, in the unit of the lane's rate."""
    if lane.limits.rate_unit == "request" or lane.spec.request_tokens_max == 1:
        return [1] * len(granted)
    return [len(batch.items) for batch, _ in granted]


def requests_of(
    granted: Granted, lane: Lane, access: AccessToken | None, now_ms: int
) -> list[Request]:
    """The requests of a round that goes at once; from here on its pushes count as sent."""
    build = lane.spec.build
    requests = [build(batch, lane.credential, access) for batch, _ in granted]
    for _, works in granted:
        for work in works:
            work.sent_ms = now_ms
    return requests


def exchanged(
    granted: Granted, lane: Lane, access: AccessToken | None, ports: DeliveryPorts
) -> Exchange:
    """The requests sent, each once, and their answers."""
    return _answered(
        granted, requests_of(granted, lane, access, ports.now_ms()), lane, access, ports
    )


def _answered(
    granted: Granted,
    requests: Sequence[Request],
    lane: Lane,
    access: AccessToken | None,
    ports: DeliveryPorts,
) -> Exchange:
    answers = list(lane.send_many(ports.transport, requests, ports.deadline_s))
    second = _follow(granted, answers, lane, access, ports)
    return Exchange(granted, answers, len(requests) + second)


def _follow(
    granted: Granted,
    answers: list[HttpResponse | NoAnswer],
    lane: Lane,
    access: AccessToken | None,
    ports: DeliveryPorts,
) -> int:
    """Sends the second request where a first answer asks for one (vivo's list push); how many.

    Its answer replaces the first one's. The first request for several tokens pushes nothing by
    itself: when it is lost, no push was shown.
    """
    if lane.spec.follow is None:
        return 0
    second: dict[int, Request] = {}
    for index, ((batch, _), answer) in enumerate(zip(granted, answers, strict=True)):
        request = (
            lane.spec.follow(batch, answer, lane.credential, access)
            if isinstance(answer, HttpResponse)
            else None
        )
        if request is not None:
            second[index] = request
        elif isinstance(answer, NoAnswer) and len(batch.items) > 1:
            answers[index] = replace(answer, sent=False)
    if second:
        ports.observe(lane, [answers[index] for index in second])
        found = lane.send_many(ports.transport, list(second.values()), ports.deadline_s)
        for index, answer in zip(second, found, strict=True):
            answers[index] = answer
    return len(second)


def begun(
    granted: Granted, lane: Lane, access: AccessToken | None, ports: DeliveryPorts
) -> Future[Exchange]:
    """The same, answered on another thread: the next part must not wait for the last one's answers.

    What cannot be built raises here, and nothing of it has left.
    """
    requests = requests_of(granted, lane, access, ports.now_ms())
    return _parts_pool().submit(_answered, granted, requests, lane, access, ports)


@cache
def _parts_pool() -> ThreadPoolExecutor:
    """Parts of paced rounds."""
    return ThreadPoolExecutor(64, thread_name_prefix="paced")
