"""APNs's codes: what each means for a token. Source: docs/vendors/apns.md, codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from common.contracts import Target
from common.model import Again, Verdict
from workers.vendors.answers import no_answer, read, retry_after_s
from workers.vendors.attempts import in_a_row
from workers.vendors.types import DEFAULT_RETRY, Outcome, PushItem, RequestBatch, Retry
from workers.wire import HttpResponse, NoAnswer

#: Reasons of a refusal with the same meaning for every credential. Source: Apple, Handling
#: notification responses from APNs, read 2026-11-22.
REASONS: Final[Mapping[str, Verdict]] = {
    "BadCollapseId": Verdict.REJECTED,
    "BadDeviceToken": Verdict.TOKEN_FOREIGN,  # malformed, or of the other environment
    "BadExpirationDate": Verdict.REJECTED,
    "BadMessageId": Verdict.REJECTED,
    "BadPriority": Verdict.REJECTED,
    "BadTopic": Verdict.CREDENTIAL_REFUSED,
    "DeviceTokenNotForTopic": Verdict.TOKEN_FOREIGN,
    "DuplicateHeaders": Verdict.REJECTED,
    "IdleTimeout": Verdict.UNAVAILABLE,
    "InvalidPushType": Verdict.REJECTED,
    "MissingDeviceToken": Verdict.REJECTED,
    "MissingTopic": Verdict.CREDENTIAL_REFUSED,
    "PayloadEmpty": Verdict.REJECTED,
    "TopicDisallowed": Verdict.CREDENTIAL_REFUSED,
    "BadCertificate": Verdict.CREDENTIAL_REFUSED,
    "BadCertificateEnvironment": Verdict.CREDENTIAL_REFUSED,
    "ExpiredProviderToken": Verdict.ACCESS_EXPIRED,
    "Forbidden": Verdict.CREDENTIAL_REFUSED,
    "InvalidProviderToken": Verdict.CREDENTIAL_REFUSED,
    "MissingProviderToken": Verdict.CREDENTIAL_REFUSED,
    "UnrelatedKeyIdInToken": Verdict.UNAVAILABLE,
    "BadEnvironmentKeyIdInToken": Verdict.CREDENTIAL_REFUSED,  # as Apple's page spells it
    "BadEnvironmentKeyInToken": Verdict.CREDENTIAL_REFUSED,  # as the live servers do
    "BadPath": Verdict.REJECTED,
    "MethodNotAllowed": Verdict.REJECTED,
    "ExpiredToken": Verdict.TOKEN_DEAD,
    "Unregistered": Verdict.TOKEN_DEAD,
    "PayloadTooLarge": Verdict.REJECTED,
    "TooManyProviderTokenUpdates": Verdict.THROTTLED,
    "TooManyRequests": Verdict.THROTTLED,
    "InternalServerError": Verdict.UNAVAILABLE,
    "ServiceUnavailable": Verdict.UNAVAILABLE,
    "Shutdown": Verdict.UNAVAILABLE,
    # Of the broadcast and channel interface, which we do not call.
    "FeatureNotEnabled": Verdict.REJECTED,
    "MissingChannelId": Verdict.REJECTED,
    "BadChannelId": Verdict.REJECTED,
    "ChannelNotRegistered": Verdict.REJECTED,
    "BadRequestParams": Verdict.REJECTED,
    "BadRequestPayload": Verdict.REJECTED,
    "MissingPushType": Verdict.REJECTED,
    "CannotCreateChannelConfig": Verdict.REJECTED,
    "TopicMismatch": Verdict.CREDENTIAL_REFUSED,
}
#: Reasons whose next attempt must not use this connection.
NEW_CONNECTION: Final = frozenset(
    {"ExpiredProviderToken", "UnrelatedKeyIdInToken", "IdleTimeout", "Shutdown"}
)
RETRY_FIRST_S: Final = 900.0  # Apple: 5xx may be tried again after 15 minutes
QUICK_S: Final = 1.0  # nothing was taken and no quarter of an hour was requested
#: First delays of single reasons: a new connection is all it takes, or the provider token may
#: change every 20 minutes.
FIRST_S: Final = {
    "UnrelatedKeyIdInToken": QUICK_S,
    "IdleTimeout": QUICK_S,
    "Shutdown": QUICK_S,
    "TooManyProviderTokenUpdates": 1200.0,
}
#: Longer than any reason of Apple's, and all that is kept of one.
REASON_MAX: Final = 64
RETRY: Final = Retry(
    first_s={**DEFAULT_RETRY.first_s, Verdict.UNAVAILABLE: RETRY_FIRST_S},
    attempts_max=DEFAULT_RETRY.attempts_max,
)


class ApnsReply(msgspec.Struct):
    """Body of a refusal. timestamp (410 only): ms, when APNs last knew the token to be invalid."""

    reason: str = ""
    timestamp: Any = None


def classify(batch: RequestBatch, answer: HttpResponse | NoAnswer) -> Sequence[Outcome]:
    """One outcome, as there is one token a request. Source: apns.md §5."""
    if isinstance(answer, NoAnswer):
        quick = None if answer.sent else QUICK_S
        outcomes = no_answer(batch, answer)
        return [Outcome(o.verdict, o.status, words=o.words, first_s=quick) for o in outcomes]
    vendor_id = answer.headers.get("apns-id", "")[:REASON_MAX] or None
    if answer.status == 200:
        return [Outcome(Verdict.ACCEPTED, "200", vendor_message_id=vendor_id)] * len(batch.items)
    reply = read(answer, ApnsReply) or ApnsReply()
    return [_refused(item, answer, reply, vendor_id) for item in batch.items]


def accepted_id(answer: HttpResponse) -> str | None:
    """The apns-id of an accepting answer, as `classify` finds it; None for any other."""
    return header_id("apns-id", answer.headers.get("apns-id", "")) if answer.status == 200 else None


def header_id(name: str, value: str) -> str | None:
    """The same for an answer of status 200 that has only this header."""
    return (value[:REASON_MAX] or None) if name == "apns-id" else None


def _refused(
    item: PushItem, answer: HttpResponse, reply: ApnsReply, vendor_id: str | None
) -> Outcome:
    reason = reply.reason[:REASON_MAX]
    verdict, words = REASONS.get(reason) or _by_status(answer.status), ""
    if verdict is Verdict.TOKEN_DEAD and _registered_since(item.target, reply.timestamp):
        verdict, words = Verdict.REJECTED, "the device registered this token again after that"
    if reason == "UnrelatedKeyIdInToken" and in_a_row(item, reason) > 1:
        verdict = Verdict.CREDENTIAL_REFUSED  # a new connection was no cure
    return Outcome(
        verdict,
        str(answer.status),
        reason,
        words,
        vendor_id,
        retry_after_s=retry_after_s(answer),
        first_s=FIRST_S.get(reason),
        token_only=reason == "TooManyRequests",
        again=Again.NEW_CONNECTION if reason in NEW_CONNECTION else None,
        alarm=verdict is Verdict.UNKNOWN or reason == "TooManyProviderTokenUpdates",
    )


def _by_status(status: int) -> Verdict:
    """The verdict by status when the body has no known reason (a proxy's page, a new code)."""
    if status == 413:
        return Verdict.REJECTED
    if status == 429:
        return Verdict.THROTTLED
    return Verdict.UNAVAILABLE if 500 <= status <= 599 else Verdict.UNKNOWN


def _registered_since(target: Target, timestamp: Any) -> bool:
    """True when the device registered this token again after APNs reported it dead.

    Without a time APNs' report stands.
    """
    known = isinstance(timestamp, int | float) and not isinstance(timestamp, bool) and timestamp > 0
    return known and target.registered_ms > timestamp


def checked(answer: HttpResponse) -> Verdict:
    """ACCEPTED when APNs got as far as looking at the token."""
    reply = read(answer, ApnsReply) or ApnsReply()
    verdict = (
        Verdict.ACCEPTED
        if answer.status == 200
        else REASONS.get(reply.reason) or _by_status(answer.status)
    )
    return Verdict.ACCEPTED if verdict in (Verdict.TOKEN_FOREIGN, Verdict.TOKEN_DEAD) else verdict
