"""What intake remembers of events (Redis): seen event ids (24 h); messages withdrawn or read meanwhile (8 days)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis import Redis

from common.storage.bindings import Bindings
from common.storage.keys import CALL, Keys
from common.storage.scripts import script

EVENT_KEEP_S = 86_400
MARK_KEEP_S = 8 * 86_400
#: How long a message's time is kept here: longer than the ledger takes to reach SQL.
TIME_KEEP_S = 600
#: Single messages and calls that are remembered of one person; beyond that the older half is forgotten.
SINGLES_MAX = 2_000


class Marks:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self.bindings = Bindings(redis, keys)
        self._dedupe = script(redis, "dedupe")
        self._free = script(redis, "free")
        self._read = script(redis, "read")
        self._times = script(redis, "times")
        self._gone = script(redis, "gone")

    def repeats(self, events: Sequence[tuple[str, str, str]]) -> list[bool]:
        """For each (app, event id, entry id): whether another entry brought it within 24 h."""
        if not events:
            return []
        names = [self._keys.event(app, event_id) for app, event_id, _ in events]
        return [bool(told) for told in self._dedupe(keys=names, args=[EVENT_KEEP_S, *(entry for _, _, entry in events)])]

    def free(self, events: Sequence[tuple[str, str, str]], pipe: Redis | None = None) -> None:
        """A dead letter frees the (app, event id, entry id) that this very entry had taken, so that they can be published again."""
        if events:
            names = [self._keys.event(app, event_id) for app, event_id, _ in events]
            self._free(keys=names, args=[entry for _, _, entry in events], client=pipe)

    def pipeline(self) -> Any:
        """Carries many words in one round trip; the server also keeps the badges (badges.py)."""
        return self._redis.pipeline(transaction=False)

    def recall(self, app: str, conversation: str, message_id: str, pipe: Redis | None = None) -> None:
        """From now on nothing of this message is sent: it is `recalled`. pipe: the pipeline that carries it, with others."""
        self._gone(keys=[self._keys.gone(app, conversation, message_id)], args=["recalled", 0, MARK_KEEP_S], client=pipe)

    def end_call(self, app: str, call_id: str, ts_ms: int, pipe: Redis | None = None) -> None:
        """The call ended as of `ts_ms`: no invitation up to then is sent, a later one into the same call is."""
        self._gone(keys=[self._keys.gone(app, CALL, call_id)], args=["call_ended", ts_ms, MARK_KEEP_S], client=pipe)

    def read_up_to(self, app: str, user: str, conversation: str, up_to_ms: int, pipe: Redis | None = None) -> None:
        """Every message of the conversation with a ts up to `up_to_ms` was read. An older word changes nothing."""
        self._remember(app, user, conversation, up_to_ms, pipe)

    def read_message(self, app: str, user: str, conversation: str, message_id: str, ts_ms: int, pipe: Redis | None = None) -> None:
        """This one message of the conversation was read, as of `ts_ms`."""
        self._remember(app, user, f"m:{conversation}\0{message_id}", ts_ms, pipe)

    def end_call_of(self, app: str, user: str, call_id: str, ts_ms: int, pipe: Redis | None = None) -> None:
        """This person answered or refused as of `ts_ms`: their other devices need not ring. A later invitation into the
        same call rings again (a call is never read, so the mark can share the hash)."""
        self._remember(app, user, f"c:{call_id}", ts_ms, pipe)

    def _remember(self, app: str, user: str, field: str, value_ms: int, pipe: Redis | None) -> None:
        self._read(keys=[self._keys.read(app, user)], args=[field, value_ms, MARK_KEEP_S, SINGLES_MAX], client=pipe)

    def note_times(self, messages: Sequence[tuple[str, str, str, int]]) -> None:
        """(app, conversation, message id, ts) of messages on their way, for a read report that comes before the ledger has them."""
        if messages:
            names = [self._keys.message_time(*message) for *message, _ in messages]
            self._times(keys=names, args=[TIME_KEEP_S, *(ts_ms for *_, ts_ms in messages)])

    def times_of(self, messages: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], int]:
        """The times noted of these (app, conversation, message id), where there are any."""
        if not messages:
            return {}
        told: Any = self._redis.mget([self._keys.message_time(*message) for message in messages])
        return {message: int(ts_ms) for message, ts_ms in zip(messages, told, strict=True) if ts_ms is not None}
