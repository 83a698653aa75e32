"""People who are away -> pushes, packed by lane and urgency."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from common import metrics
from common.clock import now_ms
from common.contracts import OfflineRecipients, decode_offline, encode
from common.model import Decision
from common.storage import keys
from common.storage.delayed import Later, as_new
from common.storage.lane_queues import LaneQueues
from common.storage.replies import Replies
from common.storage.streams import Entry
from workers.app import DELIVERY
from workers.handlers.ledger_rows import FOLLOW_UP_KINDS, odd_zone, routing_row
from workers.handlers.replies import routing_replies
from workers.presence.offline_recipients import again_ms
from workers.queues.consumer import Commit, PackedEntries
from workers.routing import fan_out as routing

if TYPE_CHECKING:
    from workers.handlers.forwarding import Spread

log = logging.getLogger(__name__)


class AccountVersions(Protocol):
    """The version of the tenants and accounts that this process works with."""

    def version(self) -> int: ...

    def newest_version(self) -> int:
        """As `version`, and this process works with the newest from now on."""
        ...


@dataclass(frozen=True, slots=True)
class RoutingHandler(PackedEntries):
    """People who are away -> pushes, packed by lane and urgency."""

    ports: routing.RoutingPorts
    accounts: AccountVersions
    queues: LaneQueues
    replies: Replies
    spread: Spread | None = None  # of a fleet of several shards

    def handle(self, entries: Sequence[Entry]) -> Commit:
        found = [
            (one, one.message.single and entry.deliveries == 1)
            for entry in entries
            for one in decode_offline(entry.blob)
        ]
        single, others = (
            [one for one, is_single in found if is_single],
            [one for one, is_single in found if not is_single],
        )
        if self.spread is None:
            return _both(self.route, single, others)
        (single, out), (others, others_out) = (
            self.spread.offline(single),
            self.spread.offline(others),
        )
        return _both(self.route, single, others) + out + others_out

    def route_marked(self, offline: Sequence[OfflineRecipients]) -> Commit:
        """As `route`, each as its message is marked."""
        single = [one for one in offline if one.message.single]
        return _both(self.route, single, [one for one in offline if not one.message.single])

    def route(self, offline: Sequence[OfflineRecipients], single: bool) -> Commit:
        """Routes these people; returns the commit.

        single: as in Message; without it, a reader of the previous release may do the same again.
        """
        now = now_ms()
        routed = self._routed(offline, single, now)
        decisions = routing_replies(routed.rows)
        batches = [as_new(batch, urgency, encode(batch)) for urgency, batch in routed.batches]
        return Commit(
            rows=[
                *(routing_row(row, now) for row in routed.rows),
                *(odd_zone(message, user, name, now) for message, user, name in routed.odd_zones),
            ],
            wake=frozenset((DELIVERY, batch.vendor) for _, batch in routed.batches),
            deferred=[
                Later(
                    keys.routing(routing.urgency_of(one.message, "")),
                    encode([one]),
                    again_ms(one.message, now),
                )
                for one in routed.unasked
            ],
            extra=[
                lambda pipe: self.queues.put(pipe, batches),
                *([lambda pipe: self.replies.tell(pipe, decisions)] if decisions else ()),
            ],
            after=[lambda: _count(routed)],
        )

    def _routed(
        self, offline: Sequence[OfflineRecipients], single: bool, now: int
    ) -> routing.Routed:
        """No device is without an account because the account was added a moment ago."""
        version = self.accounts.version()
        routed = routing.route(offline, self.ports, now, by_entry=single)
        missed = any(row.decision is Decision.NO_CREDENTIAL for row in routed.rows)
        if missed and self.accounts.newest_version() != version:
            routed = routing.route(offline, self.ports, now, by_entry=single)
        return routed

    def items(self, blob: bytes) -> Sequence[OfflineRecipients]:
        return decode_offline(blob)


def _both(
    route: Callable[[Sequence[OfflineRecipients], bool], Commit],
    single: Sequence[OfflineRecipients],
    others: Sequence[OfflineRecipients],
) -> Commit:
    commit = route(single, True) if single else Commit()
    return commit + route(others, False) if others else commit


def _count(routed: routing.Routed) -> None:
    if routed.presets_missing:
        metrics.IGNORED.labels("unknown_strategy").inc(routed.presets_missing)
        log.warning(
            "a message names a preset that is not stored: defaults are used",
            extra={"count": routed.presets_missing},
        )
    ended = Counter(
        (row.device.vendor, row.decision)
        for row in routed.rows
        if row.message.kind not in FOLLOW_UP_KINDS
    )
    for (vendor, decision), count in ended.items():
        metrics.DECISIONS.labels(vendor, decision, "none").inc(count)
