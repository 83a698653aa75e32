"""The meaning of Huawei Push Kit's answers: one table for v1 (huawei/) and v3 (harmony/).

Honor uses the same messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from common.model import Again, Verdict
from common.values import Value
from workers.vendors.answers import (
    listed_names,
    no_answer,
    object_of,
    read,
    retry_after_s,
    tokens_of,
)
from workers.vendors.attempts import in_a_row
from workers.vendors.huawei_family import VENDOR_WORDS_MAX, plain
from workers.vendors.text import cut
from workers.vendors.types import TOO_LONG, Outcome, PushItem, RequestBatch
from workers.wire import HttpResponse, NoAnswer


class Meaning(Value, frozen=True):
    """The reaction to a code. retries: further attempts while the same answer repeats.

    then: the verdict after them (or after `again` was tried in vain). None: the retry policy
    decides.
    """

    verdict: Verdict
    again: Again | None = None
    retries: int | None = None
    then: Verdict | None = None
    alarm: bool = False


class ReplyDetails(Value, frozen=True):
    """One answer's own message, the same for all tokens of the request."""

    status: int
    code: str
    words: str
    request_id: str | None
    retry_after_s: float | None


ACCEPTED: Final = Meaning(Verdict.ACCEPTED)
DEAD: Final = Meaning(Verdict.TOKEN_DEAD)
REJECTED: Final = Meaning(Verdict.REJECTED)
CREDENTIAL: Final = Meaning(Verdict.CREDENTIAL_REFUSED)
LATER: Final = Meaning(Verdict.UNAVAILABLE)
SLOWER: Final = Meaning(Verdict.THROTTLED)
RENEW_ONCE: Final = Meaning(Verdict.ACCESS_EXPIRED, retries=1, then=Verdict.CREDENTIAL_REFUSED)
SINGLY: Final = Meaning(Verdict.UNAVAILABLE, again=Again.SINGLY)
WITHOUT_IMAGE: Final = Meaning(
    Verdict.UNAVAILABLE, again=Again.WITHOUT_IMAGE, retries=1, then=Verdict.REJECTED
)
OAUTH_FAULT: Final = Meaning(Verdict.UNAVAILABLE, retries=3, then=Verdict.CREDENTIAL_REFUSED)
UNKNOWN: Final = Meaning(Verdict.UNKNOWN, alarm=True)

#: Codes of the whole request, v1, v2 and v3. Source: Huawei, 下行消息 and 响应参数, copies of
#: 2025-08 to 2026-05 (docs/vendors/huawei.md). 80100000 (partial success) and 80300007 (all tokens
#: invalid) speak of single tokens: see `classified`.
CODES: Final[Mapping[str, Meaning]] = {
    "80000000": ACCEPTED,
    "80000001": LATER,  # revoke: CommonService error
    "80100001": REJECTED,  # a parameter
    "80100002": REJECTED,  # system message must carry one token
    "80100003": REJECTED,  # structure
    "80100004": REJECTED,  # expiry before now
    "80100013": REJECTED,  # collapse_key
    "80100016": REJECTED,  # sensitive content
    "80100017": SLOWER,  # over 100 topic tasks at once
    "80100018": REJECTED,  # reviewed body differs
    "80100020": REJECTED,  # revoke: structure
    "80100022": WITHOUT_IMAGE,  # v3: image not verified
    "80200001": RENEW_ONCE,
    "80200003": RENEW_ONCE,
    "80200005": RENEW_ONCE,
    # wrong id in the URL, Push switched off, other project: never the tokens' fault
    "80300002": CREDENTIAL,
    "80300008": REJECTED,  # body over 4096 bytes
    "80300010": REJECTED,  # number of tokens
    "80300011": REJECTED,  # no right for high-level notification
    "80300013": CREDENTIAL,  # receipt address or its certificate
    "80300017": REJECTED,  # revoke: tokens of several apps
    "80300029": SLOWER,  # v3: test messages, rate
    "80300030": REJECTED,  # v3: test messages, tokens
    "80300032": REJECTED,  # revoke: no right
    "80300036": RENEW_ONCE,  # JWT valid for over a day
    "80300037": CREDENTIAL,  # penalty
    "80600003": OAUTH_FAULT,
    "81000001": LATER,
    **{str(code): REJECTED for code in range(82000001, 82000014)},  # topics and groups
}

#: Codes for a body over 4096 bytes by Huawei's measure, which is unconfirmed.
TOO_LONG_CODES: Final = TOO_LONG | {"80300008"}

#: Unknown codes by their first three digits (page, §5: policy). What is not here is UNKNOWN. No row
#: ever retires a token.
PREFIXES: Final[Mapping[str, Meaning]] = {
    "802": replace(RENEW_ONCE, alarm=True),
    **{
        prefix: Meaning(Verdict.UNAVAILABLE, retries=3, then=Verdict.UNKNOWN, alarm=True)
        for prefix in ("800", "806")
    },
}
PREFIXES_SHORT: Final[Mapping[str, Meaning]] = dict.fromkeys(("81", "82"), PREFIXES["800"])

#: HTTP statuses, for an answer without a code. 5xx without a row: LATER; anything else: UNKNOWN.
STATUSES: Final[Mapping[int, Meaning]] = {
    400: REJECTED,
    401: RENEW_ONCE,
    404: CREDENTIAL,
    429: SLOWER,
    500: LATER,
    502: LATER,
    503: SLOWER,
}

#: Reasons of v3, each with its tokens. "" is v1, which gives a plain list. `noRight`: see
#: `_listed`.
REASONS: Final[Mapping[str, Meaning]] = {
    "": DEAD,
    "tokenFormatError": DEAD,
    "tokenPlatformNotSupport": DEAD,
    "noRight": DEAD,
    "noPushTypeRight": CREDENTIAL,
    "noRightToSendThisLiveNotificationEvent": CREDENTIAL,
    "disableSendHuaweiMsgBecauseOfPenalty": CREDENTIAL,
    "appinfoError": CREDENTIAL,
    "atomicUnableSendUnsubscribedMsg": REJECTED,
    "notSupportPlayVoice": REJECTED,
    "differentImgVerifyPolicy": REJECTED,
    "countryNotSupport": Meaning(Verdict.SILENCED),  # suspend, do not delete
}
#: The reason of a token whose object gives none: nobody knows what became of it.
UNNAMED: Final = "unnamed"
#: A token of another app, or stale since an upgrade: alone in its request it cannot be told from a
#: wrong project, so the mass guard decides.
NO_RIGHT_ALONE: Final = Meaning(Verdict.TOKEN_FOREIGN)


class _HuaweiReply(msgspec.Struct):
    code: Any = None
    msg: Any = None
    request_id: Any = msgspec.field(default=None, name="requestId")


def classified(
    batch: RequestBatch, answer: HttpResponse | NoAnswer, extra: Mapping[str, Meaning] | None = None
) -> Sequence[Outcome]:
    """One outcome per item, whatever the bytes. The body's code counts on any HTTP status. extra:
    codes of another call (revoke).
    """
    if isinstance(answer, NoAnswer):
        return no_answer(batch, answer)
    reply = read(answer, _HuaweiReply) or _HuaweiReply()
    code = plain(reply.code)
    illegal = illegal_tokens(reply.msg)
    words = "" if illegal else vendor_words(reply.msg, batch)
    details = ReplyDetails(
        answer.status, code, words, plain(reply.request_id) or None, retry_after_s(answer)
    )
    if code in ("80100000", "80300007"):
        return _listed(batch, details, illegal, plain(object_of(reply.msg).get("failure")))
    meaning = (extra or {}).get(code) or meaning_of(code, answer.status)
    return [outcome(item, meaning, details) for item in batch.items]


def meaning_of(code: str, status: int) -> Meaning:
    """Table, then family, then HTTP status: the first that knows."""
    known = CODES.get(code) or PREFIXES.get(code[:3]) or PREFIXES_SHORT.get(code[:2])
    if known:
        return known
    by_status = STATUSES.get(status) or (LATER if 500 <= status < 600 else UNKNOWN)
    # 801x and 803x without a row are an undocumented mistake of ours, whatever the status.
    return (
        UNKNOWN
        if code.startswith(("801", "803"))
        else replace(by_status, alarm=by_status.alarm or bool(code))
    )


#: Answers to the credential check that prove the credential, whatever they report about the empty
#: push.
PROVEN: Final = frozenset({Verdict.ACCEPTED, Verdict.TOKEN_DEAD, Verdict.REJECTED})


def checked(answer: HttpResponse) -> Verdict:
    """ACCEPTED where the answer proves the credential, else why not."""
    code = plain((read(answer, dict[str, Any]) or {}).get("code"))
    if code in ("80100000", "80300007"):
        return Verdict.ACCEPTED
    verdict = meaning_of(code, answer.status).verdict
    return Verdict.ACCEPTED if code and verdict in PROVEN else verdict


def _listed(
    batch: RequestBatch, details: ReplyDetails, illegal: Mapping[str, str] | None, failures: str
) -> Sequence[Outcome]:
    """Partial success and "all invalid": each token by its reason, those that are not named by the
    code.

    failures: how many the vendor says it refused; "" where it does not say.
    """
    alone = len(batch.items) == 1
    reasons = illegal or {}
    strangers = bool(reasons) and reasons.keys().isdisjoint(tokens_of(batch))
    read_all = REASONS.keys() >= set(reasons.values()) and failures in ("", "0")
    unread = illegal is None or (strangers and not read_all)
    unnamed = UNKNOWN if unread else ACCEPTED  # some failed and we can't read which
    if details.code == "80300007":
        unnamed = DEAD if alone else SINGLY
    no_right = NO_RIGHT_ALONE if alone else CREDENTIAL
    everybody = all(reasons.get(item.target.token) == "noRight" for item in batch.items)
    outcomes = []
    for item in batch.items:
        reason = reasons.get(item.target.token)
        meaning = (
            unnamed if reason is None else no_right if everybody else REASONS.get(reason, UNKNOWN)
        )
        outcomes.append(outcome(item, meaning, replace(details, words=reason or details.words)))
    return outcomes


def _by_reason(listed: Any) -> Iterator[tuple[str, Any]]:
    """(reason, token) of v1's list, which gives none; an object in it has a reason of its own."""
    for one in listed if isinstance(listed, list) else [listed]:
        yield (plain(one.get("reason")) or UNNAMED, one) if isinstance(one, dict) else ("", one)


def illegal_tokens(msg: Any) -> dict[str, str] | None:
    """Token -> reason, from both shapes of `msg` (JSON inside JSON, or an object); else None."""
    detail = object_of(msg)
    listed = detail.get("illegalTokens") or detail.get("illegal_tokens")
    by_reason = listed.items() if isinstance(listed, dict) else _by_reason(listed)
    named = {token: plain(reason) for reason, tokens in by_reason for token in listed_names(tokens)}
    return named if named or plain(detail.get("failure")) == "0" else None


def vendor_words(msg: Any, batch: RequestBatch) -> str:
    """The vendor's message for the ledger: short, and without device tokens."""
    if not isinstance(msg, str):
        return ""
    for token in filter(None, (item.target.token for item in batch.items)):
        msg = msg.replace(token, "<token>")
    return cut(msg, VENDOR_WORDS_MAX)


def outcome(item: PushItem, meaning: Meaning, details: ReplyDetails) -> Outcome:
    """`meaning` for one token, depending on its number of equal answers before."""
    run = in_a_row(item, details.code or str(details.status)) - 1
    tried = meaning.again is not None and item.target.again == meaning.again
    spent = meaning.retries is not None and (run >= meaning.retries or tried)
    last = spent and meaning.then is not None
    waits = meaning.verdict in (Verdict.THROTTLED, Verdict.UNAVAILABLE)
    return Outcome(
        verdict=meaning.then if last and meaning.then else meaning.verdict,
        status=str(details.status),
        code=details.code,
        words=details.words,
        vendor_message_id=details.request_id,
        retry_after_s=details.retry_after_s if waits and not last else None,
        attempts_max=None
        if meaning.retries is None or last
        else item.attempt + max(meaning.retries - run, 0),
        again=None if last else meaning.again,
        alarm=meaning.alarm,
    )
