"""Access tokens: fetched once, shared, refreshed by one caller at a time.

A caller that finds the lock taken uses the old token while it is valid.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from common.model import Verdict
from workers.delivery.lane import Lane
from workers.vendors.types import AccessRefused, AccessToken
from workers.wire import HttpResponse, Transport

#: A token that expires sooner is not used any more.
MARGIN_MS = 5_000
#: Longest wait for another process's refresh beyond that request's own deadline, and the step of
#: looking.
GRACE_S, STEP_S = 2.0, 0.05
#: The characters and length of an access token (RFC 6750 §2.1 allows fewer characters).
_VALUE = re.compile(r"[!-~]{1,4096}")
#: Seconds between two refreshes forced by the vendor's "expired". Source: docs/vendors/vivo.md; no
#: other vendor documents a larger figure.
FORCE_EVERY_S = 30


class Store(Protocol):
    def load(self, lane: str, version: int) -> tuple[str, int, int] | None: ...
    def save(
        self, lane: str, version: int, value: str, refresh_at_ms: int, expires_at_ms: int
    ) -> None: ...
    def lock(self, lane: str, version: int) -> str | None: ...
    def unlock(self, lane: str, version: int, word: str) -> None: ...
    def reject(self, lane: str, version: int, value: str, seconds: int) -> None: ...


class FleetAccess:
    """One access token per credential for the whole fleet.

    Only tokens signed here are kept here: a token that the vendor refused in one process must not
    be sent again by another, or the second refusal would count against the account.
    """

    def __init__(
        self,
        store: Store,
        transport: Transport,
        now_ms: Callable[[], int],
        sleep: Callable[[float], None],
        deadline_s: float,
    ) -> None:
        self._store = store
        self._transport = transport
        self._now_ms = now_ms
        self._sleep = sleep
        self._deadline_s = deadline_s
        self._own: dict[tuple[str, int], AccessToken] = {}

    def get(self, lane: Lane, now_ms: int) -> AccessToken | AccessRefused | None:
        """None where the vendor needs no access token (Xiaomi, Meizu, APNs with a certificate)."""
        if lane.spec.access is None:
            return None
        key = (lane.id, lane.credential.version)
        own = self._own.get(key)
        if own is not None and now_ms < own.refresh_at_ms:
            return own
        if lane.spec.identity(lane.credential) is not None:
            return None
        if lane.spec.access.again is None:
            stored = self._stored(key)
            if stored is not None and now_ms < stored.refresh_at_ms:
                return stored
        answer = lane.spec.access.ask(lane.credential, now_ms)
        if isinstance(answer, AccessToken):  # signed here, the same in every process
            self._own[key] = answer
            return answer
        return self._fetch_or_wait(lane, key)

    def refused(self, lane: Lane, token: AccessToken, now_ms: int) -> None:
        """Marks a token as refused: the next caller fetches another, once per fleet.

        The store accepts one refusal per FORCE_EVERY_S. Nothing is fetched here: the answers of the
        round that reported it must be written first.
        """
        key = (lane.id, lane.credential.version)
        again = lane.spec.access.again if lane.spec.access is not None else None
        if again is not None:
            self._own[key] = again(lane.credential, now_ms)
        else:
            self._store.reject(*key, token.value, FORCE_EVERY_S)

    def _lives(self, token: AccessToken) -> bool:
        """True while it may be used. Looked at after each wait: a door takes seconds to refuse."""
        return self._now_ms() < token.expires_at_ms - MARGIN_MS

    def _stored(self, key: tuple[str, int]) -> AccessToken | None:
        found = self._store.load(*key)
        if found is None:
            return None
        return AccessToken(found[0], refresh_at_ms=found[1], expires_at_ms=found[2])

    def _fetch_or_wait(self, lane: Lane, key: tuple[str, int]) -> AccessToken | AccessRefused:
        waited = 0.0
        while True:
            word = self._store.lock(*key)
            if word is not None:
                return self._fetch(lane, key, word)
            old = self._stored(key)
            if old is not None and self._lives(old):
                return old  # another process is fetching; this one still lives
            if waited >= self._deadline_s + GRACE_S:
                return AccessRefused(
                    Verdict.UNAVAILABLE, "busy", "another process is fetching the access token"
                )
            self._sleep(STEP_S)
            waited += STEP_S

    def _fetch(self, lane: Lane, key: tuple[str, int], word: str) -> AccessToken | AccessRefused:
        try:
            now_ms = self._now_ms()
            stored = self._stored(key)  # the lock's last holder may have fetched it a moment ago
            if stored is not None and now_ms < stored.refresh_at_ms:
                return stored
            reply = self._ask(lane, now_ms)
            if isinstance(reply, AccessToken):
                self._store.save(*key, reply.value, reply.refresh_at_ms, reply.expires_at_ms)
            elif stored is not None and self._lives(stored):
                return stored  # the door is shut for the moment, the old key still turns
            return reply
        finally:
            self._store.unlock(*key, word)

    def _ask(self, lane: Lane, now_ms: int) -> AccessToken | AccessRefused:
        spec = lane.spec.access
        if spec is None:
            raise ValueError("this lane has no access tokens")
        request = spec.ask(lane.credential, now_ms)
        if isinstance(request, AccessToken):
            return request
        answer = lane.send_many(self._transport, [request], self._deadline_s)[0]
        if isinstance(answer, HttpResponse):
            reply = spec.read(answer, now_ms)
            if isinstance(reply, AccessToken) and not _VALUE.fullmatch(reply.value):
                # The value would become a header: the pushes are not at fault, so they wait.
                return AccessRefused(
                    Verdict.UNAVAILABLE,
                    "malformed",
                    "the access token is not printable ASCII of 1 to 4096 characters",
                )
            return reply
        return AccessRefused(Verdict.UNAVAILABLE, answer.reason, answer.words)
