"""Xiaomi's codes: what each means for a token. Source: dev.mi.com pId=1560 of 2024-10-18, SDK
ErrorCode.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from common.model import Again, Verdict
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
from workers.vendors.attempts import tries_with
from workers.vendors.form_texts import (
    code_of,
    number,
    unreadable,
)
from workers.vendors.types import Outcome, RequestBatch
from workers.wire import HttpResponse, NoAnswer

_RETRY = "-1 1 10001 10002 10003 10009 10010 10011 10037 20301 20607 22102 26003 65003 65029"
_CREDENTIAL = (
    "10004 10005 10006 10013 10014 10026 10031 10033 10036 21301 21302 21303 22000 22001 "
    "22002 22003 22004 22006 22007 22008 22021 "
    "22022 66108"
)
_REQUEST = (
    "100 10007 10008 10012 10016 10017 10018 10020 10021 10025 10038 20209 20215 20216 20315 "
    "21305 22005 22020 22100 22103 26006 27001 "
    "65006 65007 65008 65009 65010 65011 65012 65013 65014 65015 65016 65017 65028 65030 "
    "65035 65036 65037 65038 65040 65041"
)
_THROTTLE = "10022 10023 10024 10027 10028 10030 10032 10039 22101 26004 26005 200002"
#: Verdict of each code for a push. 10035 ("no more invalid aliases") concerns none, so it is not
#: here. 10038 is about statistics only: it must not stop a lane that sends well.
CODES: Final[Mapping[str, Verdict]] = {
    **dict.fromkeys(_RETRY.split(), Verdict.UNAVAILABLE),
    **dict.fromkeys(_CREDENTIAL.split(), Verdict.CREDENTIAL_REFUSED),
    **dict.fromkeys(_REQUEST.split(), Verdict.REJECTED),
    **dict.fromkeys(_THROTTLE.split(), Verdict.THROTTLED),
    "10029": Verdict.TOKEN_DEAD,
    "10034": Verdict.QUOTA_SPENT,
    "200001": Verdict.QUOTA_SPENT,
}
#: Fewer tries than usual: 10037 and 65003 once more, 20301 three in all.
ATTEMPTS: Final = {"10037": 2, "65003": 2, "20301": 3}
#: Somebody must act in the console (26006 review, 27001 channel) or look why a code of another API
#: came here.
ALARMS: Final = frozenset({"26006", "27001", "10035", "10038"})
#: Seconds to wait at least (the page: "retry after >= 1 s").
WAITS: Final = {"200002": 1.0}
UNKNOWN_ATTEMPTS: Final = 3  # "any other code: retry 3x then fail"
NO_TARGETS: Final = "no valid targets"  # 20301 with these words is about the token


def classify(batch: RequestBatch, answer: HttpResponse | NoAnswer) -> Sequence[Outcome]:
    """A code other than 0 speaks for all tokens; beside a 0 the refused ones are named."""
    if isinstance(answer, NoAnswer):
        return no_answer(batch, answer)
    reply = read(answer, dict[str, Any]) or {}
    code = _code(reply)
    if answer.status >= 500 or not code:
        return unreadable(batch, _by_status(answer, code))
    if code != "0":
        return _given_up(batch, _refused(batch, answer, reply, code))
    if not 200 <= answer.status < 300:
        return same(batch, _by_status(answer, code))
    return _taken(batch, answer, reply)


def _code(reply: Mapping[str, Any]) -> str:
    """The code; some older interfaces name it errorCode."""
    return code_of(reply.get("code", reply.get("errorCode")))


def _words(batch: RequestBatch, reply: Mapping[str, Any]) -> str:
    """The first text of reason, description and info."""
    names = ("reason", "description", "info")
    reason = next(
        (text for key in names if isinstance(text := reply.get(key), str) and text.strip()), ""
    )
    return redact(reason, tokens_of(batch))


def _refused(
    batch: RequestBatch, answer: HttpResponse, reply: Mapping[str, Any], code: str
) -> Outcome:
    words, status = _words(batch, reply), str(answer.status)
    verdict = CODES.get(code)
    if code == "20301" and NO_TARGETS in words.lower():
        verdict = Verdict.TOKEN_DEAD
    if verdict is Verdict.TOKEN_DEAD and len(batch.items) > 1:
        return Outcome(Verdict.UNAVAILABLE, status, code, words, again=Again.SINGLY)
    if verdict is not None:
        wait = retry_after_s(answer) or WAITS.get(code)
        most = ATTEMPTS.get(code) if verdict is Verdict.UNAVAILABLE else None
        return Outcome(
            verdict,
            status,
            code,
            words,
            retry_after_s=wait,
            attempts_max=most,
            alarm=code in ALARMS,
        )
    if code == "10035":
        return Outcome(Verdict.UNKNOWN, status, code, words, alarm=True)
    if re.fullmatch(r"66[0-9]{3}", code):
        return Outcome(Verdict.REJECTED, status, code, words, alarm=True)
    return Outcome(Verdict.UNAVAILABLE, status, code, words, alarm=True)


def _given_up(batch: RequestBatch, outcome: Outcome) -> Sequence[Outcome]:
    """Retries an undocumented code a few times; then the verdict is UNKNOWN."""
    last = replace(outcome, verdict=Verdict.UNKNOWN)
    undocumented = outcome.code not in CODES and outcome.verdict is Verdict.UNAVAILABLE
    return [
        last if undocumented and tries_with(item, outcome.code) >= UNKNOWN_ATTEMPTS else outcome
        for item in batch.items
    ]


def _by_status(answer: HttpResponse, code: str) -> Outcome:
    """No usable code. A 2xx that can't be read may well have been done: uncertain, never sent twice
    for marketing.
    """
    status, wait = str(answer.status), retry_after_s(answer)
    if 200 <= answer.status < 300:
        return Outcome(Verdict.UNCERTAIN, status, code)
    if answer.status == 429:
        return Outcome(Verdict.THROTTLED, status, code, retry_after_s=wait)
    if answer.status in (401, 403):
        return Outcome(Verdict.CREDENTIAL_REFUSED, status, code)
    if 400 <= answer.status < 500 and answer.status != 408:
        return Outcome(Verdict.REJECTED, status, code, alarm=True)
    return Outcome(Verdict.UNAVAILABLE, status, code, retry_after_s=wait)


def _taken(
    batch: RequestBatch, answer: HttpResponse, reply: Mapping[str, Any]
) -> Sequence[Outcome]:
    """Code 0: the regids that `data.bad_regids` names are dead, the others share one outcome.
    Source: xiaomi.md §4A, §9.7.
    """
    if reply.get("result", "ok") != "ok":
        outcome = Outcome(
            Verdict.UNKNOWN, str(answer.status), "0", _words(batch, reply), alarm=True
        )
        return same(batch, outcome)
    data = _data(reply)
    bad = refused_regids(data)
    good = [item for item in batch.items if item.target.token not in bad]
    unread = any(names_nobody(data.get(name), batch) for name in BAD_REGIDS_NAMES)
    dead = Outcome(
        Verdict.TOKEN_DEAD,
        str(answer.status),
        "0",
        BAD_REGIDS,
        vendor_message_id=code_of(data.get("id")) or None,
    )
    accepted = _accepted(len(good), str(answer.status), data)
    if unread:
        accepted = replace(accepted, verdict=Verdict.UNKNOWN, words=BAD_REGIDS, alarm=True)
    return [dead if item.target.token in bad else accepted for item in batch.items]


def _accepted(good: int, status: str, data: Mapping[str, Any]) -> Outcome:
    """The accepted ones of `good` regids.

    `channel_exceed_quota` counts items over the day's quota.
    """
    dropped = sum(channels_exceeded(data.get("channel_exceed_quota")).values())
    message_id = code_of(data.get("id")) or None
    if not dropped:
        return Outcome(Verdict.ACCEPTED, status, "0", vendor_message_id=message_id)
    words = f"{dropped} of {good} over the day's quota"
    if dropped >= good:
        return Outcome(Verdict.QUOTA_SPENT, status, "0", words, vendor_message_id=message_id)
    return Outcome(Verdict.ACCEPTED, status, "0", words, vendor_message_id=message_id, alarm=True)


BAD_REGIDS: Final = "bad_regids"
BAD_REGIDS_NAMES: Final = (BAD_REGIDS, "bad_regIds")


def refused_regids(data: Mapping[str, Any]) -> frozenset[str]:
    """The regids of `bad_regids` (also spelt `bad_regIds`): in any form that
    `listed_names` reads.
    """
    return frozenset(one for name in BAD_REGIDS_NAMES for one in listed_names(data.get(name)))


def _data(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    data = reply.get("data")
    return data if isinstance(data, dict) else {}


def channels_exceeded(text: Any) -> dict[str, int]:
    """`"no_channel:2 a:3"` -> {"no_channel": 2, "a": 3}: items dropped per channel. What can't be
    read is left out.
    """
    found: dict[str, int] = {}
    for part in text.split() if isinstance(text, str) else ():
        channel, _, count = part.rpartition(":")
        if channel and (dropped := number(count, 1, 10**9)):
            found[channel] = found.get(channel, 0) + dropped
    return found


def quota_reported(answer: HttpResponse) -> tuple[int, int] | None:
    """(delivered today, today's total) from the answer; used = limit once a channel is over.

    That closes it until midnight.
    """
    data = _data(read(answer, dict[str, Any]) or {})
    limit, used = number(data.get("day_quota"), 0, 10**12), number(data.get("day_acked"), 0, 10**12)
    if limit is None or used is None:
        return None
    exceeded = channels_exceeded(data.get("channel_exceed_quota"))
    return (max(used, limit), limit) if exceeded else (used, limit)


def checked(answer: HttpResponse) -> Verdict:
    """ACCEPTED when the secret was accepted, even without the right to statistics (10038).

    Also when they were requested too often (10027, 10039).
    """
    code = _code(read(answer, dict[str, Any]) or {})
    if code in ("0", "10027", "10038", "10039") and answer.status < 500:
        return Verdict.ACCEPTED
    return CODES.get(code, Verdict.UNKNOWN) if code else _by_status(answer, code).verdict
