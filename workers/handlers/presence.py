"""Messages -> those of their recipients who are away."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from common import metrics
from common.clock import now_ms
from common.contracts import OfflineRecipients, decode_messages, encode
from common.storage import keys
from common.storage.delayed import Later
from common.storage.streams import Entry
from workers.app import PRESENCE, ROUTING
from workers.handlers.ledger_rows import presence_row, to_ledger
from workers.presence import stage as presence
from workers.runtime import Runtime

#: People of one entry for routing: enough to be cheap, few enough to share among replicas.
PACK = 200


def presence_entries(runtime: Runtime, entries: Sequence[Entry]) -> None:
    """Messages -> those of their recipients who are away; pages of large groups go on behind the others."""
    messages = [message for entry in entries for message in decode_messages(entry.blob)]
    now = now_ms()
    seen = presence.look(messages, runtime.members, runtime.presence, runtime.devices, now)
    if seen.malformed:
        metrics.IGNORED.labels("malformed_presence").inc(seen.malformed)
    adds = [(keys.ROUTING, blob) for blob in _packed(seen.offline, lambda one: len(one.recipients))]
    adds += [(keys.PRESENCE, encode([message])) for message in seen.onward]
    adds += to_ledger([presence_row(row, now) for row in seen.rows])
    later = [Later(keys.PRESENCE, encode([message]), now + presence.SECOND_LOOK_MS) for message in seen.later]
    runtime.belts.hand_on(entries, adds, lambda pipe: runtime.delayed.put(pipe, later))
    for row in seen.rows:
        metrics.DECISIONS.labels(row.device.vendor if row.device else "none", row.decision, "none").inc()
    if seen.offline:
        runtime.ring(ROUTING)
    if seen.onward:
        runtime.ring(PRESENCE)


def _packed(offline: Sequence[OfflineRecipients], size: Callable[[OfflineRecipients], int]) -> list[bytes]:
    """Entries of about PACK people: enough to be cheap, few enough to share among replicas."""
    blobs: list[bytes] = []
    pack: list[OfflineRecipients] = []
    people = 0
    for one in offline:
        pack.append(one)
        people += size(one)
        if people >= PACK:
            blobs.append(encode(pack))
            pack, people = [], 0
    if pack:
        blobs.append(encode(pack))
    return blobs
