"""`push.direct` on real stores: the tokens' registry, the marks of a clear, waiting callers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from redis.client import Pipeline

from common import metrics
from common.contracts import Message, OfflineRecipients
from common.ledger_records import RowRecord
from common.model import Decision, Kind
from common.storage.marks import EventMarks
from common.storage.replies import Replies
from common.tokens import declared_dead
from common.whole_seconds import latest_ms
from workers.intake import direct, messages
from workers.intake.direct import DirectRow
from workers.intake.effects import Withdrawal, named
from workers.intake.events import LANG_MAX, PLATFORM_MAX, Event

if TYPE_CHECKING:
    from common.storage.direct_tokens import DirectToken, DirectTokens


@dataclass(slots=True)
class Directed:
    """The result of one read's pushes to tokens. offline: continues to routing.

    taken: each event with its decision, None where it continues. rows: tokens without a push.
    decisions, waits: decisions to be sent, and until when others are due.
    withdrawals: of what is shown of cleared conversations. passed_over: wishes that count as none.
    """

    offline: list[OfflineRecipients] = field(default_factory=list)
    taken: list[tuple[Message, Decision | None]] = field(default_factory=list)
    rows: list[RowRecord] = field(default_factory=list)
    decisions: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    waits: list[tuple[str, str, str, int]] = field(default_factory=list)
    withdrawals: list[Withdrawal] = field(default_factory=list)
    passed_over: list[tuple[Message, str]] = field(default_factory=list)


class TokenPushes:
    """Takes the direct pushes of a read: a few statements and calls, however many there are."""

    def __init__(self, tokens: DirectTokens, marks: EventMarks, replies: Replies) -> None:
        self._tokens = tokens
        self._marks = marks
        self._replies = replies

    def take(self, batch: Sequence[Event], now: int) -> Directed:
        """The result of these events; no reply is sent yet.

        Marks of clears are set here, idempotently.
        """
        found = Directed()
        if not batch:
            return found
        todo: list[tuple[Event, Message]] = []
        for event in batch:
            taken = messages.directed(event, now)
            found.taken.append((taken.message, taken.decision))
            for wish in taken.ignored:
                metrics.IGNORED.labels(wish).inc()
                found.passed_over.append((taken.message, wish))
            if taken.decision is None:
                todo.append((event, taken.message))
            else:
                metrics.DECISIONS.labels("none", taken.decision, "none").inc()
                target = event.data.target
                found.decisions.append(direct.reply_of(taken.message, target, taken.decision))
        known = self._tokens.seen([_token(event, message) for event, message in todo])
        addressed = direct.address(
            todo, {who: direct.KnownTargets(*has) for who, has in known.items()}
        )
        found.offline = addressed.offline
        for row in addressed.rows:
            found.rows.append(_ledger_row(row, now))
            metrics.DECISIONS.labels(row.device.vendor, row.decision, "none").inc()
            found.decisions.append(
                direct.reply_of(
                    row.message, row.device, row.decision, row.note, retired=row.is_dead
                )
            )
        found.decisions = [(key, reply) for key, reply in found.decisions if key]
        found.waits = _waits(todo, addressed.offline, now)
        cleared = [
            event
            for event in batch
            if event.data.kind == "clear" and event.data.conversation is not None
        ]
        self._clear(cleared)
        found.withdrawals = [_withdrawal(event) for event in cleared]
        return found

    def again(self, batch: Sequence[Event]) -> list[tuple[str, dict[str, Any]]]:
        """Replies to repeated requests: only whether the token has been retired since."""
        repeated = [event for event in batch if event.data.reply is not None]
        if not repeated:
            return []
        known = self._tokens.states(
            [(event.app, direct.user_of(event.data.target)) for event in repeated]
        )
        decisions = []
        for event in repeated:
            user = direct.user_of(event.data.target)
            has = known.get((event.app, user))
            reply = {
                "event_id": event.id,
                "message_id": event.data.message_id,
                "user": user,
                "vendor": event.data.target.vendor,
                "business_id": event.data.target.business_id,
                "decision": None,
                "note": "asked before",
            }
            decisions.append(
                (
                    event.data.reply.key,
                    {**reply, "retired": has is not None and declared_dead(has[0], has[3])},
                )
            )
        return decisions

    def _clear(self, batch: Sequence[Event]) -> None:
        """A conversation that was read elsewhere: what is queued of it goes no more."""
        if not batch:
            return
        with self._marks.pipeline() as pipe:
            for event in batch:
                self._marks.read_up_to(
                    event.app,
                    direct.user_of(event.data.target),
                    named(event.data.conversation),
                    latest_ms(event.ts_ms, event.received_ms),
                    pipe,
                )
            pipe.execute()

    def tell(self, pipe: Pipeline, directed: Directed) -> None:
        """Into the MULTI that acknowledges them."""
        self._replies.tell(pipe, directed.decisions)
        self._replies.wait(pipe, directed.waits)


def _withdrawal(event: Event) -> Withdrawal:
    return Withdrawal(
        event.app,
        event.id,
        event.data.message_id,
        Kind.CLEAR,
        event.ts_ms,
        (direct.user_of(event.data.target),),
        named(event.data.conversation),
    )


def _token(event: Event, message: Message) -> DirectToken:
    from common.storage.direct_tokens import DirectToken  # noqa: PLC0415 - SQL, for those only

    target = event.data.target
    return DirectToken(
        app=message.app,
        user=direct.user_of(target),
        platform=target.platform.lower()[:PLATFORM_MAX],
        vendor=target.vendor,
        business_id=target.business_id,
        token=target.token,
        voip_token=target.voip_token or None,
        lang=target.lang[:LANG_MAX] if target.lang else None,
        since_ms=target.since_ms or 0,
    )


def _waits(
    todo: Sequence[tuple[Event, Message]], offline: Sequence[OfflineRecipients], now: int
) -> list[tuple[str, str, str, int]]:
    going = {(one.message.app, one.message.event_id) for one in offline}
    return [
        (
            event.data.reply.key,
            event.id,
            direct.user_of(event.data.target),
            now + event.data.reply.wait_ms,
        )
        for event, _ in todo
        if event.data.reply is not None
        and event.data.reply.wait_ms
        and (event.app, event.id) in going
    ]


def _ledger_row(row: DirectRow, now: int) -> RowRecord:
    message, device = row.message, row.device
    return RowRecord(
        app=message.app,
        event_id=message.event_id,
        ts_ms=message.ts_ms,
        user=row.user,
        device="",
        vendor=device.vendor,
        business_id=device.business_id,
        decision=row.decision,
        message_class=message.push.message_class,
        presence_ms=0,
        routed_ms=0,
        decided_ms=now,
        note=row.note,
    )
