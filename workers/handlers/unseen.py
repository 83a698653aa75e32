"""A shard's entries about people, or groups, whose keys of the core are on a node that is away:
they wait in this process, in order, and all others go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from common.storage.streams import Entry
from workers.handlers.joint_intake import USUAL, events_of

#: App, name, and whether that is a group's.
Subject: TypeAlias = tuple[str, str, bool]
#: The name of the node that has a subject's key, where it is known as away.
AwayOf: TypeAlias = Callable[[str, str, bool], str | None]

#: Entries that are given back to intake at once.
AT_ONCE: Final = 256


class Unseen:
    """Of one shard. Entries of several events, or to several people, do not wait here: presence
    divides them by person.
    """

    def __init__(self, away_of: AwayOf) -> None:
        self._away_of = away_of
        self._queues: dict[str, list[tuple[Entry, Subject]]] = {}
        self._waiting = Counter[Subject]()
        self._node_of: dict[Subject, str] = {}

    def __bool__(self) -> bool:
        """True while anything waits."""
        return bool(self._queues)

    @property
    def entries(self) -> list[Entry]:
        return [entry for queue in self._queues.values() for entry, _ in queue]

    def apart(
        self, entries: Sequence[Entry], reads: Callable[[Entry], Sequence[Any]]
    ) -> list[Entry]:
        """Keeps those that have to wait, also behind others about the same; returns the rest.
        reads: an entry's content.
        """
        rest = list[Entry]()
        for entry in entries:
            subject = None if entry.is_suspect else _subject(reads(entry))
            node = subject and (self._node_of.get(subject) or self._away_of(*subject))
            if subject is None or not node:
                rest.append(entry)
                continue
            self._queues.setdefault(node, []).append((entry, subject))
            self._waiting[subject] += 1
            self._node_of[subject] = node
        return rest

    def ready(self) -> list[Entry]:
        """The first ones of a node that answers again; they are no more kept here."""
        for node, queue in self._queues.items():
            if self._away_of(*queue[0][1]) is None:
                first, self._queues[node] = queue[:AT_ONCE], queue[AT_ONCE:]
                if not self._queues[node]:
                    del self._queues[node]
                for _, subject in first:
                    self._waiting[subject] -= 1
                    if not self._waiting[subject]:
                        del self._waiting[subject], self._node_of[subject]
                return [entry for entry, _ in first]
        return []

    def clear(self) -> None:
        self._queues, self._waiting, self._node_of = {}, Counter(), {}


def _subject(reads: Sequence[Any]) -> Subject | None:
    """Whose key has to be asked for a message to one person or to a group; None of all else."""
    events = [event for read in reads for event in events_of(read)]
    if len(reads) != 1 or len(events) != 1 or events[0].type != USUAL:
        return None
    (event,) = events
    people = event.data.recipients
    if people is None:
        conversation = event.data.conversation
        return (event.app, conversation.id, True) if conversation.type == "group" else None
    return (event.app, people[0], False) if len(people) == 1 else None
