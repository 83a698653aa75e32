"""OPPO's codes: what each means for a token. Source: pages 11235 and 11238, SDK ReturnCode
(docs/vendors/oppo.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from common.model import Again, Bucket, Verdict
from workers.vendors.answers import no_answer, redact, retry_after_s
from workers.vendors.attempts import tries_with
from workers.vendors.form_texts import (
    code_of,
    number,
    scalar,
    unreadable_once,
)
from workers.vendors.oppo.registration_ids import sent, travelling_indexes
from workers.vendors.types import Outcome, PushItem, RequestBatch
from workers.wire import HttpResponse, NoAnswer

NAME_MAX: Final = 128  # channel ids, template ids; ours
_CREDENTIAL = "14 15 16 17 18 26 27 28 30"
_REQUEST = "12 20 21 22 23 24 25 31 40 41 51 54 59"
#: 19, 32, 41, 67 and 10000 depend on more than the code: see `_verdict`. 34 concerns pictures,
#: which we never upload;
#: as the SDK mixes it with 33, on a push it can only mean the day's messages.
CODES: Final[Mapping[str, Verdict]] = {
    **dict.fromkeys(_CREDENTIAL.split(), Verdict.CREDENTIAL_REFUSED),
    **dict.fromkeys(_REQUEST.split(), Verdict.REJECTED),
    "-1": Verdict.UNAVAILABLE,
    "-2": Verdict.UNAVAILABLE,
    "11": Verdict.ACCESS_EXPIRED,
    "29": Verdict.ACCESS_EXPIRED,
    "13": Verdict.THROTTLED,
    "55": Verdict.THROTTLED,
    "33": Verdict.QUOTA_SPENT,
    "34": Verdict.QUOTA_SPENT,
    "10000": Verdict.TOKEN_DEAD,
}
#: Asked for, found in no source: "fix-request after 2 retries".
UNCONFIRMED: Final = frozenset({"35", "36", "52", "60", "61", "62", "63", "41000"})
UNCONFIRMED_ATTEMPTS: Final = 3
#: Seconds to wait at least: call frequency (">= 1 s").
WAITS: Final = {"55": 1.0}
#: First delay of a code that asks for a longer back-off: the service's flow control.
FIRST_S: Final = {"-2": 5.0}
TOO_LARGE: Final = 413  # HTTP, of the body
#: Codes about one message of a batch. In a batch of different messages one of them must not spoil
#: the others.
ABOUT_A_MESSAGE: Final = frozenset({"32", "40", "41", "51", "54", "59", "67"})
_NAMES_REGID = re.compile(r"registration[_ ]?id", re.IGNORECASE)


def without_level(item: PushItem) -> bool:
    return item.target.again == Again.WITHOUT_NOTIFY_LEVEL


def _loads(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def classify(batch: RequestBatch, answer: HttpResponse | NoAnswer) -> Sequence[Outcome]:
    """An outer code other than 0 applies to all items; else entries match by registration id."""
    if isinstance(answer, NoAnswer):
        return no_answer(batch, answer)
    travelling = frozenset(travelling_indexes(batch))
    judge = _judge(batch, answer)
    items = enumerate(batch.items)
    return [judge(item) if index in travelling else _left_out(answer) for index, item in items]


def _left_out(answer: HttpResponse) -> Outcome:
    """An item outside the request: a repeated registration id, or another host; it goes next."""
    return Outcome(
        Verdict.UNAVAILABLE,
        str(answer.status),
        words="not in this request: a registration id goes once in each",
    )


def _judge(batch: RequestBatch, answer: HttpResponse) -> Callable[[PushItem], Outcome]:
    """The meaning of the answer as a function of one item of the request."""
    reply = reply_of(answer)
    code, data, several = code_of(reply.get("code")), reply.get("data"), len(sent(batch)) > 1
    if answer.status == TOO_LARGE and several:  # no page says how large a body may be
        return lambda _item: Outcome(Verdict.UNAVAILABLE, str(TOO_LARGE), code, again=Again.SINGLY)
    if not usable(answer, code):
        return lambda item: unreadable_once(item, _by_status(answer, code))
    if code != "0":
        tokens = [item.target.token for item in batch.items]
        words = redact(reply.get("message"), tokens)
        return lambda item: (
            _outer(batch, item, answer, code, words)
            if several
            else _refused(item, answer, code, words)
        )
    if isinstance(data, list):
        entries = {
            regid: entry
            for entry in data
            if isinstance(entry, dict) and isinstance(regid := entry.get("registrationId"), str)
        }
        return lambda item: _entry(item, answer, entries.get(item.target.token))
    if several:
        return lambda item: _entry(item, answer, None)
    message_id = _message_id(data) if isinstance(data, dict) else None
    return lambda _item: Outcome(
        Verdict.ACCEPTED, str(answer.status), "0", vendor_message_id=message_id
    )


def reply_of(answer: HttpResponse) -> Mapping[str, Any]:
    """The JSON object; a text that holds it (seen by a peer) is read once more."""
    reply = _loads(answer.body)
    if isinstance(reply, str):
        reply = _loads(reply.encode("utf-8", "replace"))
    return reply if isinstance(reply, dict) else {}


def usable(answer: HttpResponse, code: str) -> bool:
    """A code counts on a 2xx; a known one also on a 4xx. Everything else is the
    network between us.
    """
    if 200 <= answer.status < 300:
        return bool(code)
    return 400 <= answer.status < 500 and (code in CODES or code in ("19", "32", "67"))


def _by_status(answer: HttpResponse, code: str) -> Outcome:
    """No usable code. A 2xx that can't be read may well have been done: uncertain, with the same
    app_message_id again.
    """
    status, wait = str(answer.status), retry_after_s(answer)
    if 200 <= answer.status < 300:
        return Outcome(Verdict.UNCERTAIN, status, code)
    verdict = Verdict.THROTTLED if answer.status == 429 else Verdict.UNAVAILABLE
    return Outcome(verdict, status, code, retry_after_s=wait)


def _entry(item: PushItem, answer: HttpResponse, entry: Mapping[str, Any] | None) -> Outcome:
    """One entry of a batch's answer; a missing one is retried alone with its app_message_id."""
    status = str(answer.status)
    code = code_of(entry.get("errorCode")) if entry else ""
    if entry and code not in ("", "0"):
        return _refused(item, answer, code, redact(entry.get("errorMessage"), [item.target.token]))
    if entry and (message_id := _message_id(entry)):
        return Outcome(Verdict.ACCEPTED, status, "0", vendor_message_id=message_id)
    return Outcome(
        Verdict.UNAVAILABLE,
        status,
        "0",
        "no entry for this registration id",
        attempts_max=2,
        again=Again.SINGLY,
    )


def _message_id(data: Mapping[str, Any]) -> str | None:
    return scalar(data.get("messageId"), NAME_MAX)


def _outer(
    batch: RequestBatch, item: PushItem, answer: HttpResponse, code: str, words: str
) -> Outcome:
    """A whole batch refused. What may be one item's fault alone is found out by sending them one by
    one.
    """
    outcome = _refused(item, answer, code, words)
    first = batch.items[0].note
    mixed = any(other.note != first for other in batch.items)
    if outcome.verdict is Verdict.TOKEN_DEAD or (
        mixed and (code in ABOUT_A_MESSAGE or _business(code))
    ):
        return Outcome(
            Verdict.UNAVAILABLE,
            outcome.status,
            code,
            words,
            again=Again.SINGLY,
            alarm=outcome.alarm,
        )
    return outcome


def _business(code: str) -> bool:
    return number(code, 10_000, 20_000) is not None


def _refused(item: PushItem, answer: HttpResponse, code: str, words: str) -> Outcome:
    """A code other than 0, for one item."""
    status, repeat = str(answer.status), item.attempt > 1
    if code == "67":
        return _class_refused(item, status, words)
    if code == "32":  # duplicate: on a repeat it is our own first attempt that got through
        return Outcome(Verdict.ACCEPTED if repeat else Verdict.REJECTED, status, code, words)
    if code == "19":
        verdict = Verdict.CREDENTIAL_REFUSED if tries_with(item, code) > 1 else Verdict.UNAVAILABLE
        return Outcome(verdict, status, code, words)
    if code == "41" and _NAMES_REGID.search(words):
        return Outcome(Verdict.TOKEN_DEAD, status, code, words)
    if code in CODES:
        wait = retry_after_s(answer) or WAITS.get(code)
        alarm = code == "54" or (code == "29" and repeat)
        # the private class has no daily limit
        spent = Bucket.PUBLIC if CODES[code] is Verdict.QUOTA_SPENT else None
        return Outcome(
            CODES[code],
            status,
            code,
            words,
            retry_after_s=wait,
            first_s=FIRST_S.get(code),
            alarm=alarm,
            bucket=spent,
        )
    return _undocumented(item, status, code, words)


def _class_refused(item: PushItem, status: str, words: str) -> Outcome:
    """67: the category, or its notify_level, is not ours to use. Once more without the level, then
    it is the category.
    """
    if without_level(item):
        return Outcome(Verdict.REJECTED, status, "67", words, alarm=True)
    again = Again.WITHOUT_NOTIFY_LEVEL
    attempts_max = item.attempt + 1
    return Outcome(
        Verdict.UNAVAILABLE, status, "67", words, attempts_max=attempts_max, again=again, alarm=True
    )


def _undocumented(item: PushItem, status: str, code: str, words: str) -> Outcome:
    """The outcome of a code without a row: a range, or an undocumented code. Never a dead token."""
    if code in UNCONFIRMED:
        tries = tries_with(item, code)
        verdict = Verdict.REJECTED if tries >= UNCONFIRMED_ATTEMPTS else Verdict.UNAVAILABLE
        return Outcome(verdict, status, code, words, alarm=True)
    if number(code, 500, 599):
        return Outcome(Verdict.UNAVAILABLE, status, code, words)
    return Outcome(
        Verdict.REJECTED if _business(code) else Verdict.UNKNOWN, status, code, words, alarm=True
    )
