"""What delivery may ask of the process that runs it: its ports, and the values they exchange."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from common.contracts import Notification
from common.model import Bucket, Decision
from common.values import Value
from workers.delivery import late
from workers.delivery.coalescing import Group, View
from workers.delivery.images import Images
from workers.delivery.lane import Lane
from workers.delivery.pacing import Pace
from workers.delivery.work import PendingPush
from workers.vendors.types import AccessRefused, AccessToken, PushItem
from workers.wire import HttpResponse, NoAnswer, Transport

if TYPE_CHECKING:
    from workers.delivery.alike import AlikeRound


class ClaimAnswer(Value, frozen=True):
    """state: ours, done, elsewhere or revoked, with why as the decision; badge: the number taken.

    why is `uncertain` when ours a second time. counted: for a push without a claim of its own, its
    number from now on (`Target.counted`).
    """

    state: str
    badge: int | None
    why: str
    counted: str = ""


class Permit(Value, frozen=True):
    """Leave to send. decision: None = granted; THROTTLED with wait_s = later; QUOTA_SPENT,
    DEVICE_CAP = not today.
    """

    decision: Decision | None
    wait_s: float = 0.0


GRANTED = Permit(None)


class BreakerOpen(Value, frozen=True):
    """A lane that sends nothing now. why: the decision of its pushes when they expire."""

    why: Decision


class BreakerProbe(Value, frozen=True):
    """A stopped lane that takes one push now, as a probe. why: as in BreakerOpen."""

    why: Decision


class RoundReport(Value, frozen=True):
    """What a round's answers say of its lane. cause: of the failures, as causes.py names it.

    throttled: answers of the lane's flow control; nothing may be sent before retry_after_s.
    """

    good: int = 0
    failed: int = 0
    refused: bool = False
    retry_after_s: float | None = None
    throttled: int = 0
    cause: str = ""


#: Of a probe that was never sent: another push may then be the probe.
PROBE_UNSENT = RoundReport()


class LaneTurn(Value, frozen=True):
    """The results of a lane's take. state: None = the breaker is closed; pacer: each push's time.

    lost: names of entries that another sender claims meanwhile; it grows while the round waits.
    waits_for_newest: False when probes have waited long enough for the newest of their
    conversations. leased_ms: when the claims of its pushes were asked for; 0: they were not yet.
    """

    state: BreakerProbe | None
    pacer: Pace
    lost: Collection[str] = ()
    waits_for_newest: bool = True
    leased_ms: int = 0


class ClaimLeases(Protocol):
    def lease(
        self, works: Sequence[PendingPush], badge_steps: Sequence[int]
    ) -> Sequence[ClaimAnswer]: ...


class EntryLeases(Protocol):
    def renewed(self, works: Sequence[PendingPush]) -> Collection[str] | None:
        """Renews the leases of these works' entries, in one call for each take.

        Returns the names of those that are another sender's by now; None: the store is away.
        """
        ...


class RowNumberPort(Protocol):
    def take(
        self, rounds: Sequence[tuple[Lane, AlikeRound]]
    ) -> Sequence[Sequence[tuple[int, str]] | None]:
        """By round the badge of each push and the number taken for it, in one call for all rounds.

        None for a round: not all of it may go to its tokens, and nothing was taken without being
        noted.
        """
        ...


class AdmissionGate(Protocol):
    def admit(self, lane: Lane, asks: Sequence[tuple[PushItem, int]]) -> Sequence[Permit]:
        """A permit for each (item, number of its request), all or nothing per item, in one call."""
        ...

    def refund(self, lane: Lane, works: Sequence[PendingPush]) -> None:
        """Ends the round; refunds pushes that were definitely not accepted."""
        ...

    def report_quota_spent(self, lane: Lane, bucket: Bucket) -> None:
        """Records the vendor's answer that this bucket's quota of the day is spent."""
        ...

    def report_quota(self, lane: Lane, bucket: Bucket, used: int, limit: int) -> None:
        """The vendor's own numbers of the day."""
        ...

    def report_lists_spent(self, lane: Lane) -> None:
        """The vendor takes no more requests for several tokens today."""
        ...

    def lists_spent(self, lane: Lane) -> bool: ...

    def report_capped(self, lane: Lane, works: Sequence[PendingPush]) -> None:
        """Records the vendor's answer that these devices have reached their daily cap."""
        ...


class Breaker(Protocol):
    def open_for(self, lane: Lane) -> BreakerProbe | BreakerOpen | None:
        """None: the lane flows."""
        ...

    def report(self, lane: Lane, found: RoundReport) -> None: ...


class AccessTokens(Protocol):
    def get(self, lane: Lane, now_ms: int) -> AccessToken | AccessRefused | None: ...
    def refused(self, lane: Lane, token: AccessToken, now_ms: int) -> None:
        """The vendor would not take this token: fetch another, once for the whole fleet."""
        ...


class HeldPushStore(Protocol):
    def look(self, asks: Sequence[tuple[Group, str, int, int | None]]) -> Sequence[View | None]:
        """Each held push's group, None where no outage held it.

        asks: group, push id, received ms, ts of its event if it joins a group that it is not in.
        """
        ...


@dataclass(frozen=True, slots=True)
class DeliveryPorts:
    """The ports of delivery.

    summary_text: (notification, count) -> the text of a coalesced push.
    """

    claims: ClaimLeases
    backlog: HeldPushStore
    summary_text: Callable[[Notification, int], str]
    gate: AdmissionGate
    breaker: Breaker
    access: AccessTokens
    transport: Transport
    now_ms: Callable[[], int]
    deadline_s: float
    callback_url: Callable[[Lane], str | None]
    observe: Callable[[Lane, Sequence[HttpResponse | NoAnswer]], None]
    images: Images
    addresses: late.Addresses
    consent: late.Consent
    screens: late.Screens
    leases: EntryLeases
    rows: RowNumberPort | None = None
