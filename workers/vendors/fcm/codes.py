"""FCM's codes: what each means for a token. Source: docs/vendors/fcm.md, codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from common.model import Verdict
from workers.vendors.answers import no_answer, read, redact, retry_after_s, same, tokens_of
from workers.vendors.attempts import in_a_row
from workers.vendors.types import DEFAULT_RETRY, Outcome, PushItem, RequestBatch, Retry
from workers.wire import HttpResponse, NoAnswer

#: errorCode of a FcmError. Source: FCM error codes, read 2026-11-22. INVALID_ARGUMENT: see
#: `_bad_argument`.
FCM_CODES: Final[Mapping[str, Verdict]] = {
    "INVALID_ARGUMENT": Verdict.REJECTED,
    "UNREGISTERED": Verdict.TOKEN_DEAD,
    "SENDER_ID_MISMATCH": Verdict.TOKEN_FOREIGN,
    "QUOTA_EXCEEDED": Verdict.THROTTLED,
    "INTERNAL": Verdict.UNAVAILABLE,
    "UNAVAILABLE": Verdict.UNAVAILABLE,
    # the APNs or web-push key that Firebase holds is bad; Android's pushes go on, so the lane does
    # too
    "THIRD_PARTY_AUTH_ERROR": Verdict.REJECTED,
    "APNS_AUTH_ERROR": Verdict.REJECTED,
    "UNSPECIFIED_ERROR": Verdict.UNAVAILABLE,
}
#: error.status where no FcmError came with it: never a dead token.
STATUS_CODES: Final[Mapping[str, Verdict]] = {
    "INVALID_ARGUMENT": Verdict.REJECTED,
    "UNAUTHENTICATED": Verdict.ACCESS_EXPIRED,
    "PERMISSION_DENIED": Verdict.CREDENTIAL_REFUSED,
    "NOT_FOUND": Verdict.CREDENTIAL_REFUSED,
    "RESOURCE_EXHAUSTED": Verdict.THROTTLED,
    "QUOTA_EXCEEDED": Verdict.THROTTLED,
    "INTERNAL": Verdict.UNAVAILABLE,
    "UNAVAILABLE": Verdict.UNAVAILABLE,
    "UNSPECIFIED_ERROR": Verdict.UNAVAILABLE,
}
ALARMS: Final = frozenset({"THIRD_PARTY_AUTH_ERROR", "APNS_AUTH_ERROR", "UNSPECIFIED_ERROR"})
UNSPECIFIED_TRIES: Final = 3  # then it is taken for our request's fault
#: A token registered less than this ago may not have reached all of Google: asked once more before
#: it is given up.
FRESH_TOKEN_S: Final = 120
FRESH_TOKEN_RETRY_S: Final = 5.0
RETRY: Final = Retry(
    first_s={
        **DEFAULT_RETRY.first_s,
        Verdict.UNAVAILABLE: 10.0,
        Verdict.UNCERTAIN: 10.0,
        Verdict.THROTTLED: 60.0,
    },
    attempts_max=DEFAULT_RETRY.attempts_max,
)


class Accepted(msgspec.Struct):
    name: str


@dataclass(frozen=True, slots=True)
class FcmRefusal:
    """The content of an error body. code: errorCode of its FcmError, "" without one.

    fields: those that a BadRequest names.
    """

    status: str = ""
    message: str = field(default="", repr=False)
    code: str = ""
    fields: tuple[str, ...] = ()
    quota_text: str = ""


def classify(batch: RequestBatch, answer: HttpResponse | NoAnswer) -> Sequence[Outcome]:
    """One outcome, as there is one token a request. Source: fcm.md §5."""
    if isinstance(answer, NoAnswer):
        return no_answer(batch, answer)
    if answer.status == 200:
        accepted = read(answer, Accepted)
        if accepted is not None and accepted.name:
            return same(
                batch, Outcome(Verdict.ACCEPTED, "200", vendor_message_id=accepted.name[:256])
            )
        return same(batch, Outcome(Verdict.UNKNOWN, "200", alarm=True))
    refusal = _refusal(answer)
    return [_refused(batch, item, answer, refusal) for item in batch.items]


def accepted_id(answer: HttpResponse) -> str | None:
    """The message's name in an accepting answer, as `classify` finds it; None for any other."""
    accepted = read(answer, Accepted) if answer.status == 200 else None
    return (accepted.name[:256] or None) if accepted is not None else None


def _refusal(answer: HttpResponse) -> FcmRefusal:
    body = read(answer, dict[str, Any]) or {}
    error = body.get("error")
    if not isinstance(error, dict):
        return FcmRefusal()
    details = (
        [d for d in error.get("details") or () if isinstance(d, dict)]
        if isinstance(error.get("details"), list)
        else []
    )
    fcm, bad, quota = (
        _detail(details, kind) for kind in ("FcmError", "BadRequest", "QuotaFailure")
    )
    return FcmRefusal(
        status=text(error.get("status")),
        message=text(error.get("message")),
        code=text(fcm.get("errorCode")),
        fields=tuple(text(v.get("field")) for v in _objects(bad.get("fieldViolations"))),
        quota_text=" ".join(
            f"{text(v.get('subject'))} {text(v.get('description'))}"
            for v in _objects(quota.get("violations"))
        ),
    )


def _detail(details: Sequence[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next((d for d in details if text(d.get("@type")).endswith(kind)), {})


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _refused(
    batch: RequestBatch, item: PushItem, answer: HttpResponse, refusal: FcmRefusal
) -> Outcome:
    code = refusal.code or refusal.status
    verdict = (
        FCM_CODES.get(refusal.code) or STATUS_CODES.get(refusal.status) or _by_status(answer.status)
    )
    if refusal.code and refusal.code not in FCM_CODES:
        # a code of next year: its status must not retire or pause anything
        verdict = _by_status(answer.status)
    if code == "INVALID_ARGUMENT":
        verdict = _bad_argument(refusal)
    if code == "UNSPECIFIED_ERROR" and in_a_row(item, code) >= UNSPECIFIED_TRIES:
        verdict = Verdict.REJECTED
    # a BadRequest's message repeats the bad value
    words = ", ".join(refusal.fields)[:200] or redact(refusal.message, tokens_of(batch))
    outcome = Outcome(
        verdict,
        str(answer.status),
        code[:64],
        words,
        retry_after_s=retry_after_s(answer),
        token_only=verdict is Verdict.THROTTLED
        and "device" in f"{refusal.message} {refusal.quota_text}".lower(),
        alarm=verdict is Verdict.UNKNOWN or code in ALARMS,
    )
    return _unregistered(batch, item, outcome) if refusal.code == "UNREGISTERED" else outcome


def _bad_argument(refusal: FcmRefusal) -> Verdict:
    """400 is a dead token only where FCM names the token and no other field.

    Even then other tokens' answers guard it.
    """
    elsewhere = [name for name in refusal.fields if name not in ("message.token", "message.fid")]
    about_token = (
        "registration token" in refusal.message.lower() or "message.token" in refusal.fields
    )
    return (
        Verdict.TOKEN_DEAD if refusal.code and about_token and not elsewhere else Verdict.REJECTED
    )


def _unregistered(batch: RequestBatch, item: PushItem, outcome: Outcome) -> Outcome:
    """Compares our time of registration, as UNREGISTERED has no time: the token may be new."""
    age_ms = batch.now_ms - item.target.registered_ms
    if age_ms < 0:
        words = "the device registered this token again after that"
        return Outcome(Verdict.REJECTED, outcome.status, outcome.code, words)
    if age_ms < FRESH_TOKEN_S * 1000 and in_a_row(item, outcome.code) == 1:
        words = "registered moments ago: asked once more"
        return Outcome(
            Verdict.THROTTLED,
            outcome.status,
            outcome.code,
            words,
            first_s=FRESH_TOKEN_RETRY_S,
            token_only=True,
        )
    return outcome


def _by_status(status: int) -> Verdict:
    """The verdict by status when the body is not FCM's (an edge server's HTML page)."""
    if status == 401:
        return Verdict.ACCESS_EXPIRED
    if status == 429:
        return Verdict.THROTTLED
    if status in (502, 504):
        return Verdict.UNCERTAIN  # a gateway lost the answer
    return Verdict.UNAVAILABLE if 500 <= status <= 599 else Verdict.UNKNOWN


def checked(answer: HttpResponse) -> Verdict:
    """ACCEPTED when FCM got as far as looking at the token."""
    refusal = _refusal(answer)
    if answer.status == 200 or "INVALID_ARGUMENT" in (refusal.code, refusal.status):
        return Verdict.ACCEPTED
    verdict = (
        FCM_CODES.get(refusal.code) or STATUS_CODES.get(refusal.status) or _by_status(answer.status)
    )
    return Verdict.ACCEPTED if verdict in (Verdict.TOKEN_DEAD, Verdict.TOKEN_FOREIGN) else verdict
