"""Rows that were stored before their events (a process' memory, ten minutes).

Such a row stands in `ledger`. Where it comes once more, together with its event, it must not be
stored in the event (ledger_own.py) as well: nothing in PostgreSQL forbids both.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, KeysView
from typing import Final

from common.ledger_records import EventRecord, RowRecord

#: Longer than entries are read again after an error; after a restart all are merged anyway.
EARLY_S: Final = 600.0
#: Events that are remembered, of each kind.
REMEMBERED_MAX: Final = 100_000

#: An event: (app, id).
_Name = tuple[str, str]


class EarlyRows:
    """One writer's. Events that stand alone are remembered, too: what comes after them is not
    early, and they are never stored twice, as their own key forbids it.
    """

    def __init__(self) -> None:
        self._early: dict[_Name, float] = {}
        self._alone: dict[_Name, None] = {}

    @property
    def events(self) -> KeysView[_Name]:
        """Events of which a row may be stored already, and not in them."""
        return self._early.keys()

    def begin(self, rows: Iterable[RowRecord], alone: Iterable[EventRecord]) -> None:
        """Before a write: these rows go to `ledger`, these events are stored without a row.

        It may end in an error though it was committed.
        """
        now = time.monotonic()
        while self._early and (
            len(self._early) > REMEMBERED_MAX or next(iter(self._early.values())) < now - EARLY_S
        ):
            del self._early[next(iter(self._early))]
        here = {(event.app, event.event_id) for event in alone}
        for row in rows:
            name = row.app, row.event_id
            if name not in here and name not in self._alone:
                self._early.setdefault(name, now)

    def written(self, alone: Iterable[EventRecord]) -> None:
        """After it."""
        for event in alone:
            name = event.app, event.event_id
            self._alone[name] = None
            self._early.pop(name, None)
        while len(self._alone) > REMEMBERED_MAX:
            del self._alone[next(iter(self._alone))]
