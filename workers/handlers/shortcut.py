"""Presence and routing in intake's own commit, for messages to few people.

It saves two streams, two hops and two MULTIs per message.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext

from common.clock import AskedSeldom
from common.contracts import Message, OfflineRecipients
from common.metrics import STAGE_SECONDS
from common.storage.lane_queues import LaneQueues
from common.storage.people import Person, UnknownPeopleError
from workers.app import PRESENCE, ROUTING
from workers.handlers.presence import PresenceHandler
from workers.handlers.routing import RoutingHandler
from workers.handlers.usual_pushes import Looked, UsualEvents, UsualPushes, people_of
from workers.intake.events import Event
from workers.queues.consumer import Commit

#: A message to more people goes by the streams, page by page.
PEOPLE_MAX = 50


class Shortcut:
    """Open while presence and routing have one worker each: more workers mean shared work."""

    def __init__(
        self,
        presence: PresenceHandler,
        routing: RoutingHandler,
        workers: Callable[[], int],
        sharing: Callable[[], AbstractContextManager[None]] = nullcontext,
        usual: UsualPushes | None = None,
    ) -> None:
        """workers: the replicas of presence or of routing, whichever are more. sharing: makes what
        lets both look people up once.
        usual: the quick way of chats of two; None: they go as the others do.
        """
        self._presence = presence
        self._routing = routing
        self._sharing = sharing
        self.is_open = AskedSeldom(lambda: workers() <= 1)
        self.usual = usual

    @property
    def queues(self) -> LaneQueues:
        """Of the lanes in its shard."""
        return self._routing.queues

    def takes(self, message: Message) -> bool:
        return message.recipients is not None and len(message.recipients) <= PEOPLE_MAX

    def commit(
        self, messages: Sequence[Message], offline: Sequence[OfflineRecipients], single: bool
    ) -> tuple[Commit, Sequence[Message]]:
        """The commit of the messages and of recipients (or tokens) that are away anyway.

        It also returns the messages to people whom SQL did not look up in time; they go by the
        streams. single: as in Message.
        """
        with self._sharing():
            return self._commit(messages, offline, single)

    def _look(self, people: Sequence[Person]) -> Looked:
        """As UsualPushes.look."""
        try:
            return self.usual.look(people) if self.usual is not None and people else {}
        except UnknownPeopleError:  # the general way knows whom to leave to the streams
            return {}

    def usual_commit(
        self, parts: Sequence[UsualEvents]
    ) -> tuple[Commit, Sequence[Sequence[Event]]]:
        """As `commit`, of usual events (usual_pushes.py) of some shards on this server; the events
        that take the general path by part.
        """
        if self.usual is None:
            return Commit(), [part.events for part in parts]
        looked = self._look(people_of([event for part in parts for event in part.events]))
        with self._sharing():
            return self.usual.commit(parts, looked)

    def _commit(
        self, messages: Sequence[Message], offline: Sequence[OfflineRecipients], single: bool
    ) -> tuple[Commit, Sequence[Message]]:
        away, commit, left = self._away(messages) if messages else ((), Commit(), ())
        people = [*away, *offline]
        if not people:
            return commit, left
        with STAGE_SECONDS.labels(ROUTING).time():
            return commit + self._routing.route(people, single), left

    def _away(
        self, messages: Sequence[Message]
    ) -> tuple[Sequence[OfflineRecipients], Commit, Sequence[Message]]:
        """Presence's part of `commit`."""
        with STAGE_SECONDS.labels(PRESENCE).time():
            try:
                return (*self._presence.look(messages), ())
            except UnknownPeopleError as error:
                left = [one for one in messages if _names(one, error.people)]
                unknown = set(map(id, left))
                known = [one for one in messages if id(one) not in unknown]
                return (*self._presence.look(known), left)


def _names(message: Message, people: Collection[tuple[str, str]]) -> bool:
    return any((message.app, user) in people for user in message.recipients or ())
