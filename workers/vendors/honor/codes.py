"""Honor's codes: what each means for a token. Source: docs/vendors/honor.md, codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from common.model import Verdict
from workers.vendors.answers import (
    listed_names,
    names_nobody,
    no_answer,
    object_of,
    read,
    retry_after_s,
)
from workers.vendors.huawei_codes import (
    ACCEPTED,
    CREDENTIAL,
    DEAD,
    LATER,
    REJECTED,
    RENEW_ONCE,
    SINGLY,
    SLOWER,
    UNKNOWN,
    Meaning,
    ReplyDetails,
    outcome,
    vendor_words,
)
from workers.vendors.huawei_family import (
    plain,
)
from workers.vendors.types import Outcome, RequestBatch
from workers.wire import HttpResponse, NoAnswer

SUCCESS: Final = frozenset({"200", "80000000", "0"})
PARTIAL: Final = "80100000"
ALL_INVALID: Final = "80300007"
#: "retry, max 2": two more tries.
TWICE: Final = Meaning(Verdict.UNAVAILABLE, retries=2)
TWICE_ALARM: Final = Meaning(Verdict.UNAVAILABLE, retries=2, then=Verdict.UNKNOWN, alarm=True)
UNREADABLE: Final = Meaning(Verdict.UNCERTAIN, alarm=True)  # it may have been accepted
#: Codes in the body, or HTTP statuses where it has none. Source: docs/vendors/honor.md §codes, rows
#: A, P and H; Honor's own list is unread.
CODES: Final[Mapping[str, Meaning]] = {
    "400": REJECTED,
    "401": RENEW_ONCE,
    "403": CREDENTIAL,
    "404": CREDENTIAL,
    "413": REJECTED,
    "429": SLOWER,
    "500": LATER,
    "502": LATER,
    "503": SLOWER,
    "504": LATER,
    "80100001": REJECTED,
    "80100003": REJECTED,
    "80100004": REJECTED,
    "80200001": RENEW_ONCE,
    "80200003": RENEW_ONCE,
    "80300002": CREDENTIAL,
    "80300008": REJECTED,
    "80300010": REJECTED,
    "80600003": LATER,
    "81000001": LATER,
}


class _HonorReply(msgspec.Struct):
    code: Any = None
    message: Any = None
    msg: Any = None
    data: Any = None


def classify(batch: RequestBatch, answer: HttpResponse | NoAnswer) -> Sequence[Outcome]:
    """One outcome per item, whatever the bytes. The body's code wins over the HTTP status, which
    counts only where there is none.
    """
    if isinstance(answer, NoAnswer):
        return no_answer(batch, answer)
    reply = read(answer, _HonorReply) or _HonorReply()
    code = plain(reply.code)
    detail = object_of(reply.data)
    words = vendor_words(reply.message if isinstance(reply.message, str) else reply.msg, batch)
    details = ReplyDetails(
        answer.status, code, words, plain(detail.get("requestId")) or None, retry_after_s(answer)
    )
    if code in SUCCESS or code == PARTIAL:
        return _listed(batch, details, detail)
    meaning = meaning_of(code, answer.status)
    if code == ALL_INVALID:
        meaning = DEAD if len(batch.items) == 1 else SINGLY
    return [outcome(item, meaning, details) for item in batch.items]


def meaning_of(code: str, status: int) -> Meaning:
    """The code's meaning, else the status's; unknown ones alert and never retire a token."""
    if known := CODES.get(code or str(status)):
        return known
    if 400 <= status < 500 or (len(code) == 3 and code.startswith("4")):
        return UNKNOWN
    return UNREADABLE if not code and status < 400 else TWICE_ALARM


def _listed(
    batch: RequestBatch, details: ReplyDetails, detail: Mapping[str, Any]
) -> Sequence[Outcome]:
    """expireTokens are dead, other failTokens may try again, the rest was accepted."""
    expired = frozenset(listed_names(detail.get("expireTokens")))
    failed = frozenset(listed_names(detail.get("failTokens")))
    unnamed = ACCEPTED
    if not expired and not failed:
        if details.code == PARTIAL:
            unnamed = UNKNOWN  # some failed and we can't read which
        elif detail.get("sendResult") in (False, "false"):
            unnamed = TWICE
    if any(names_nobody(detail.get(name), batch) for name in ("expireTokens", "failTokens")):
        unnamed = UNKNOWN
    outcomes = []
    for item in batch.items:
        token = item.target.token
        if token in expired:
            outcomes.append(outcome(item, DEAD, _named(details, "expireTokens")))
        elif token in failed:
            outcomes.append(outcome(item, TWICE, _named(details, "failTokens")))
        else:
            outcomes.append(outcome(item, unnamed, details))
    return outcomes


def _named(details: ReplyDetails, member: str) -> ReplyDetails:
    """`success` concerns the request; the list that names this token concerns the token."""
    return msgspec.structs.replace(details, words=f"{member} names this token")
