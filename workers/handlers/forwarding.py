"""Forwards entries between the shards of one fleet, by each shard's own outgoing stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec

from common.clock import now_ms
from common.contracts import Message, OfflineRecipients, encode
from common.model import Vendor
from common.ports import AwayError, MemberPages
from common.storage import keys
from common.storage.away import SlotAwayError
from common.storage.cluster import slot_of
from common.storage.commits import Commits, LostError
from common.storage.shards import shard_of, shard_of_group
from common.storage.streams import Entry, StreamStore
from workers.app import PRESENCE, ROUTING
from workers.handlers.intake import packed_messages
from workers.handlers.presence import packed_offline, presence_stream, unasked
from workers.presence import offline_recipients as presence
from workers.queues.consumer import Commit, PackedEntries

#: Entries of one read by urgency; while calls and chats come the others go in small portions.
READ: Final = dict(zip(keys.OUT, (64, 64, 16, 16), strict=True))
READ_BESIDE: Final = dict(zip(keys.OUT, (64, 64, 4, 2), strict=True))
#: Entries of one stream that are reclaimed at once: those of a shard that was away may be many.
RECLAIM: Final = 64

#: A message to the members of one page of a group starts again with them as its recipients.
_BEGIN: Final = {"cursor": None, "cursor_of": None, "anybody": None}

#: (shard, stream there, the entry's bytes).
ForwardedEntry = tuple[int, str, bytes]
_read: Callable[[bytes], ForwardedEntry] = msgspec.msgpack.Decoder(ForwardedEntry).decode


@dataclass(frozen=True, slots=True)
class Spread:
    """The division of a read: what stays in this shard, what goes to others.

    count: of shards; own: this one's number.
    """

    count: int
    own: int

    def has(self, app: str, user: str) -> bool:
        """True when the person belongs to this shard."""
        return shard_of(self.count, app, user) == self.own

    def messages(self, messages: Sequence[Message]) -> tuple[list[Message], Commit]:
        """Messages to own people, and the commit that sends the rest out. A group's own members are
        not known yet.
        """
        mine: list[Message] = []
        others: dict[int, list[Message]] = {}
        for message in messages:
            for shard, part in self._parts(message):
                (mine if shard == self.own else others.setdefault(shard, [])).append(part)
        return mine, self._out({shard: packed_messages(those) for shard, those in others.items()})

    def offline(
        self, offline: Sequence[OfflineRecipients]
    ) -> tuple[list[OfflineRecipients], Commit]:
        """The same of people who are away."""
        mine: list[OfflineRecipients] = []
        others: dict[int, list[OfflineRecipients]] = {}
        for one in offline:
            people: dict[int, list[Any]] = {}
            for who in one.recipients:
                people.setdefault(shard_of(self.count, one.message.app, who.user), []).append(who)
            for shard, those in people.items():
                part = (
                    one
                    if len(people) == 1
                    else msgspec.structs.replace(one, recipients=tuple(those))
                )
                (mine if shard == self.own else others.setdefault(shard, [])).append(part)
        packed = {
            shard: [(keys.routing(urgency), blob) for urgency, blob in packed_offline(those)]
            for shard, those in others.items()
        }
        return mine, self._out(packed)

    def pages(
        self, messages: Sequence[Message], members: MemberPages
    ) -> tuple[list[Message], Commit]:
        """Group messages as messages to the members of the next page who belong to this shard.

        The other members' messages are forwarded, and the group's next page goes to this shard's
        stream. A list of recipients is divided by shard.
        """
        mine: list[Message] = []
        out, onward, waiting = list[Message](), list[Message](), list[Message]()
        for message in messages:
            if message.recipients is not None or message.conversation.type != "group":
                (mine if message.position else out).append(message)
                continue
            try:
                users, more = presence.page_for(message, members)
            except AwayError:
                waiting.append(message)
                continue
            if more is not None:
                onward.append(more)
            elif presence.is_for_nobody(message, users, more):
                mine.append(
                    msgspec.structs.replace(message, recipients=(), exclude=(), **cast(Any, _BEGIN))
                )
            if users:
                page_no = message.pages or int(more is not None)
                start = {**_BEGIN, "exclude": (), "pages": page_no}
                # another page may name the same person, and another replica may read it at the same
                # time
                if page_no:
                    start["single"] = False
                out.append(msgspec.structs.replace(message, recipients=users, **cast(Any, start)))
        own, commit = self.messages(out)
        forward = [(presence_stream(message), encode([message])) for message in onward]
        later = unasked(waiting, now_ms())
        return [*mine, *own], Commit(forward=forward, deferred=later) + commit

    def _parts(self, message: Message) -> list[tuple[int, Message]]:
        if message.recipients is None:
            return [(shard_of_group(self.count, message.app, message.conversation.id), message)]
        people: dict[int, list[str]] = {}
        for user in presence.without_excluded(message, message.recipients):
            people.setdefault(shard_of(self.count, message.app, user), []).append(user)
        if len(people) < 2:
            return [(next(iter(people), self.own), message)]
        return [
            (shard, msgspec.structs.replace(message, recipients=tuple(those)))
            for shard, those in people.items()
        ]

    def _out(self, packed: Mapping[int, Sequence[tuple[str, bytes]]]) -> Commit:
        forward = out_entries(
            [(shard, stream, blob) for shard, those in packed.items() for stream, blob in those]
        )
        return Commit(
            forward=forward, wake=frozenset({(PRESENCE, None)}) if forward else frozenset()
        )


def out_entries(forwarded: Sequence[ForwardedEntry]) -> list[tuple[str, bytes]]:
    """Entries of the streams that leave this shard, by urgency."""
    return [(f"out:{one[1].rsplit(':', 1)[1]}", encode(one)) for one in forwarded]


class Forwarder(PackedEntries):
    """Entries of a shard's own streams for others -> those shards' streams, each once."""

    def __init__(
        self,
        source: StreamStore,
        each: Sequence[StreamStore],
        wake: Callable[[int, str, Vendor | None], None],
    ) -> None:
        """source: this shard's streams; each: those of every shard; wake: (shard, stage, None)."""
        self._source = source
        self._each = each
        self._wake = wake
        self._slot = slot_of(source.redis)
        #: Some of the last entries were forwarded, not all of them released.
        self.forwarded = False
        self._commits: dict[int, Commits] = {}

    def handle(self, entries: Sequence[Entry]) -> None:
        """Writes and acknowledges by itself, shard by shard. What is for a shard that is away is
        released, and keeps no other's.
        """
        forwarded: dict[int, list[tuple[Entry, ForwardedEntry]]] = {}
        for entry in entries:
            one = _read(entry.blob)
            forwarded.setdefault(one[0], []).append((entry, one))
        self.forwarded = False
        for shard, those in forwarded.items():
            try:
                self._forward(shard, those)
                self.forwarded = True
            except SlotAwayError as error:
                if error.slot == self._slot:
                    raise
                self._source.release([entry for entry, _ in those])

    def _forward(self, shard: int, those: Sequence[tuple[Entry, ForwardedEntry]]) -> None:
        streams = self._each[shard]
        if shard not in self._commits:
            self._commits[shard] = Commits(streams, self._source)
        left = [entry for entry, _ in those]
        # entries of two streams may have the same id: one commit added them
        blobs = {(entry.stream, entry.id): one[1:] for entry, one in those}
        while left:
            now = list(left)
            try:
                self._commits[shard].write(
                    now,
                    lambda pipe, now=now: streams.add(  # type: ignore[misc]
                        pipe, [blobs[entry.stream, entry.id] for entry in now]
                    ),
                    lambda pipe, now=now: self._source.acknowledge(pipe, now),  # type: ignore[misc]
                )
                break
            except LostError as lost:
                left = list(lost.mine)
        for stage in {
            PRESENCE if stream.startswith(PRESENCE) else ROUTING for _, (_, stream, _) in those
        }:
            self._wake(shard, stage, None)
