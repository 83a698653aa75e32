"""The metrics of requests to vendors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from prometheus_client import Counter, Histogram

from common import metrics
from common.model import Vendor
from workers.delivery.lane import Lane
from workers.wire import HttpResponse, NoAnswer, ResponseColumns


def observe(lane: Lane, answers: Sequence[HttpResponse | NoAnswer]) -> None:
    seconds: dict[int | str, list[float]] = {}
    for answer in answers.parts if isinstance(answers, ResponseColumns) else answers:
        if isinstance(answer, tuple):
            seconds.setdefault(200, []).append(answer[2])
        else:
            seconds.setdefault(
                answer.status if isinstance(answer, HttpResponse) else answer.reason, []
            ).append(answer.seconds)
    for status, taken in seconds.items():
        requests, histogram = _request_metrics(lane.vendor, status)
        requests.inc(len(taken))
        metrics.observe_all(histogram, taken)


@lru_cache(1024)
def _request_metrics(vendor: Vendor, status: int | str) -> tuple[Counter, Histogram]:
    """Kept: where a request carries one push, looking up the labels took longer than counting.
    Statuses are 500 at most a vendor.
    """
    return metrics.VENDOR_REQUESTS.labels(
        vendor, metrics.request_status(status)
    ), metrics.VENDOR_REQUEST_SECONDS.labels(vendor)
