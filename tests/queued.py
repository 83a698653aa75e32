"""Pushes in their lanes' queues, as routing leaves them."""

from collections.abc import Iterable

from common.contracts import AlikeBatch, Batch, Push, batch_of, encode
from common.model import Urgency, Vendor
from common.storage.delayed import as_new
from workers.runtime import Runtime


def packed(
    pushes: Iterable[Push],
    business_id: str,
    vendor: Vendor = Vendor.MEIZU,
    app: str = "demo",
    by_entry: bool = True,
) -> Batch:
    return Batch(
        app=app, vendor=vendor, business_id=business_id, pushes=tuple(pushes), by_entry=by_entry
    )


def queue(
    runtime: Runtime, batches: Iterable[Batch | AlikeBatch], urgency: Urgency = Urgency.CHAT
) -> None:
    """Each an entry of its own, in one transaction."""
    queue_each(runtime, [(one, urgency) for one in batches])


def queue_each(runtime: Runtime, urgent: Iterable[tuple[Batch | AlikeBatch, Urgency]]) -> None:
    """The same, each in the queue of its urgency."""
    new = []
    for one, urgency in urgent:
        general = batch_of(one) if isinstance(one, AlikeBatch) else one
        new.append(as_new(general, urgency, encode(one)))
    with runtime.redis.pipeline(transaction=True) as pipe:
        runtime.lane_queues.put(pipe, new)
        pipe.execute()
