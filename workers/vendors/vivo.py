"""vivo Push: single and list push with an access token; rules about what a text may look like. Sources: docs/vendors/vivo.md."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from msgspec.structs import replace

from common.contracts import Notification
from common.model import Again, Bucket, PushType, Vendor, Verdict
from workers.vendors.base import (
    TOO_LONG,
    AccessRefused,
    AccessSpec,
    AccessToken,
    Credential,
    CredentialError,
    Limits,
    Outcome,
    PushItem,
    RequestBatch,
    VendorSpec,
    body_within,
    compact,
    cut,
    leaner,
    no_answer,
    number_id,
    quiet,
    read,
    receipt_tag,
    require,
    retry_after_s,
    same,
    secret_text,
    told,
    whole,
)
from workers.wire import Answer, NoAnswer, Request

TITLE_WEIGHT_MAX: Final = 40
CONTENT_WEIGHT_MAX: Final = 100
CUSTOM_CHARACTERS_MAX: Final = 1024  # keys and values of clientCustomMap
CUSTOM_PAIRS_MAX: Final = 10  # named by the older page only
TTL_S_MIN: Final = 60
TTL_S_MAX: Final = 86_400
CALLBACK_CHARACTERS_MAX: Final = 128
LIST_TOKENS_MAX: Final = 1000
LIST_TOKENS_MIN: Final = 20  # vivo takes 2; a list costs two requests and one of the day's list bodies
SAFE_CONTENT: Final = "您收到一条新消息"
SAFE_TITLE: Final = "新消息"

# ---------------------------------------------------------------- codes

#: `result` of any call. Source: vivo.md §5 (doc 362, v2.9.2 and a public list), read 2026-11-22. Those not here: UNKNOWN.
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
    10311: Verdict.SILENCED,  # permission off or long away; it counts again once the device registers
    10352: Verdict.REJECTED,
    10353: Verdict.REJECTED,
    10800: Verdict.REJECTED,
    10801: Verdict.REJECTED,
}
TITLE, CONTENT = "title", "content"
#: The part of the words that a refusal is about; the next attempt replaces that part alone, once.
PARTS: Final[Mapping[int, str]] = {10056: TITLE, 10085: TITLE, 10058: CONTENT, 10104: CONTENT}
#: Refusals that the next attempt can cure by being different; the second time the table's verdict stands.
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
USER_STATUS: Final[Mapping[int, Verdict]] = {1: Verdict.TOKEN_DEAD, 2: Verdict.TOKEN_DEAD, 3: Verdict.TOKEN_DEAD, 4: Verdict.REJECTED}
#: Whose day is over. vivo's classification of its own may send a system message down, and count it there.
SPENT: Final[Mapping[int, Bucket]] = {10070: Bucket.PUBLIC, 10073: Bucket.PRIVATE}
TOO_FAST_S: Final = 1.0
CLOCK_CODE: Final = 10207
HOURS_CODE: Final = 10071
PUBLIC_HOURS: Final = (7, 23)
CLOCKS_DIFFER_S: Final = 60.0
_BEIJING: Final = timedelta(hours=8)  # no daylight saving time since 1991


def classify(batch: RequestBatch, answer: Answer | NoAnswer) -> Sequence[Outcome]:
    """One outcome a token, of /message/send, or of the last answer of a list push. Source: vivo.md §5."""
    if isinstance(answer, NoAnswer):
        return no_answer(batch, answer)
    reply = read(answer, dict[str, Any]) or {}
    code = _number(reply.get("result"))
    status, words, wait = str(answer.status), told(reply.get("desc"), batch), retry_after_s(answer)
    if not 200 <= answer.status < 300 and (code == 0 or answer.status >= 500):
        code = None  # a result travels on a 200; what a broken server or a proxy says beside its status is no word on a push
    if code is None or (code not in CODES and code != 0):
        verdict = Verdict.UNKNOWN if answer.status == 200 else _by_status(answer.status)
        text = "" if code is None else str(code)
        return same(batch, Outcome(verdict, status, text, words, retry_after_s=wait, alarm=verdict is Verdict.UNKNOWN))
    if code == 0 and not _taken(batch, reply):
        return same(batch, Outcome(Verdict.UNKNOWN, status, "0", words, alarm=True))
    task_id = told(reply.get("taskId") or reply.get("requestId")) or (
        str(reply["taskId"]) if _number(reply.get("taskId")) is not None else None
    )
    invalid = _invalid_users(reply) if code in (0, 10302) else {}
    usual = Outcome(Verdict.ACCEPTED if code == 0 else CODES[code], status, str(code), words, task_id, retry_after_s=wait)
    return [_of_token(batch, item, code, usual, invalid.get(item.target.token)) for item in batch.items]


def _of_token(batch: RequestBatch, item: PushItem, code: int, usual: Outcome, user_status: int | None) -> Outcome:
    if user_status is not None:
        verdict = USER_STATUS.get(user_status, Verdict.UNKNOWN)
        return replace(usual, verdict=verdict, code=f"{code}.{user_status}", alarm=verdict is Verdict.UNKNOWN)
    if code in ONE_BY_ONE and len(batch.items) > 1:
        spent = code == LISTS_CODE
        return replace(usual, verdict=Verdict.UNAVAILABLE, again=Again.SINGLY, retry_after_s=0.0, lists_spent=spent)
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
    """The parts of the words that the vendor refused before. All, where no attempt that is kept names one."""
    codes = (_number(attempt.code) for attempt in item.target.attempts)
    named = frozenset(PARTS[code] for code in codes if code is not None and code in PARTS)
    unnamed = item.target.again == Again.FALLBACK_TEXT and not named
    return frozenset((TITLE, CONTENT)) if unnamed else named


def _taken(batch: RequestBatch, reply: Mapping[str, Any]) -> bool:
    """Whether `result: 0` is a push's answer: that of a saved body without its taskId has none of these, and nothing was pushed."""
    return len(batch.items) == 1 or any(reply.get(name) is not None for name in ("requestId", "taskId", "invalidUsers"))


def _invalid_users(reply: Mapping[str, Any]) -> dict[str, int]:
    """Token -> status, of invalidUser and invalidUsers."""
    many = reply.get("invalidUsers")
    named = [reply.get("invalidUser"), *(many if isinstance(many, list) else [])]
    users = [user for user in named if isinstance(user, dict) and isinstance(user.get("userid"), str | int)]
    return {str(user["userid"]): status for user in users if (status := _number(user.get("status"))) is not None}


def _number(value: Any) -> int | None:
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
    """Seconds from now_ms to the next 07:00 in Beijing; a minute where it is day by our clock: then vivo's is a little behind or ahead."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC) + _BEIJING
    if PUBLIC_HOURS[0] <= now.hour < PUBLIC_HOURS[1]:
        return CLOCKS_DIFFER_S
    morning = now.replace(hour=PUBLIC_HOURS[0], minute=0, second=0, microsecond=0)
    return ((morning if morning > now else morning + timedelta(days=1)) - now).total_seconds()


# ---------------------------------------------------------------- request

_SYSTEM_CATEGORIES: Final = frozenset({"IM", "ACCOUNT", "TODO", "DEVICE_REMINDER", "ORDER", "SUBSCRIPTION"})
_OPERATIONAL_CATEGORIES: Final = frozenset({"NEWS", "CONTENT", "MARKETING", "SOCIAL"})
#: Keys of the body that a sender may lay over ours (NIM's vivoField), with the values that vivo takes: any other would cost the
#: person the message. classification and category go their own, guarded way.
RAW_NUMBERS: Final = {"notifyType": (1, 2, 3, 4), "networkType": (-1, 1)}
RAW_SWITCHES: Final = ("foregroundShow", "sendOnline", "addBadge")
SKIP_CONTENT_CHARACTERS_MAX: Final = 1024
SKIP_HOME: Final = 1
SKIP_TO: Final = (2, 3, 4)  # an address, the app's own, a page: each needs its skipContent


def build(batch: RequestBatch, credential: Credential, access: AccessToken | None) -> Request:
    """/message/send for one item; for more the body is saved first, and `follow` sends it to them."""
    body = _message(batch, credential)
    if len(batch.items) == 1:
        item = batch.items[0]
        body |= {"regId": item.target.token, "requestId": f"{item.target.push_id}-{item.attempt}"}
        return _request("/message/send", body, access)
    return _request("/message/saveListPayload", body | {"requestId": _list_request_id(batch, "s")}, access)


def follow(batch: RequestBatch, answer: Answer, credential: Credential, access: AccessToken | None) -> Request | None:
    """/message/pushToList with the taskId that saveListPayload gave. Call it once, with the first answer; None: that one is final."""
    if len(batch.items) == 1 or answer.status != 200:
        return None
    reply = read(answer, dict[str, Any]) or {}
    task_id = reply.get("taskId")
    if _number(reply.get("result")) != 0 or isinstance(task_id, bool) or not isinstance(task_id, str | int) or task_id == "":
        return None
    body = {
        "appId": _app_id(credential),
        "taskId": str(task_id),
        "regIds": [item.target.token for item in batch.items],
        "requestId": _list_request_id(batch, "p"),
        "pushMode": _push_mode(batch.items[0].note),
    }
    return _request("/message/pushToList", body, access)


def refuse(item: PushItem) -> str | None:
    """`silent_not_supported`: vivo only shows things. `payload_too_large`: an opaque payload exceeds clientCustomMap."""
    if item.note.push_type is PushType.SILENT:
        return "silent_not_supported"
    return "payload_too_large" if item.note.blob and _characters(_all_custom(item.note)) > CUSTOM_CHARACTERS_MAX else None


def _request(path: str, body: Mapping[str, Any], access: AccessToken | None) -> Request:
    headers = {"content-type": "application/json"}
    if access is not None:
        headers["authtoken"] = access.value
    return Request("VIVO", path, headers, compact(body))


def _list_request_id(batch: RequestBatch, letter: str) -> str:
    """Unique a request, the same when it is built again: of whom it is for and of the attempt. At most 64 characters."""
    digest = hashlib.blake2b(digest_size=16)
    for item in batch.items:
        digest.update(item.target.push_id.encode())
    return f"{letter}-{digest.hexdigest()}-{max(item.attempt for item in batch.items)}"


def _app_id(credential: Credential) -> int:
    return _number(credential.options.get("app_id")) or 0


def _push_mode(note: Notification) -> int:
    return 1 if _number(note.vendor.get("push_mode")) == 1 else 0


def _message(batch: RequestBatch, credential: Credential) -> dict[str, Any]:
    """What single and list bodies share."""
    note = batch.items[0].note
    refused = frozenset[str]().union(*(replaced_parts(item) for item in batch.items))
    title, content, replaced = _words(note, refused)
    classification, category = _class(note)
    wanted = _number(note.vendor.get("notify_type"))
    silent = note.sound_android == "none" or quiet(note)
    body: dict[str, Any] = {
        "appId": _app_id(credential),
        "notifyType": wanted if wanted in (1, 2, 3, 4) and not quiet(note) else 1 if silent else 4,
        "title": title,
        "content": content,
        "timeToLive": min(max(min(item.ttl_s for item in batch.items), TTL_S_MIN), TTL_S_MAX),
        "skipType": 1,
        "classification": classification,
        "pushMode": _push_mode(note),
        "notifyId": number_id(note.collapse_id),
        "foregroundShow": False,
    }
    optional = {
        "category": category,
        "clientCustomMap": _custom_with(note, replaced),
        "extra": _receipt(batch, credential),
        "addBadge": True if note.vendor.get("add_badge") in (True, 1, "1") else None,
    }
    body |= {name: value for name, value in optional.items() if value}
    raw = _raw(note.vendor_raw)
    if quiet(note):
        raw.pop("notifyType", None)
    return body | raw


def _raw(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A sender's own fields as far as vivo would take them."""
    fields: dict[str, Any] = {name: value for name in RAW_NUMBERS if (value := _number(raw.get(name))) in RAW_NUMBERS[name]}
    fields |= {name: raw[name] for name in RAW_SWITCHES if isinstance(raw.get(name), bool)}
    skip, content = _number(raw.get("skipType")), raw.get("skipContent")
    if skip == SKIP_HOME:
        fields["skipType"] = skip
    elif skip in SKIP_TO and isinstance(content, str) and 0 < len(content) <= SKIP_CONTENT_CHARACTERS_MAX:
        fields |= {"skipType": skip, "skipContent": whole(content)}
    return fields


def _class(note: Notification) -> tuple[int, str | None]:
    """(classification, category), which must match (10097). A public message is never lifted; a category that doesn't fit is left out."""
    system = note.bucket is Bucket.PRIVATE and _number(note.placement.get("classification", "1")) == 1
    wishes = (note.vendor, note.vendor_raw)
    for wish in wishes:
        if _number(wish.get("classification")) == 0:
            system = False
    fitting = _SYSTEM_CATEGORIES if system else _OPERATIONAL_CATEGORIES
    category = None
    for source in (note.placement, *wishes):
        value = source.get("category")
        if isinstance(value, str) and value in fitting:
            category = value
    return int(system), category


# ---------------------------------------------------------------- words


def weight(text: str) -> int:
    """The count of vivo's server SDK 3.3 (vivo.md §3): two for CJK, U+2000-206F and U+FF00-FFEF, one for others.

    Two also beyond the BMP, where Java sees two characters, and for every other wide character.
    """
    return sum(2 if _is_heavy(char) else 1 for char in text)


def _is_heavy(char: str) -> bool:
    point = ord(char)
    if point < 0x1100:
        return False
    if point > 0xFFFF or 0x2000 <= point <= 0x206F or 0xFF00 <= point <= 0xFFEF:
        return True
    return unicodedata.east_asian_width(char) in "WF"


def formal(text: str) -> bool:
    """Whether vivo takes it as title or content: not only digits, Latin letters or symbols, no 测试, braces or brackets (10085, 10104).

    White space apart: whether words of Latin letters with spaces between them pass is not documented.
    """
    if any(mark in text for mark in ("测试", "{", "}", "[", "]")):
        return False
    dense = "".join(text.split())
    only_digits = dense.isdigit()
    only_symbols = not any(char.isalnum() for char in dense)
    only_latin = all(char.isalpha() and ord(char) < 0x250 for char in dense)
    return not (only_digits or only_symbols or only_latin)


def _words(note: Notification, refused: frozenset[str]) -> tuple[str, str, dict[str, str]]:
    """(title, content, the originals of what was replaced). refused: the parts that vivo has refused before."""
    titles = (note.app_name,) if TITLE in refused else (note.title, note.app_name)
    body = body_within(note, CONTENT_WEIGHT_MAX, weight)
    contents = () if CONTENT in refused else (body, note.fallback_body)
    title = _first_formal(titles, TITLE_WEIGHT_MAX) or SAFE_TITLE
    content = _first_formal(contents, CONTENT_WEIGHT_MAX) or SAFE_CONTENT
    replaced = {}
    if note.title and title != _fit(note.title, TITLE_WEIGHT_MAX):
        replaced["title"] = whole(note.title)
    if note.body and content != _fit(body, CONTENT_WEIGHT_MAX):
        replaced["content"] = whole(note.body)
    return title, content, replaced


def _first_formal(candidates: Sequence[str], most: int) -> str | None:
    return next((text for one in candidates if formal(text := _fit(one, most))), None)


def _fit(text: str, most: int) -> str:
    return cut(whole(text), most, weight)


def _custom(note: Notification) -> dict[str, str]:
    """What of it fits the map: all, else without the payload, else nothing (contract §7)."""
    for lean in leaner(note):
        custom = _all_custom(lean)
        if _characters(custom) <= CUSTOM_CHARACTERS_MAX:
            return custom
    return {}


def _all_custom(note: Notification) -> dict[str, str]:
    """ext and the payload's keys as texts; a payload of more keys than the map takes travels as one, `payload`."""
    payload = note.payload or {}
    if len(payload) >= CUSTOM_PAIRS_MAX:
        payload = {"payload": payload}
    custom = {whole(key): whole(value) if isinstance(value, str) else compact(value).decode() for key, value in payload.items()}
    if note.ext is not None:
        custom["ext"] = whole(note.ext)
    return custom


def _custom_with(note: Notification, replaced: Mapping[str, str]) -> dict[str, str]:
    """The map with the words that vivo's rules replaced on the screen, as far as there is room; the app's own keys win."""
    custom = _custom(note)
    for name, text in replaced.items():
        room = CUSTOM_CHARACTERS_MAX - _characters(custom) - len(name)
        if name not in custom and len(custom) < CUSTOM_PAIRS_MAX and room > 0:
            kept = cut(text, room)
            custom |= {name: kept} if kept else {}
    return custom


def _characters(custom: Mapping[str, str]) -> int:
    return sum(len(key) + len(value) for key, value in custom.items())


def _receipt(batch: RequestBatch, credential: Credential) -> dict[str, str]:
    """Where receipts go and what they echo: the console's receipt id where the operator gave one, else the address (single push only)."""
    if not batch.callback_url:
        return {}
    receipt_id = credential.options.get("callback_id")
    if receipt_id:
        return {"callback.id": receipt_id, "callback.param": receipt_tag(batch)}
    if len(batch.items) > 1 or len(batch.callback_url) > CALLBACK_CHARACTERS_MAX:
        return {}
    return {"callback": batch.callback_url, "callback.param": receipt_tag(batch)}


_TOKEN: Final = re.compile(r"[!-~]{1,512}")


def token_valid(token: str) -> bool:
    """Printable ASCII without blanks and commas; vivo's own SDK broke on a newer token by counting its characters."""
    return _TOKEN.fullmatch(token) is not None and "," not in token


# ---------------------------------------------------------------- access token

ACCESS_REFRESH_S: Final = 90 * 60
ACCESS_LIFE_S: Final = 23 * 3600  # vivo: 24 h


def ask(credential: Credential, now_ms: int) -> Request:
    """POST /message/auth, signed with the same timestamp that it carries. Source: vivo.md §2."""
    options = credential.options
    body = {
        "appId": _app_id(credential),
        "appKey": options["app_key"],
        "timestamp": now_ms,
        "sign": sign(options["app_id"], options["app_key"], now_ms, credential.secrets["app_secret"]),
    }
    return _request("/message/auth", body, None)


def sign(app_id: str, app_key: str, now_ms: int, app_secret: str) -> str:
    """MD5, as vivo's page has it, of id, key, time and secret in this order."""
    return hashlib.md5(f"{app_id}{app_key}{now_ms}{app_secret}".strip().encode("utf-8", "replace"), usedforsecurity=False).hexdigest()


def read_access(answer: Answer, now_ms: int) -> AccessToken | AccessRefused:
    """The authToken, good for 23 hours, to be renewed after 90 minutes; else why there is none."""
    reply = read(answer, dict[str, Any]) or {}
    code, token = _number(reply.get("result")), reply.get("authToken")
    if answer.status == 200 and code == 0 and isinstance(token, str) and _TOKEN.fullmatch(token):
        return AccessToken(token, now_ms + ACCESS_REFRESH_S * 1000, now_ms + ACCESS_LIFE_S * 1000)
    verdict = CODES.get(code) if code is not None and answer.status < 500 else None
    if verdict not in (Verdict.CREDENTIAL_REFUSED, Verdict.THROTTLED):
        verdict = Verdict.THROTTLED if answer.status == 429 else Verdict.UNAVAILABLE
    words = "this machine's clock is off by more than 10 minutes" if code == CLOCK_CODE else told(reply.get("desc"))
    wait = retry_after_s(answer)
    wait = TOO_FAST_S if wait is None and verdict is Verdict.THROTTLED else wait
    return AccessRefused(verdict, str(answer.status) if code is None else str(code), words, wait)


# ---------------------------------------------------------------- credential


def read_credential(options: Mapping[str, str], files: Mapping[str, bytes], _now_ms: int) -> tuple[dict[str, str], dict[str, str]]:
    """options: app_id (digits), app_key; files: app_secret."""
    require(options, "app_id", "app_key")
    if _number(options["app_id"]) is None:
        raise CredentialError("--app-id must be the number that vivo's console shows as AppID")
    if not _TOKEN.fullmatch(options["app_key"]):
        raise CredentialError("--app-key must be printable ASCII without blanks")
    kept = {name: options[name] for name in ("app_id", "app_key", "callback_id") if options.get(name)}
    return kept, {"app_secret": secret_text(files, "app_secret", ascii_only=True)}


# ---------------------------------------------------------------- the vendor

VIVO: Final = VendorSpec(
    vendor=Vendor.VIVO,
    endpoints={"VIVO": "https://api-push.vivo.com.cn"},
    http2=False,
    request_tokens_max=LIST_TOKENS_MAX,
    build=build,
    classify=classify,
    read_credential=read_credential,
    limits=Limits(rate_per_s=500.0, burst=500.0, rate_unit="token", quota_public=20_000, device_cap_public=2, public_hours=PUBLIC_HOURS),
    access=AccessSpec(ask=ask, read=read_access),
    token_valid=token_valid,
    follow=follow,
    rights=frozenset({"vivo.system"}),
    refuse=refuse,
    request_tokens_min_list=LIST_TOKENS_MIN,
    too_long=TOO_LONG | {"10067"},  # clientCustomMap
)
