"""People who are away -> pushes, packed by lane and urgency."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from common import metrics
from common.clock import now_ms
from common.contracts import decode_offline, encode
from common.storage import keys
from common.storage.streams import Entry
from workers.app import DELIVERY
from workers.handlers.ledger_rows import AFTERTHOUGHTS, routing_row, to_ledger
from workers.handlers.replies import routing_replies
from workers.routing import stage as routing
from workers.runtime import Runtime

log = logging.getLogger(__name__)


def routing_entries(runtime: Runtime, entries: Sequence[Entry]) -> None:
    """People who are away -> pushes, packed by lane and urgency."""
    offline = [one for entry in entries for one in decode_offline(entry.blob)]
    now = now_ms()
    routed = routing.route(offline, runtime.routing, now)
    adds = [(keys.send(batch.vendor, urgency), encode(batch)) for urgency, batch in routed.batches]
    adds += to_ledger([routing_row(row, now) for row in routed.rows])
    told = routing_replies(routed.rows)
    runtime.belts.hand_on(entries, adds, lambda pipe: runtime.replies.tell(pipe, told))
    if routed.presets_missing:
        metrics.IGNORED.labels("unknown_strategy").inc(routed.presets_missing)
        log.warning("a message names a preset that is not stored: defaults are used", extra={"count": routed.presets_missing})
    for row in routed.rows:
        if row.message.kind not in AFTERTHOUGHTS:
            metrics.DECISIONS.labels(row.device.vendor, row.decision, "none").inc()
    for vendor in {batch.vendor for _, batch in routed.batches}:
        runtime.ring(DELIVERY, vendor)
