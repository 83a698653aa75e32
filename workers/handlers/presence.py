"""Messages -> those of their recipients who are away."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from redis.client import Pipeline

from common import metrics
from common.clock import AskedSeldom, now_ms
from common.contracts import Message, OfflineRecipients, decode_messages, encode
from common.ledger_records import Record
from common.model import Decision, Urgency
from common.ports import DeviceDirectory, MemberPages, Presences
from common.storage import keys
from common.storage.delayed import Later
from common.storage.fanouts import KEEP_SPREAD_S, Fanouts
from common.storage.streams import Entry
from common.storage.unavailable import store_unavailable
from workers.app import ROUTING
from workers.handlers.ledger_rows import event_record, presence_records
from workers.handlers.routing import RoutingHandler
from workers.presence import offline_recipients as presence
from workers.queues.consumer import Commit, PackedEntries
from workers.routing.fan_out import urgency_of

if TYPE_CHECKING:
    from workers.handlers.forwarding import Spread

log = logging.getLogger(__name__)

#: People of one entry for routing: enough to be cheap, few enough to share among replicas.
PACK = 200
PACK_BYTES = 512 * 1024


class RoutedAtOnce:
    """Routing within presence's commit: no hop by a stream. Open while routing has one worker: more
    want the work shared among them.
    """

    def __init__(
        self,
        routing: RoutingHandler,
        workers: Callable[[], int],
        sharing: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """workers: routing's replicas. sharing: makes what lets both look people up once."""
        self.routing = routing
        self.sharing = sharing
        self._few = AskedSeldom(lambda: workers() <= 1)

    def is_open(self) -> bool:
        return self._few()


@dataclass(frozen=True, slots=True)
class PresenceHandler(PackedEntries):
    """Messages -> their absent recipients; pages of large groups are queued behind the others.

    old_ledger: whether the ledger's stream is read by a release before 0.2, which has no pages.
    """

    members: MemberPages
    presences: Presences
    devices: DeviceDirectory
    fanouts: Fanouts
    at_once: RoutedAtOnce | None = None
    spread: Spread | None = None  # of a fleet of several shards
    old_ledger: Callable[[], bool] = lambda: False

    def handle(self, entries: Sequence[Entry]) -> Commit:
        messages = [
            marked(message, entry.deliveries == 1)
            for entry in entries
            for message in decode_messages(entry.blob)
        ]
        at_once = self.at_once
        if at_once is None or not at_once.is_open() or any(entry.is_suspect for entry in entries):
            return _by_stream(*self.look(messages))
        with at_once.sharing():
            offline, commit = self.look(messages)
            try:
                return commit + at_once.routing.route_marked(offline) if offline else commit
            except store_unavailable():
                raise
            except Exception as error:  # noqa: BLE001 - routing finds the culprit by itself, and the group's next pages go on
                log.warning(
                    "what is to be routed broke its stage: it goes by its stream",
                    extra={"reason": type(error).__name__},
                )
                return _by_stream(offline, commit)

    def look(self, messages: Sequence[Message]) -> tuple[Sequence[OfflineRecipients], Commit]:
        """The recipients who are away, and the commit. The next pages need no wake-up.

        The reader of this stream reads on.
        """
        if self.spread is not None:
            messages, out = self.spread.pages(messages, self.members)
            offline, commit = self._look(messages)
            return offline, out + commit
        return self._look(messages)

    def _look(self, messages: Sequence[Message]) -> tuple[Sequence[OfflineRecipients], Commit]:
        now = now_ms()
        seen = presence.look(
            messages, self.members, self.presences, self.devices, now, self.fanouts
        )
        return seen.offline, Commit(
            forward=[(presence_stream(message), encode([message])) for message in seen.onward],
            rows=[
                *presence_records(seen.rows, seen.deviceless, now, self.old_ledger),
                *map(_for_nobody, seen.empty),
            ],
            deferred=[
                *(
                    Later(presence_stream(one), encode([one]), now + presence.SECOND_LOOK_MS)
                    for one in seen.later
                ),
                *unasked(seen.unasked, now),
            ],
            extra=[lambda pipe: self._note(pipe, seen)] if seen.named else (),
            after=[lambda: _count(seen)],
        )

    def _note(self, pipe: Pipeline, seen: presence.Seen) -> None:
        named = {event: marks for event, marks in seen.named.items() if marks}
        if self.spread is None:
            self.fanouts.note(pipe, named, seen.ended)
        else:  # the last page may have nobody of this shard
            self.fanouts.note(pipe, named, keep_s=KEEP_SPREAD_S)

    def items(self, blob: bytes) -> Sequence[Message]:
        return decode_messages(blob)


def marked(message: Message, fresh: bool) -> Message:
    """Clears `single` where an earlier reader had the entry.

    A reader of the release before may continue with it.
    """
    return (
        message if fresh or not message.single else msgspec.structs.replace(message, single=False)
    )


def _by_stream(offline: Sequence[OfflineRecipients], commit: Commit) -> Commit:
    forward = [(keys.routing(urgency), blob) for urgency, blob in packed_offline(offline)]
    return Commit(forward=forward, wake=frozenset({(ROUTING, None)} if offline else ())) + commit


def _for_nobody(message: Message) -> Record:
    """A group without members: its event is decided, or it would wait for rows that never come."""
    metrics.DECISIONS.labels("none", Decision.NO_DEVICE, "none").inc()
    return event_record(message, Decision.NO_DEVICE, NOBODY)


NOBODY = "the group has no members, or all of them are excluded"


def _count(seen: presence.Seen) -> None:
    if seen.malformed:
        metrics.IGNORED.labels("malformed_presence").inc(seen.malformed)
    ended = Counter((str(row.device.vendor), row.decision) for row in seen.rows)
    for part in seen.deviceless:
        ended["none", part.decision] += len(part.users)
    for (vendor, decision), count in ended.items():
        metrics.DECISIONS.labels(vendor, decision, "none").inc(count)


def presence_stream(message: Message) -> str:
    """The stream on which a message waits for presence."""
    return keys.presence(urgency_of(message, ""))


def unasked(messages: Sequence[Message], now: int) -> list[Later]:
    """Messages that wait for a server of the core that is away."""
    return [
        Later(presence_stream(one), encode([one]), presence.again_ms(one, now)) for one in messages
    ]


def packed_offline(offline: Sequence[OfflineRecipients]) -> list[tuple[Urgency, bytes]]:
    """Entries for routing, by urgency, of about PACK people and PACK_BYTES."""
    packs: dict[Urgency, list[OfflineRecipients]] = {}
    sizes: dict[Urgency, tuple[int, int]] = {}
    blobs: list[tuple[Urgency, bytes]] = []
    for one in offline:
        urgency = urgency_of(one.message, "")
        pack = packs.setdefault(urgency, [])
        pack.append(one)
        people, size = sizes.get(urgency, (0, 0))
        sizes[urgency] = people, size = (
            people + len(one.recipients),
            size + _text_bytes(one.message),
        )
        if people >= PACK or size >= PACK_BYTES:
            blobs.append((urgency, encode(pack)))
            packs[urgency], sizes[urgency] = [], (0, 0)
    return blobs + [(urgency, encode(pack)) for urgency, pack in packs.items() if pack]


def _text_bytes(message: Message) -> int:
    return sum(len(part.text or "") for part in message.elements) + 64 * len(message.mentions)
