"""Meizu's codes: what each means for a token. Source: docs/vendors/meizu.md, codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
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
from workers.vendors.types import Outcome, RequestBatch
from workers.wire import HttpResponse, NoAnswer

#: `code`: of the whole call. Source: Meizu, PUSH HTTP API, release of 2025-04-09, read 2026-11-22.
REQUEST_CODES: Final[Mapping[str, Verdict]] = {
    # "call again at redirect": texts and tokens go to the configured host only.
    "300": Verdict.REJECTED,
    "500": Verdict.UNAVAILABLE,
    "1001": Verdict.UNAVAILABLE,
    "1003": Verdict.UNAVAILABLE,
    "1005": Verdict.REJECTED,
    "1006": Verdict.CREDENTIAL_REFUSED,
    "110000": Verdict.CREDENTIAL_REFUSED,
    "110001": Verdict.CREDENTIAL_REFUSED,
    "110002": Verdict.TOKEN_DEAD,
    "110003": Verdict.TOKEN_DEAD,
    "110004": Verdict.REJECTED,
    "110009": Verdict.CREDENTIAL_REFUSED,
    "110010": Verdict.THROTTLED,  # the app sends too fast
    "110019": Verdict.QUOTA_SPENT,
    "110031": Verdict.CREDENTIAL_REFUSED,
    "110032": Verdict.REJECTED,
    "110033": Verdict.CREDENTIAL_REFUSED,
    "110051": Verdict.QUOTA_SPENT,
    "110053": Verdict.REJECTED,
    "-1": Verdict.UNAVAILABLE,
}
#: Codes inside `value`, each with the pushIds it names. Here 110010 means another thing: the person
#: switched us off.
TOKEN_CODES: Final[Mapping[str, Verdict]] = {
    "201": Verdict.REJECTED,
    "501": Verdict.UNAVAILABLE,
    "513": Verdict.UNAVAILABLE,
    "518": Verdict.THROTTLED,
    "519": Verdict.UNAVAILABLE,
    # more than five in a minute on this device: the minute ends, so the day stays open
    "520": Verdict.FOLDED,
    "110002": Verdict.TOKEN_DEAD,
    "110003": Verdict.TOKEN_DEAD,
    "110005": Verdict.TOKEN_DEAD,
    "110010": Verdict.SILENCED,
    "110011": Verdict.DEVICE_CAP,
}
#: Of a call with several tokens these concern one of them, without naming it.
ONE_BY_ONE: Final = frozenset({"110002", "110003"})
NO_CODE: Final = ""
NO_PERMISSION: Final = "201"
OTHER_ERROR: Final = "500"
OTHER_ERROR_TRIES: Final = 3


class MeizuReply(msgspec.Struct):
    """code: text, but numbers are taken too. value: code -> pushIds, "" on errors."""

    code: str | int = ""
    message: Any = ""
    value: Any = ""
    msgId: Any = None  # noqa: N815 - Meizu's name


def classify(batch: RequestBatch, answer: HttpResponse | NoAnswer) -> Sequence[Outcome]:
    """One outcome a token: who is not named in `value` of a good call was accepted. Source:
    meizu.md §5.
    """
    if isinstance(answer, NoAnswer):
        return no_answer(batch, answer)
    reply = read(answer, MeizuReply) or MeizuReply()
    code, status = str(reply.code).strip()[:32], str(answer.status)
    words, wait = redact(reply.message, tokens_of(batch)), retry_after_s(answer)
    if not 200 <= answer.status < 300 and (code == "200" or answer.status >= 500):
        # Every answer of Meizu is an HTTP 200: the body of a broken server or a proxy is no answer
        # to a push.
        code = ""
    if code == "200":
        accepted = Outcome(Verdict.ACCEPTED, status, code, words, redact(reply.msgId) or None)
        return _partial(batch, accepted, reply.value)
    verdict = REQUEST_CODES.get(code) or _by_status(answer.status)
    alarm = verdict is Verdict.UNKNOWN or code == "300"
    outcome = Outcome(verdict, status, code, words, retry_after_s=wait, alarm=alarm)
    if code == OTHER_ERROR:  # also said of wrong arguments, so at last it is taken for one
        last = replace(outcome, verdict=Verdict.REJECTED)
        return [
            last if tries_with(item, code) >= OTHER_ERROR_TRIES else outcome for item in batch.items
        ]
    if code in ONE_BY_ONE and len(batch.items) > 1:
        outcome = replace(
            outcome, verdict=Verdict.UNAVAILABLE, again=Again.SINGLY, retry_after_s=0.0
        )
    return same(batch, outcome)


def _partial(batch: RequestBatch, accepted: Outcome, value: Any) -> Sequence[Outcome]:
    """The outcomes of a call that was taken: by the code that names a token, `accepted` for the
    rest.
    """
    named: dict[str, str] = {}
    unnamed = None
    for code, tokens in _by_code(value):
        for token in listed_names(tokens):
            named.setdefault(token, code[:32])
        if names_nobody(tokens, batch):
            unnamed = NO_CODE
    codes = [named.get(item.target.token, unnamed) for item in batch.items]
    nobody = all(code == NO_PERMISSION for code in codes)
    return [accepted if code is None else _named(accepted, code, nobody) for code in codes]


def _by_code(value: Any) -> Iterator[tuple[str, Any]]:
    """(code, what names its tokens), of one object or a list of objects; NO_CODE where tokens stand
    without one.
    """
    for one in value if isinstance(value, list) else [value]:
        yield from one.items() if isinstance(one, dict) else [(NO_CODE, one)]


def _named(accepted: Outcome, code: str, nobody: bool) -> Outcome:
    """nobody: no token of the call had permission, so the app has none."""
    verdict = Verdict.CREDENTIAL_REFUSED if nobody else TOKEN_CODES.get(code, Verdict.UNKNOWN)
    return replace(
        accepted, verdict=verdict, code=code or accepted.code, alarm=verdict is Verdict.UNKNOWN
    )


def _by_status(status: int) -> Verdict:
    if status == 429:
        return Verdict.THROTTLED
    return Verdict.UNAVAILABLE if 500 <= status <= 599 else Verdict.UNKNOWN


def checked(answer: HttpResponse) -> Verdict:
    """ACCEPTED when Meizu got as far as looking at the pushId."""
    code = (
        str((read(answer, MeizuReply) or MeizuReply()).code).strip() if answer.status < 500 else ""
    )
    verdict = (
        Verdict.ACCEPTED if code == "200" else REQUEST_CODES.get(code) or _by_status(answer.status)
    )
    return Verdict.ACCEPTED if verdict is Verdict.TOKEN_DEAD else verdict
