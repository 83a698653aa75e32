"""The fault switches' effect: the request hit by a fault, and its answer. No sockets here."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

from simulators.simulator import Faults, Simulator, VendorCall, VendorReply, control

PADDING = b" " * (1 << 20)  # white space, so that a patient JSON reader still reads the answer
GARBAGE = (
    b"<html><head><title>502 Bad Gateway</title></head><body>a proxy that nobody knew "
    b"of</body></html>"
)
DRIP_S = 0.01  # between two bytes of a slow answer

Kind = Literal["answer", "silent", "reset", "refuse", "status", "garbage", "empty", "huge"]

#: The faults of one request, in the order they are tried; the first that hits is the only one.
_KINDS: tuple[tuple[str, Kind], ...] = (
    ("no_answer", "silent"),
    ("reset", "reset"),
    ("refuse_stream", "refuse"),
    ("status_share", "status"),
    ("garbage", "garbage"),
    ("empty", "empty"),
    ("huge", "huge"),
)


@dataclass(frozen=True, slots=True)
class Fate:
    """The fate of one request; drip: its answer is sent byte by byte."""

    kind: Kind = "answer"
    drip: bool = False
    delay_s: float = 0.0


HONEST = Fate()
CLOSED = Fate("reset")


class Shares:
    """The running counts behind the shares of `Faults`, one per simulator for all its ports."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.watchers: list[Callable[[], None]] = []  # called at every change of the switches
        self._seen: dict[str, int] = {}
        self._hits: dict[str, int] = {}

    def changed(self) -> None:
        """The switches were set: counts from zero; the ports check `down` and `max_streams`."""
        self._seen.clear()
        self._hits.clear()
        for watcher in self.watchers:
            watcher()

    def hit(self, name: str, share: float) -> bool:
        """True for a request within the share (0..1): 0.25 is every fourth.

        Ends after `only_first` hits.
        """
        hits = self._hits.get(name, 0)
        if share <= 0 or (self.faults.only_first and hits >= self.faults.only_first):
            return False
        seen = self._seen[name] = self._seen.get(name, 0) + 1
        if int(seen * share + 1e-9) <= int((seen - 1) * share + 1e-9):
            return False
        self._hits[name] = hits + 1
        return True

    def fate(self) -> Fate:
        faults = self.faults
        if faults.down:  # a connection in its last moment
            return CLOSED
        drip = self.hit("slow_drip", faults.slow_drip)
        delay_s = faults.delay_ms / 1000 if faults.delay_ms and self.hit("delay_ms", 1.0) else 0.0
        for name, kind in _KINDS:
            share = getattr(faults, name)
            if share and (kind != "status" or faults.status) and self.hit(name, share):
                return Fate(kind, drip, delay_s)
        return Fate("answer", drip, delay_s) if drip or delay_s else HONEST


#: Counts of the simulators that keep none themselves.
_SHARES: WeakKeyDictionary[Simulator, Shares] = WeakKeyDictionary()


def shares_of(simulator: Simulator) -> Shares:
    """The one set of counts of a simulator for all its ports: a change restarts all."""
    own = getattr(simulator, "shares", None)
    if isinstance(own, Shares):
        return own
    return _SHARES.setdefault(simulator, Shares(simulator.faults))


def side_door(simulator: Simulator, shares: Shares, call: VendorCall) -> VendorReply | None:
    """`/_sim/…` of base.control, and after a change of the faults the counts start again; None for
    the vendor's own calls.
    """
    reply = control(simulator, call)
    if reply is not None and call.path == "/_sim/faults":
        shares.changed()
    more = getattr(simulator, "stats", None)
    if reply is not None and call.path == "/_sim/stats" and callable(more):
        return VendorReply.json(200, {**json.loads(reply.body), **more()})
    return reply


def answer(simulator: Simulator, call: VendorCall, fate: Fate) -> VendorReply:
    """The answer to a call that is answered at all.

    Only here is anything done, so an unanswered call is never recorded.
    """
    faults = simulator.faults
    if fate.kind == "status":
        simulator.record.count(f"fault {faults.status}")
        headers = {"retry-after": str(faults.retry_after_s)} if faults.retry_after_s else {}
        return VendorReply(faults.status, faults.status_body.encode(), headers)
    reply = _handled(simulator, call)
    if fate.kind == "garbage":
        return VendorReply(reply.status, GARBAGE, {"content-type": "text/html"})
    if fate.kind == "empty":
        return VendorReply(
            reply.status,
            b"",
            {name: value for name, value in reply.headers.items() if name != "content-type"},
        )
    if fate.kind == "huge":
        return VendorReply(reply.status, reply.body + PADDING, reply.headers)
    return reply


def _handled(simulator: Simulator, call: VendorCall) -> VendorReply:
    try:
        return simulator.handle(call)
    except Exception:
        # a mistake of the simulator itself: seen, and never a dead connection
        traceback.print_exc(file=sys.stderr)
        simulator.record.count("simulator_error")
        return VendorReply(500, b"the simulator failed")
