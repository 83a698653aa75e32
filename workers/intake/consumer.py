"""The core's stream, read as one of its group: hand on first, acknowledge after. Many replicas share the group."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from common import metrics
from common.clock import now_ms
from common.contracts import TTL_MAX_S, Message, encode
from common.ledger_records import DeadRecord, EventRecord, NoteRecord, Record
from common.model import Decision, PushType
from common.storage import keys, sql
from common.storage.marks import Marks
from common.storage.scripts import script
from common.storage.streams import DELIVERIES_MAX, GROUP, TAKEOVER_IDLE_MS, Belts
from common.storage.vault import Vault
from workers.intake import stage
from workers.intake.directed import Directed, TokenPushes, direct_size
from workers.intake.events import Direct, Ended, Invited, Recalled, Stored
from workers.intake.stage import Event, Refused
from workers.intake.state import StateKeeper, Withdrawal

log = logging.getLogger(__name__)

READ_COUNT = 500
BLOCK_MS = 1_000
TAKEOVER_EVERY_S = 5.0
#: Messages of one entry on the presence belt, and about how many bytes of them (of dead letters, on the ledger's).
PACK_MAX = 200
PACK_BYTES = 512 * 1024
#: A group whose members are not named counts as a list of so many: hundreds of groups in one entry would be a hundred thousand
#: people, more than a process looks at before it is taken for dead.
MEMBERS_GUESSED = 200
#: Entries on the belts at which intake stops reading: the core's stream is the buffer.
BELTS_MAX = 3_000
BACKOFF_S = 1.0
#: An entry that was handed out more often is read alone: its neighbours must not be blamed for what it does.
SUSPECT_AFTER = 2
#: A store is away: waiting helps.
AWAY = (RedisError, OSError, *sql.AWAY)


@dataclass(frozen=True, slots=True)
class Doors:
    """What the consumer asks of the world."""

    core: Redis
    belts: Belts
    marks: Marks
    state: StateKeeper
    vault: Vault
    apps: Callable[[], Sequence[str]]
    ring: Callable[[str], None]
    withdraw: Callable[[Sequence[Withdrawal]], None]
    directly: TokenPushes = field(kw_only=True)
    shared: bool  # the core's server is ours: one MULTI does it all
    apps_now: Callable[[], Sequence[str]] | None = None  # as `apps`, not from memory: asked before a tenant counts as unknown


class Consumer:
    """Reads, checks, sorts, hands on, acknowledges."""

    def __init__(self, streams: Sequence[str], doors: Doors) -> None:
        self._streams = list(streams)
        self._doors = doors
        self._name = uuid.uuid4().hex[:12]
        self._hold = script(doors.core, "hold")
        self._takeover_at = 0.0
        self._behind = False
        self.progress_at = time.monotonic()

    def run(self, stopping: Callable[[], bool]) -> None:
        """Until told to stop. A store that is away is waited for; nothing is acknowledged meanwhile."""
        while not stopping():
            try:
                self.once()
            except AWAY as error:
                self._behind = True
                log.warning("a store is away, waiting", extra={"reason": type(error).__name__})
                time.sleep(BACKOFF_S)
            self.progress_at = time.monotonic()

    def once(self, block_ms: int = BLOCK_MS) -> int:
        """One read; the number of entries that were finished."""
        if self._congested():
            time.sleep(0.05)
            return 0
        finished = self._catch_up() if self._behind else 0
        if time.monotonic() >= self._takeover_at:
            self._takeover_at = time.monotonic() + TAKEOVER_EVERY_S
            for name in self._streams:
                finished += self._take_over(name)
        for name, raws in self._fresh(block_ms):
            finished += self._finish(name, raws)
        return finished

    def _congested(self) -> bool:
        depth = self._doors.belts.redis.pipeline(transaction=False)
        for belt in keys.BELTS:
            depth.xlen(self._doors.belts.keys.belt(belt))
        return sum(int(length) for length in depth.execute()) > BELTS_MAX

    def _fresh(self, block_ms: int) -> list[tuple[str, list[Any]]]:
        wanted: Any = dict.fromkeys(self._streams, ">")
        answer = self._grouped(lambda: self._doors.core.xreadgroup(GROUP, self._name, wanted, count=READ_COUNT, block=block_ms))
        pairs: Any = answer.items() if isinstance(answer, dict) else answer or []
        return [(name.decode(), raws) for name, raws in pairs]

    def _catch_up(self) -> int:
        """What we had read when a store went away, before anything newer: a message must not overtake its recipient's registration."""
        finished = 0
        for name in self._streams:
            while raws := self._ours(name):
                finished += self._finish(name, raws)
        self._behind = False
        return finished

    def _ours(self, name: str) -> list[Any]:
        answer: Any = self._grouped(lambda: self._doors.core.xreadgroup(GROUP, self._name, {name: "0"}, count=READ_COUNT))
        pairs: Any = answer.items() if isinstance(answer, dict) else answer or []
        return [raw for _, raws in pairs for raw in raws if raw[1]]

    def _take_over(self, name: str) -> int:
        """What other readers left behind. An entry that was handed out often is read alone, and is refused when it ends every reader."""
        core = self._doors.core
        answer: Any = self._grouped(lambda: core.xautoclaim(name, GROUP, self._name, TAKEOVER_IDLE_MS, count=READ_COUNT))
        raws = [raw for raw in answer[1] if raw[1] is not None] if answer else []
        if not raws:
            return 0
        pending: Any = core.xpending_range(name, GROUP, raws[0][0], raws[-1][0], READ_COUNT, self._name)
        counts = {item["message_id"]: item["times_delivered"] for item in pending}
        suspects = [raw for raw in raws if counts.get(raw[0], 1) > SUSPECT_AFTER]
        for entry_id, _ in suspects:  # until its turn comes, being taken over does not count
            self._recount(name, entry_id, counts[entry_id] - 1)
        finished = self._finish(name, [raw for raw in raws if counts.get(raw[0], 1) <= SUSPECT_AFTER])
        for raw in suspects:
            if not self._recount(name, raw[0], counts[raw[0]]):
                continue
            if counts[raw[0]] > DELIVERIES_MAX:
                self._bury(name, raw, "poison: it ends every process that reads it")
            else:
                finished += self._finish(name, [raw])
        return finished

    def _recount(self, name: str, entry_id: bytes, deliveries: int) -> bool:
        return bool(self._hold(keys=[name], args=[GROUP, self._name, 0, entry_id, deliveries]))

    def _grouped(self, ask: Callable[[], Any]) -> Any:
        """The answer, or None when there was no group: then it is made."""
        try:
            return ask()
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            self._make_groups()
            return None

    def _make_groups(self) -> None:
        for name in self._streams:
            try:
                self._doors.core.xgroup_create(name, GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    def _finish(self, name: str, raws: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> int:
        """Number of the entries: all are finished. Whatever one of them breaks, the others go on."""
        if not raws:
            return 0
        try:
            self._take(name, raws)
        except AWAY:
            raise
        except Exception as error:
            if len(raws) > 1:
                return sum(self._finish(name, [raw]) for raw in raws)
            log.exception("an entry broke the intake", extra={"reason": type(error).__name__})
            self._free(name, raws[0])
            self._bury(name, raws[0], f"broke_stage: {type(error).__name__}")
        return len(raws)

    def _free(self, name: str, raw: tuple[bytes, Mapping[bytes, bytes]]) -> None:
        """A dead letter gives back the event ids it took: published again, its event is no repeat."""
        try:
            read = stage.read_entry(name, raw[0].decode(), raw[1], self._doors.apps(), now_ms())
        except Exception:  # noqa: BLE001 - then reading is what broke, and nothing was taken
            return
        for event in read.events if isinstance(read, stage.Passed) else ():
            self._doors.marks.free(event.app, event.id, event.entry)

    def _bury(self, name: str, raw: tuple[bytes, Mapping[bytes, bytes]], reason: str) -> None:
        entry_id, fields = raw
        refused = Refused(f"{name}/{entry_id.decode()}", reason, None, fields.get(b"e", b"")[: stage.ENTRY_BYTES_MAX], {})
        self._hand_on(name, [entry_id], [], [_dead(refused, self._doors.vault, now_ms())])

    def _take(self, name: str, raws: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> None:
        started = time.perf_counter()
        doors, now = self._doors, now_ms()
        apps = doors.apps()
        fresh, repeated, refused = self._sorted(name, raws, apps, now)
        messages, records = _taken([event for event in fresh if isinstance(event.data, Stored | Invited)], now)
        directed = doors.directly.take([event for event in fresh if isinstance(event.data, Direct)], now)
        records += [event_record(message, decision) for message, decision in directed.taken]
        records += directed.rows
        directed.told += doors.directly.again([event for event in repeated if isinstance(event.data, Direct)])
        doors.marks.note_times(_times(fresh))  # first: a read report beside them names one of them
        ignored: dict[str, str] = {}  # entry of the event -> why it changed nothing
        states = [event for event in fresh if not isinstance(event.data, Stored | Invited | Direct)]
        withdrawals = doors.state.apply(states, lambda event, why: ignored.update({event.entry: why}))
        records += [_taken_back(event) for event in fresh if isinstance(event.data, Recalled | Ended)]
        records += [_dead(one, doors.vault, now) for one in refused]
        records += [_repeated(event, now) for event in repeated if isinstance(event.data, Stored | Invited | Direct)]
        doors.withdraw(withdrawals)
        self._hand_on(name, [entry for entry, _ in raws], messages, records, directed)
        for why in ignored.values():
            _ignored(why)
        for event in fresh:
            metrics.EVENTS.labels(event.type, "ignored" if event.entry in ignored else "accepted").inc()
        metrics.STAGE_SECONDS.labels("intake").observe(time.perf_counter() - started)

    def _sorted(self, name: str, raws: Sequence[Any], apps: Sequence[str], now: int) -> tuple[list[Event], list[Event], list[Refused]]:
        """New events in stream order, repeated ones, and what can't be read."""
        found: list[Event] = []
        refused: list[Refused] = []
        asked = False  # once a read: unknown tenants by the thousand cost no more than one
        for entry_id, fields in raws:
            read = stage.read_entry(name, entry_id.decode(), fields, apps, now)
            if isinstance(read, Refused) and read.reason == stage.UNKNOWN_APP and not asked and self._doors.apps_now is not None:
                apps, asked = self._doors.apps_now(), True
                read = stage.read_entry(name, entry_id.decode(), fields, apps, now)
            if isinstance(read, Refused):
                refused.append(read)
                metrics.EVENTS.labels(read.type, "dead_letter").inc()
                continue
            if read.ignored is not None:
                _ignored(read.ignored)
                metrics.EVENTS.labels("unknown", "ignored").inc()
            if read.unknown_fields:
                dialect = fields.get(b"d", b"native").decode("utf-8", "replace")
                metrics.UNKNOWN_FIELDS.labels(metrics.dialect(dialect)).inc(read.unknown_fields)
            found += read.events
        told = self._doors.marks.repeats([(event.app, event.id, event.entry) for event in found])
        fresh = [event for event, repeat in zip(found, told, strict=True) if not repeat]
        repeated = [event for event, repeat in zip(found, told, strict=True) if repeat]
        for event in repeated:
            metrics.EVENTS.labels(event.type, "duplicate").inc()
        return fresh, repeated, refused

    def _hand_on(
        self,
        name: str,
        entry_ids: Sequence[bytes],
        messages: Sequence[Message],
        records: Sequence[Record],
        directed: Directed | None = None,
    ) -> None:
        doors = self._doors
        adds = [(keys.PRESENCE, blob) for blob in _packed(messages)]
        onward = directed.offline if directed is not None else ()
        adds += [(keys.ROUTING, encode(pack)) for pack in _packs(onward, map(direct_size, onward))]
        adds += [(keys.LEDGER, blob) for blob in _bundled(records)]

        def acknowledge(pipe: Any) -> None:
            pipe.xack(name, GROUP, *entry_ids)
            pipe.xdel(name, *entry_ids)

        def more(pipe: Any) -> None:
            if directed is not None:
                doors.directly.tell(pipe, directed)
            if doors.shared:
                acknowledge(pipe)

        doors.belts.hand_on((), adds, more)
        if messages:
            doors.ring(keys.PRESENCE)
        if onward:
            doors.ring(keys.ROUTING)
        if not doors.shared:
            with doors.core.pipeline(transaction=True) as pipe:
                acknowledge(pipe)
                pipe.execute()


def _ignored(reason: str) -> None:
    metrics.IGNORED.labels(reason).inc()


def _taken(batch: Sequence[Event], now: int) -> tuple[list[Message], list[Record]]:
    """Messages that travel on, and one ledger record for each event."""
    messages: list[Message] = []
    records: list[Record] = []
    for event in batch:
        taken = stage.take(event, now)
        message = taken.message
        for wish in taken.ignored:
            _ignored(wish)
        if taken.decision is None:
            messages.append(message)
        else:
            metrics.DECISIONS.labels("none", taken.decision, "none").inc()
        records.append(event_record(message, taken.decision))
    return messages, records


def _times(batch: Sequence[Event]) -> list[tuple[str, str, int]]:
    """(app, message id, ts) of the stored messages, also of those that nobody is pushed: people read up to them all the same."""
    return [(event.app, event.data.message_id, event.ts_ms) for event in batch if isinstance(event.data, Stored)]


def _taken_back(event: Event) -> EventRecord:
    """A recall or the end of a call, so that `why --event` knows of it; what it did stands in the rows of its message."""
    data = event.data
    conversation = f"{data.conversation.type}:{data.conversation.id}" if isinstance(data, Recalled) else ""
    about = data.message_id if isinstance(data, Recalled) else data.call_id
    return EventRecord(
        app=event.app,
        event_id=event.id,
        message_id=about,
        type=event.type,
        conversation=conversation,
        ts_ms=event.ts_ms,
        received_ms=event.received_ms,
        decision=None,
        note="",
    )


def _repeated(event: Event, now: int) -> NoteRecord:
    """A repeat writes no row, only a step."""
    filed_ms = event.received_ms if _outlived(event.ts_ms, event.received_ms) else event.ts_ms
    return NoteRecord(
        app=event.app,
        event_id=event.id,
        ts_ms=filed_ms,
        user="",
        device="",
        kind="step",
        stage="intake",
        at_ms=now,
        note="the same event id came again: ignored",
    )


def event_record(message: Message, decision: Decision | None, note: str = "") -> EventRecord:
    conversation = f"{message.conversation.type}:{message.conversation.id}"
    return EventRecord(
        app=message.app,
        event_id=message.event_id,
        message_id=message.message_id,
        type=message.type,
        conversation=conversation,
        ts_ms=message.ts_ms,
        received_ms=message.received_ms,
        decision=decision,
        note=note,
        screen=_screen(message),
        # what has no rows is filed by its coming: an old event's own day would be dropped too soon, or at once
        filed_ms=message.received_ms if decision is not None else 0,
        kind=message.kind if message.direct else "",
    )


def _outlived(ts_ms: int, received_ms: int) -> bool:
    """So old that no push of it can live: it was decided here."""
    return ts_ms <= received_ms - TTL_MAX_S * 1000


def _screen(message: Message) -> str:
    """What a recall or cancel of this message must share with it, JSON; "" when it is nothing but the message's id."""
    push = message.push
    shared: dict[str, str | None] = {"collapse_key": push.collapse_key, "strategy_id": push.strategy_id}
    shared["push_type"] = push.push_type if push.push_type != PushType.ALERT else None
    found = {name: value for name, value in shared.items() if value}
    return json.dumps(found, ensure_ascii=False) if found else ""


def _dead(refused: Refused, vault: Vault, now: int) -> DeadRecord:
    log.warning("an entry became a dead letter", extra={"entry_id": refused.entry, "reason": refused.reason})
    return DeadRecord(
        # the same when the entry is read again: the core's server may be another, and acknowledge after the letter is stored
        id=blake2b(refused.entry.encode() + refused.raw, digest_size=16).hexdigest(),
        entry_id=refused.entry.rsplit("/", 1)[1],
        stage="intake",
        reason=refused.reason,
        app=refused.app,
        at_ms=now,
        raw=vault.encrypt(refused.raw),
        fields=dict(refused.fields),
    )


def _packed(messages: Sequence[Message]) -> list[bytes]:
    """Blobs of up to PACK_MAX messages and about PACK_BYTES."""
    sizes = (1024 + 64 * _people(one) + sum(len(part.text or "") for part in one.elements) for one in messages)
    return [encode(pack) for pack in _packs(messages, sizes)]


def _people(message: Message) -> int:
    return MEMBERS_GUESSED if message.recipients is None else len(message.recipients)


def _bundled(records: Sequence[Record]) -> list[bytes]:
    """Blobs of about PACK_BYTES: a read may hold five hundred dead letters of the largest size."""
    sizes = (len(one.raw) if isinstance(one, DeadRecord) else 0 for one in records)
    return [encode(pack) for pack in _packs(records, sizes, READ_COUNT * PACK_MAX)]


def _packs(items: Sequence[Any], sizes: Iterable[int], most: int = PACK_MAX) -> Iterator[list[Any]]:
    """The items in order, in packs of up to `most` and about PACK_BYTES."""
    pack: list[Any] = []
    size = 0
    for item, bytes_of in zip(items, sizes, strict=True):
        pack.append(item)
        size += bytes_of
        if len(pack) >= most or size >= PACK_BYTES:
            yield pack
            pack, size = [], 0
    if pack:
        yield pack
