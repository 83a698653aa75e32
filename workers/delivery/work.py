"""One push to one target on its way through delivery."""

from __future__ import annotations

import msgspec

from common.contracts import Notification, Target
from common.model import Decision, Vendor


class Work(msgspec.Struct, gc=False, eq=False):
    """entry: the stream entry it came in. led, speaks_for: older ones that share its fate, and how many its words say there are.

    repeated: an earlier reader of the entry had it and may have sent it. overtaken: it stays because a newer one has its place on
    the screen; it takes up no badge number. kept_by: why its lane did not send while it waited untouched. lane: (vendor,
    business id) of the lane it goes on to, None: it stays with its own.
    """

    entry: str
    note: Notification
    target: Target
    badge: int | None = None
    sent_ms: int = 0
    led: tuple[Work, ...] = ()
    speaks_for: int = 1
    repeated: bool = False
    overtaken: bool = False
    kept_by: str | None = None
    lane: tuple[Vendor, str] | None = None

    @property
    def doubtful(self) -> bool:
        """It may be on somebody's screen: a request was written and never answered (contract §7)."""
        return self.repeated or self.target.held_by == Decision.UNCERTAIN
