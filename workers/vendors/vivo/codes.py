"""vivo's codes: what each means for a token. Source: docs/vendors/vivo.md, codes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from msgspec.structs import replace

from common.model import Again, Bucket, Verdict
from workers.vendors.answers import (
    listed_names,
    names_nobody,
    no_answer,
    read,
    redact,
    retry_after_s,
    same,
    tokens_of,
)
from workers.vendors.types import Outcome, PushItem, RequestBatch
from workers.wire import HttpResponse, NoAnswer

#: `result` of any call. Source: vivo.md §5 (doc 362, v2.9.2 and a public list), read 2026-11-22.
#: Those not here: UNKNOWN.
CODES: Final[Mapping[int, Verdict]] = {
    10000: Verdict.ACCESS_EXPIRED,
    10040: Verdict.UNAVAILABLE,
    10043: Verdict.CREDENTIAL_REFUSED,
    10045: Verdict.CREDENTIAL_REFUSED,
    10050: Verdict.REJECTED,
    10051: Verdict.REJECTED,
    10054: Verdict.REJECTED,
    10055: Verdict.REJECTED,
    10056: Verdict.REJECTED,
    10057: Verdict.REJECTED,
    10058: Verdict.REJECTED,
    10059: Verdict.REJECTED,
    10060: Verdict.REJECTED,
    10065: Verdict.REJECTED,
    10067: Verdict.REJECTED,
    10070: Verdict.QUOTA_SPENT,
    10071: Verdict.THROTTLED,
    10072: Verdict.THROTTLED,
    10073: Verdict.QUOTA_SPENT,
    10082: Verdict.CREDENTIAL_REFUSED,
    10085: Verdict.REJECTED,
    10094: Verdict.ACCESS_EXPIRED,
    10095: Verdict.REJECTED,
    10096: Verdict.REJECTED,
    10097: Verdict.REJECTED,
    10103: Verdict.REJECTED,
    10104: Verdict.REJECTED,
    10150: Verdict.REJECTED,
    10151: Verdict.REJECTED,
    10152: Verdict.REJECTED,
    10153: Verdict.REJECTED,
    10155: Verdict.REJECTED,
    10200: Verdict.CREDENTIAL_REFUSED,
    10201: Verdict.CREDENTIAL_REFUSED,
    10202: Verdict.CREDENTIAL_REFUSED,
    10203: Verdict.CREDENTIAL_REFUSED,
    10204: Verdict.CREDENTIAL_REFUSED,
    10205: Verdict.CREDENTIAL_REFUSED,
    10206: Verdict.CREDENTIAL_REFUSED,
    10207: Verdict.CREDENTIAL_REFUSED,
    10250: Verdict.THROTTLED,
    10252: Verdict.QUOTA_SPENT,
    10254: Verdict.QUOTA_SPENT,
    10302: Verdict.TOKEN_DEAD,
    10304: Verdict.REJECTED,
    10305: Verdict.REJECTED,
    10306: Verdict.REJECTED,
    # permission off or long away; it counts again once the device registers
    10311: Verdict.SILENCED,
    10352: Verdict.REJECTED,
    10353: Verdict.REJECTED,
    10800: Verdict.REJECTED,
    10801: Verdict.REJECTED,
}
TITLE, CONTENT = "title", "content"
#: The part of the text that a refusal concerns; the next attempt replaces that part alone, once.
PARTS: Final[Mapping[int, str]] = {10056: TITLE, 10085: TITLE, 10058: CONTENT, 10104: CONTENT}
#: Refusals that a changed attempt can cure; the second time the table's verdict holds.
CURES: Final[Mapping[int, Again]] = {
    **dict.fromkeys(PARTS, Again.FALLBACK_TEXT),
    10151: Again.SAVE_AGAIN,
    10152: Again.SAVE_AGAIN,
    10155: Again.SAVE_AGAIN,
}
#: Refusals of a whole list that may be about one of its tokens, or about lists only (10252).
LISTS_CODE: Final = 10252
ONE_BY_ONE: Final = frozenset({10302, 10311, LISTS_CODE})
#: invalidUser.status. 4: no test device, while in test mode.
USER_STATUS: Final[Mapping[int, Verdict]] = {
    1: Verdict.TOKEN_DEAD,
    2: Verdict.TOKEN_DEAD,
    3: Verdict.TOKEN_DEAD,
    4: Verdict.REJECTED,
}
#: The bucket whose day is over. vivo's own classification may lower a system message, and count it
#: there.
SPENT: Final[Mapping[int, Bucket]] = {10070: Bucket.PUBLIC, 10073: Bucket.PRIVATE}
TOO_FAST_S: Final = 1.0
CLOCK_CODE: Final = 10207
HOURS_CODE: Final = 10071
PUBLIC_HOURS: Final = (7, 23)
CLOCKS_DIFFER_S: Final = 60.0
_BEIJING: Final = timedelta(hours=8)  # no daylight saving time since 1991


def classify(batch: RequestBatch, answer: HttpResponse | NoAnswer) -> Sequence[Outcome]:
    """One outcome a token, of /message/send, or of the last answer of a list push. Source: vivo.md
    §5.
    """
    if isinstance(answer, NoAnswer):
        return no_answer(batch, answer)
    reply = read(answer, dict[str, Any]) or {}
    code = number(reply.get("result"))
    status = str(answer.status)
    words = redact(reply.get("desc"), tokens_of(batch))
    wait = retry_after_s(answer)
    if not 200 <= answer.status < 300 and (code == 0 or answer.status >= 500):
        # A result comes with a 200; the body of a broken server or a proxy is no answer to a push.
        code = None
    if code is None or (code not in CODES and code != 0):
        verdict = Verdict.UNKNOWN if answer.status == 200 else _by_status(answer.status)
        text = "" if code is None else str(code)
        outcome = Outcome(
            verdict, status, text, words, retry_after_s=wait, alarm=verdict is Verdict.UNKNOWN
        )
        return same(batch, outcome)
    if code == 0 and not _taken(batch, reply):
        return same(batch, Outcome(Verdict.UNKNOWN, status, "0", words, alarm=True))
    task_id = redact(reply.get("taskId") or reply.get("requestId")) or (
        str(reply["taskId"]) if number(reply.get("taskId")) is not None else None
    )
    invalid = _invalid_users(reply, code) if code in (0, 10302) else {}
    usual = Outcome(
        Verdict.ACCEPTED if code == 0 else CODES[code],
        status,
        str(code),
        words,
        task_id,
        retry_after_s=wait,
    )
    unread = code == 0 and any(names_nobody(reply.get(member), batch) for member in INVALID_USERS)
    unnamed = NO_STATUS if unread else None
    return [
        _of_token(batch, item, code, usual, invalid.get(item.target.token, unnamed))
        for item in batch.items
    ]


def _of_token(
    batch: RequestBatch, item: PushItem, code: int, usual: Outcome, user_status: int | None
) -> Outcome:
    if user_status is not None:
        verdict = USER_STATUS.get(user_status, Verdict.UNKNOWN)
        return replace(
            usual, verdict=verdict, code=f"{code}.{user_status}", alarm=verdict is Verdict.UNKNOWN
        )
    if code in ONE_BY_ONE and len(batch.items) > 1:
        spent = code == LISTS_CODE
        return replace(
            usual,
            verdict=Verdict.UNAVAILABLE,
            again=Again.SINGLY,
            retry_after_s=0.0,
            lists_spent=spent,
        )
    cure = CURES.get(code)
    spent = PARTS[code] in replaced_parts(item) if code in PARTS else item.target.again == cure
    if cure is not None and not spent:
        return replace(usual, verdict=Verdict.UNAVAILABLE, again=cure, retry_after_s=0.0)
    if code == HOURS_CODE:  # of this class only, so not the lane's: chats go on all night
        return replace(usual, retry_after_s=_until_morning_s(batch.now_ms), token_only=True)
    if usual.verdict is Verdict.THROTTLED and usual.retry_after_s is None:
        return replace(usual, retry_after_s=TOO_FAST_S)
    return replace(usual, alarm=code == CLOCK_CODE, bucket=SPENT.get(code))


def replaced_parts(item: PushItem) -> frozenset[str]:
    """The text parts that the vendor refused before; all, where no kept attempt names one."""
    codes = (number(attempt.code) for attempt in item.target.attempts)
    named = frozenset(PARTS[code] for code in codes if code is not None and code in PARTS)
    unnamed = item.target.again == Again.FALLBACK_TEXT and not named
    return frozenset((TITLE, CONTENT)) if unnamed else named


def _taken(batch: RequestBatch, reply: Mapping[str, Any]) -> bool:
    """True when `result: 0` is a push's answer.

    A saved body's answer without taskId has none of these fields, and nothing was pushed.
    """
    return len(batch.items) == 1 or any(
        reply.get(name) is not None for name in ("requestId", "taskId", "invalidUsers")
    )


def _invalid_users(reply: Mapping[str, Any], code: int) -> dict[str, int]:
    """Token -> status, of invalidUser and invalidUsers; each may be one user or a list.

    A user named beside a success without a status (NO_STATUS) was refused all the same; a status
    that another place gives the user stays.
    """
    statuses: dict[str, int] = {}
    for member in INVALID_USERS:
        users = reply.get(member)
        for user in users if isinstance(users, list) else [users]:
            status = number(user.get("status")) if isinstance(user, dict) else None
            for token in listed_names(user):
                if status is not None:
                    statuses[token] = status
                elif code == 0:
                    statuses.setdefault(token, NO_STATUS)
    return statuses


INVALID_USERS: Final = ("invalidUser", "invalidUsers")
#: In place of an invalid user's status that vivo left out; it is none of its own.
NO_STATUS: Final = 0


def number(value: Any) -> int | None:
    """A number, also as text; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return int(value) if re.fullmatch(r"-?[0-9]{1,18}", str(value), re.ASCII) else None


def _by_status(status: int) -> Verdict:
    if status in (401, 403):
        return Verdict.ACCESS_EXPIRED
    if status == 429:
        return Verdict.THROTTLED
    return Verdict.UNAVAILABLE if 500 <= status <= 599 else Verdict.UNKNOWN


def _until_morning_s(now_ms: int) -> float:
    """Seconds from now_ms to the next 07:00 in Beijing; a minute if it is day by our clock.

    vivo's clock is then slightly different.
    """
    now = datetime.fromtimestamp(now_ms / 1000, UTC) + _BEIJING
    if PUBLIC_HOURS[0] <= now.hour < PUBLIC_HOURS[1]:
        return CLOCKS_DIFFER_S
    morning = now.replace(hour=PUBLIC_HOURS[0], minute=0, second=0, microsecond=0)
    return ((morning if morning > now else morning + timedelta(days=1)) - now).total_seconds()
