"""Messages -> those of their recipients who are away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from common import metrics
from common.clock import now_ms
from common.contracts import Message, OfflineRecipients, decode_messages, encode
from common.ledger_records import Record
from common.model import Decision
from common.ports import DeviceDirectory, MemberPages, Presences
from common.storage import keys
from common.storage.delayed import Later
from common.storage.streams import Entry
from workers.app import PRESENCE, ROUTING
from workers.handlers.intake import event_record
from workers.handlers.ledger_rows import presence_row
from workers.presence import stage as presence
from workers.queues.consumer import Commit, Letter

#: People of one entry for routing: enough to be cheap, few enough to share among replicas.
PACK = 200


@dataclass(frozen=True, slots=True)
class PresenceHandler:
    """Messages -> those of their recipients who are away; pages of large groups go on behind the others."""

    members: MemberPages
    presences: Presences
    devices: DeviceDirectory

    def handle(self, entries: Sequence[Entry]) -> Commit:
        messages = [message for entry in entries for message in decode_messages(entry.blob)]
        now = now_ms()
        seen = presence.look(messages, self.members, self.presences, self.devices, now)
        forward = [(keys.ROUTING, blob) for blob in _packed(seen.offline)]
        forward += [(keys.PRESENCE, encode([message])) for message in seen.onward]
        wake = {(stage, None) for stage, given in ((ROUTING, seen.offline), (PRESENCE, seen.onward)) if given}
        return Commit(
            forward=forward,
            rows=[*(presence_row(row, now) for row in seen.rows), *map(_for_nobody, seen.empty)],
            deferred=[Later(keys.PRESENCE, encode([message]), now + presence.SECOND_LOOK_MS) for message in seen.later],
            wake=frozenset(wake),
            after=[lambda: _count(seen)],
        )

    def split(self, entry: Entry) -> Sequence[Mapping[bytes, bytes]]:
        try:
            return [{b"b": encode([message])} for message in decode_messages(entry.blob)]
        except msgspec.MsgspecError:
            return [{b"b": entry.blob}]

    def letter(self, entry: Entry) -> Letter:
        return Letter(entry.blob, {"belt": entry.belt})

    def on_leave(self, _entry: Entry, _reason: str | None) -> Commit:
        return Commit()


def _for_nobody(message: Message) -> Record:
    """A group without members: its event is decided, or it would wait for rows that never come."""
    metrics.DECISIONS.labels("none", Decision.NO_DEVICE, "none").inc()
    return event_record(message, Decision.NO_DEVICE, NOBODY)


NOBODY = "the group has no members, or all of them are excluded"


def _count(seen: presence.Seen) -> None:
    if seen.malformed:
        metrics.IGNORED.labels("malformed_presence").inc(seen.malformed)
    ended = Counter((row.device.vendor if row.device else "none", row.decision) for row in seen.rows)
    for (vendor, decision), count in ended.items():
        metrics.DECISIONS.labels(vendor, decision, "none").inc(count)


def _packed(offline: Sequence[OfflineRecipients]) -> list[bytes]:
    """Entries of about PACK people: enough to be cheap, few enough to share among replicas."""
    blobs: list[bytes] = []
    pack: list[OfflineRecipients] = []
    people = 0
    for one in offline:
        pack.append(one)
        people += len(one.recipients)
        if people >= PACK:
            blobs.append(encode(pack))
            pack, people = [], 0
    if pack:
        blobs.append(encode(pack))
    return blobs
