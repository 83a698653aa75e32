"""One push to one target on its way through delivery."""

from __future__ import annotations

import msgspec

from common.contracts import Notification, Target
from common.model import Decision, Vendor


class Hold(msgspec.Struct, frozen=True, gc=False):
    """By which take a sender holds entries. sends: it is going to send them. shard: as in Taken."""

    lane: str
    word: str
    sends: bool = True
    shard: int = 0


class PendingPush(msgspec.Struct, gc=False, eq=False):
    """A push on its way through delivery. entry: name of its lane entry; place: its index there.

    hold: the take that holds it. by_entry: it needs no claim of its own (`Batch.by_entry`). leased:
    it was requested in this round; counted: its badge number, as in `Target`. coalesced,
    coalesced_count: older pushes that this one replaces, and the number that its text shows.
    repeated: an earlier reader of the entry had it and may have sent it. overtaken: a newer one has
    its place on the screen; it takes no badge number. kept_by: why its lane did not send while it
    waited untouched. lane: (vendor, business id) of its next lane, None: its own.
    """

    entry: str
    note: Notification
    target: Target
    badge: int | None = None
    sent_ms: int = 0
    coalesced: tuple[PendingPush, ...] = ()
    coalesced_count: int = 1
    repeated: bool = False
    overtaken: bool = False
    kept_by: str | None = None
    place: int = 0
    by_entry: bool = False
    counted: str = ""
    leased: bool = False
    hold: Hold | None = None
    lane: tuple[Vendor, str] | None = None

    @property
    def doubtful(self) -> bool:
        """True when perhaps on a screen: a request was written, never answered (contract §7)."""
        return self.repeated or self.target.held_by == Decision.UNCERTAIN
