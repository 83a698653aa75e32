"""Push -> outcome: claim, breaker, access, batch, admit, send once, classify.

Each step is a function that returns the pushes it keeps, and what becomes of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from common.model import Verdict
from workers.delivery import batching, classifying, holding, late, sending
from workers.delivery.claiming import claimed, wellformed
from workers.delivery.images import shown
from workers.delivery.lane import Lane
from workers.delivery.last_check import LastSeen, checked
from workers.delivery.pacing import Pace, Unpaced
from workers.delivery.ports import PROBE_UNSENT, BreakerOpen, BreakerProbe, DeliveryPorts, LaneTurn
from workers.delivery.results import Delivered, Granted
from workers.delivery.sending import NO_EXCHANGE, Exchange
from workers.delivery.work import PendingPush
from workers.vendors.types import AccessRefused, AccessToken
from workers.wire import HttpResponse, NoAnswer, Request

#: Most pushes of one process on the wire: the most that a SIGKILL may double (contract §7).
IN_FLIGHT_MAX = 500
_ANY_TIME = LaneTurn(None, Unpaced())


@dataclass(slots=True)
class Ready:
    """A round before its send. granted: the requests that may go; empty: the round is over."""

    lane: Lane
    done: Delivered
    granted: Granted = ()
    access: AccessToken | None = None

    @property
    def costs(self) -> list[int]:
        """The costs of the requests, in the unit of the lane's rate."""
        return sending.costs(self.granted, self.lane)

    @property
    def seen(self) -> LastSeen:
        return LastSeen(self.done.addressed_ms, self.done.leased_ms, self.done.lost)

    def in_time(self, granted: Granted, ports: DeliveryPorts) -> Granted:
        """Those of these requests that may go at this moment; the rest is decided."""
        step, seen = checked(granted, self.lane, ports, self.seen)
        self.done.addressed_ms, self.done.leased_ms = seen.addressed_ms, seen.leased_ms
        return self.done.add(step)


def deliver(
    works: Sequence[PendingPush], lane: Lane, ports: DeliveryPorts, turn: LaneTurn | None = None
) -> Delivered:
    """Delivers one round: at most IN_FLIGHT_MAX pushes of one lane.

    Every push ends in exactly one list of the result, or is coalesced into one that does. turn:
    None when the lane's state and rate are not known yet: then the breaker is asked and nothing is
    paced.
    """
    ready = prepared(works, lane, ports, turn)
    return sent(ready, ports, Unpaced() if turn is None else turn.pacer)


def prepared(
    works: Sequence[PendingPush], lane: Lane, ports: DeliveryPorts, turn: LaneTurn | None = None
) -> Ready:
    """The round up to its send: nothing has left, and no token of the rate is taken."""
    done = Delivered(lost=turn.lost if turn is not None else ())
    done.leased_ms = (turn.leased_ms if turn is not None else 0) or ports.now_ms()
    done.probe = turn is not None and turn.state is not None
    ready = Ready(lane, done)
    mine = done.add(claimed(works, ports))
    done.addressed_ms = ports.now_ms()
    if mine:
        mine = done.add(late.addressed(mine, lane, ports.addresses))
        mine = _not_held(done.add(wellformed(mine, lane)), ready, ports, turn)
    if mine:
        access = ports.access.get(lane, ports.now_ms())
        if isinstance(access, AccessRefused):
            done.add(holding.without_access(mine, lane, access, ports))
            return ready
        ready.access = access
        ready.granted = _granted(mine, ready, ports, (turn or _ANY_TIME).pacer.burst)
    if not ready.granted:
        _hand_back(ready, ports)
    return ready


def _not_held(
    works: Sequence[PendingPush], ready: Ready, ports: DeliveryPorts, turn: LaneTurn | None
) -> Sequence[PendingPush]:
    """Those that neither breaker, person, an outage's backlog nor the screen hold back."""
    done = ready.done
    state: BreakerProbe | BreakerOpen | None = None
    if turn is not None:
        state = turn.state
    elif works:
        state = ports.breaker.open_for(ready.lane)
    if isinstance(state, BreakerOpen):
        return done.add(holding.behind_breaker(works, state))
    works = done.add(late.consented(works, ports.consent, ports.now_ms()))
    waits = state is None or turn is None or turn.waits_for_newest
    works = done.add(holding.coalesced(works, ports, waits=waits))
    if state is not None:
        done.probe = True
        works = done.add(holding.probing(works, state))
    return done.add(late.in_their_places(works, ports.screens))


def _granted(
    works: Sequence[PendingPush], ready: Ready, ports: DeliveryPorts, burst: int
) -> Granted:
    """The request batches that have leave to go. burst: the tokens that may go at once."""
    lane, done = ready.lane, ready.done
    now_ms = ports.now_ms()  # fetching an access token takes its time
    fit = done.add(batching.items(works, lane, ports, now_ms))
    if not fit:
        return ()
    batches = batching.batched([item for _, item in fit], lane, ports, now_ms, burst)
    granted = done.add(batching.admitted(fit, batches, lane, ports))
    return ready.in_time(granted, ports) if granted else ()


def sent(ready: Ready, ports: DeliveryPorts, pacer: Pace) -> Delivered:
    """The rest of a round that was prepared."""
    if ready.granted:
        ready.granted = shown(ready.granted, ready.lane, ready.access, ports)
        exchange = _exchanged(ready, ports, pacer)
        ready.done.requests += exchange.requests
        concluded(exchange.granted, exchange.answers, ready, ports)
    return ready.done


def _exchanged(ready: Ready, ports: DeliveryPorts, pacer: Pace) -> Exchange:
    """The requests sent and their answers: at once where the rate allows it, else in parts."""
    if pacer.part(ready.costs) != (len(ready.granted), 0.0):
        return _in_parts(ready, ports, pacer)
    # the lane's rate was asked meanwhile, and its server may have been away
    fit = ready.in_time(ready.granted, ports)
    pacer.spend(sum(sending.costs(fit, ready.lane)))
    return sending.exchanged(fit, ready.lane, ready.access, ports) if fit else NO_EXCHANGE


def _in_parts(ready: Ready, ports: DeliveryPorts, pacer: Pace) -> Exchange:
    lane, parts, looked = ready.lane, list[Future[Exchange]](), False
    rest, costs = ready.granted, ready.costs
    fit: Granted = ()
    try:
        while (part := pacer.part(costs)) is not None:
            count, wait_s = part
            if wait_s > 0:
                pacer.wait(wait_s)
                continue
            # of all that is left in one look, once a part: with slow answers each would be too old
            if not looked and not ready.seen.fresh(ports.now_ms()):
                rest = ready.in_time(rest, ports)
                costs, looked = sending.costs(rest, lane), True
                continue
            looked = False
            pacer.spend(sum(costs[:count]))
            fit = ready.in_time(rest[:count], ports)
            rest, costs = rest[count:], costs[count:]
            if fit:
                parts.append(sending.begun(fit, lane, ready.access, ports))
                fit = ()
    except Exception:
        if not parts:
            raise
        # what was sent is written first; the rest breaks again where nothing was sent, and is told
        rest = [*fit, *rest]
    if left := [work for _, works in rest for work in works]:
        ready.done.left += left
        ports.gate.refund(lane, left)
    return sending.joined([part.result() for part in parts])


def keep_in_time(ready: Ready, ports: DeliveryPorts) -> None:
    """Keeps what of a round may still go after the wait for its rate; the rest is decided."""
    ready.granted = ready.in_time(ready.granted, ports)


def requests_of(ready: Ready, ports: DeliveryPorts) -> list[Request]:
    """The requests of a round that goes at once; from here on it counts as sent."""
    requests = sending.requests_of(ready.granted, ready.lane, ready.access, ports.now_ms())
    ready.done.requests += len(requests)
    return requests


def concluded(
    granted: Granted, answers: Sequence[HttpResponse | NoAnswer], ready: Ready, ports: DeliveryPorts
) -> None:
    """Classifies the answers of the round and reports them to gate, breaker and access tokens."""
    lane, done = ready.lane, ready.done
    if not granted:
        _hand_back(ready, ports)
        return
    # the unsendable are the pushes' own fault: the vendor was neither there nor down
    answered = [one for one in answers if isinstance(one, HttpResponse) or not one.unsendable]
    ports.observe(lane, answered)
    found = classifying.classified(granted, answers, lane.spec)
    done.outcomes += found.outcomes
    if found.stale and ready.access is not None:
        sent_ms = min(work.sent_ms for _, works in granted for work in works)
        ports.access.refused(lane, ready.access, sent_ms)
    if found.stale or found.renew:
        ports.transport.renew(lane.route.pool)
    # a probe whose access token was only too old has not tried the lane: another is the probe, with
    # a new token
    untried = done.probe and any(
        outcome.verdict == Verdict.ACCESS_EXPIRED for _, outcome in done.outcomes
    )
    good = 0 if untried else done.accepted + len(answered) - found.failed
    classifying.report(done.outcomes, good, found.failed, lane, ports)
    classifying.report_quotas(granted, answers, lane, ports)


def _hand_back(ready: Ready, ports: DeliveryPorts) -> None:
    """A probe that was not sent after all: another may be it."""
    if ready.done.probe:
        ports.breaker.report(ready.lane, PROBE_UNSENT)


def review(works: Sequence[PendingPush], ports: DeliveryPorts) -> Delivered:
    """Decides withdrawn and expired pushes, drops another entry's, leaves the rest unsent."""
    done = Delivered()
    done.left = list(done.add(claimed(works, ports, counts=False)))
    return done
