"""One push to one target on its way through delivery."""

from __future__ import annotations

import msgspec

from common.contracts import Notification, Target
from common.model import Decision, Vendor


class Hold(msgspec.Struct, frozen=True, gc=False):
    """By which take a sender holds entries. sends: it is going to send them."""

    lane: str
    word: str
    sends: bool = True


class PendingPush(msgspec.Struct, gc=False, eq=False):
    """entry: name of the lane's entry that it came in; place: its place there; hold: by which take
    it is held. by_entry: it needs no claim of its own (`Batch.by_entry`). leased: it was asked for
    in this round; counted: the badge number that it has taken, as in `Target`. coalesced,
    coalesced_count: older pushes that this one replaces, and the number that its text shows.

    repeated: an earlier reader of the entry had it and may have sent it. overtaken: it stays
    because a newer one has its place on the screen; it takes up no badge number. kept_by: why its
    lane did not send while it waited untouched. lane: (vendor, business id) of the lane it goes on
    to, None: it stays with its own.
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
        """It may be on somebody's screen: a request was written and never answered
        (contract §7).
        """
        return self.repeated or self.target.held_by == Decision.UNCERTAIN
