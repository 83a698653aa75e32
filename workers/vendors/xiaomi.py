"""Xiaomi Mi Push: limits, codes, build, classify. Pure. Sources and the day they were read: docs/vendors/xiaomi.md."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import regex
from msgspec.structs import replace

from common.contracts import Notification
from common.model import Again, Bucket, PushType, Vendor, Verdict
from workers.vendors.base import (
    DEFAULT_RETRY,
    TOO_LONG,
    AccessToken,
    Credential,
    CredentialError,
    Limits,
    Outcome,
    PushItem,
    RequestBatch,
    VendorSpec,
    base62,
    cut,
    no_answer,
    number_id,
    quiet,
    read,
    receipt_tag,
    require,
    retry_after_s,
    same,
    secret_text,
    tries_with,
)
from workers.vendors.words import (
    GENERIC,
    body_of,
    click_text,
    code_of,
    generic,
    json_text,
    mapping,
    message_tag,
    number,
    scalar,
    title_of,
    told,
    unreadable,
    veiled,
    whole,
)
from workers.wire import Answer, NoAnswer, Request

# ---------------------------------------------------------------- limits (dev.mi.com pId=1559, 1656, 2314; wire notes of 2026-08)

TOKENS_MAX: Final = 1000  # regids of one request, comma list
TITLE_MAX: Final = 49  # "< 50" characters
DESCRIPTION_MAX: Final = 127  # "< 128" characters
PAYLOAD_BYTES_MAX: Final = 4095  # "< 4 KB"
TTL_MS_MAX: Final = {Bucket.PRIVATE: 864_000_000, Bucket.PUBLIC: 86_400_000}  # 10 days, 1 day
VALUE_MAX: Final = 128  # characters of one template value
TEMPLATE_VARIABLES_MAX: Final = 9
GIVEN_CHARS_MAX: Final = 10_000  # of a sender-given value before it is cleaned and cut; ours
CALLBACK_BYTES_MAX: Final = 128
JOBKEY_CHARS: Final = 20
EXTRA_CHARS_MAX: Final = 512  # of one override's value; ours
OWN_EXTRA_CHARS_MAX: Final = 1024  # keys and values of extras that are none of the page's, together (code 65015)
#: invalid target and delivered. A wrong sum silently stops all receipts: 17 is one that is known to work.
CALLBACK_TYPE: Final = 17
SOUND, VIBRATE, LIGHT, ALL = 1, 2, 4, -1

# ---------------------------------------------------------------- codes (dev.mi.com pId=1560 of 2024-10-18, SDK ErrorCode)

_RETRY = "-1 1 10001 10002 10003 10009 10010 10011 10037 20301 20607 22102 26003 65003 65029"
_CREDENTIAL = (
    "10004 10005 10006 10013 10014 10026 10031 10033 10036 21301 21302 21303 22000 22001 22002 22003 22004 22006 22007 22008 22021 "
    "22022 66108"
)
_REQUEST = (
    "100 10007 10008 10012 10016 10017 10018 10020 10021 10025 10038 20209 20215 20216 20315 21305 22005 22020 22100 22103 26006 27001 "
    "65006 65007 65008 65009 65010 65011 65012 65013 65014 65015 65016 65017 65028 65030 65035 65036 65037 65038 65040 65041"
)
_THROTTLE = "10022 10023 10024 10027 10028 10030 10032 10039 22101 26004 26005 200002"

#: What each code means for a push. 10035 ("no more invalid aliases") says nothing about one, so it is not here.
#: 10038 is about statistics only: it must not stop a lane that sends well.
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
#: Somebody must act in the console (26006 review, 27001 channel) or look why a code of another API came here.
ALARMS: Final = frozenset({"26006", "27001", "10035", "10038"})
#: Seconds to wait at least (the page: "retry after >= 1 s").
WAITS: Final = {"200002": 1.0}
UNKNOWN_ATTEMPTS: Final = 3  # "any other code: retry 3x then fail"
NO_TARGETS: Final = "no valid targets"  # 20301 with these words is about the token

# ---------------------------------------------------------------- build

#: Keys of `extra` that a sender may set verbatim. None of them names a target, a template, a receipt or a mode; the channel is an
#: override by the time it comes here (workers/routing/classes.py: with_raw).
_RAW = (
    "channel_name channel_description notify_foreground notify_effect intent_uri web_uri sound_uri badge "
    "notification_style_type notification_large_icon_uri notification_small_icon_uri ticker notification_bigPic_uri"
)
RAW_EXTRA: Final = frozenset(_RAW.split())
#: Those that the page does not give a meaning: to the vendor they are the app's own, of which it takes only so much.
OWN_EXTRA: Final = frozenset({"channel_name", "channel_description", "badge", "ticker", "notification_small_icon_uri"})
#: Those that show something of the message: not when details are hidden.
RAW_TELLING: Final = frozenset({"ticker", "notification_bigPic_uri", "notification_large_icon_uri"})
BIG_TEXT: Final = "1"  # of vendor.xiaomi.style and of extra.notification_style_type alike
_GRAPHEME = regex.compile(r"\X")
#: What makes an emoji of a plain character (variation selector, keycap, skin tones): goes, the character stays.
_EMOJI_MARKS: Final = re.compile("[\ufe0f\u20e3\U0001f3fb-\U0001f3ff]")
_REFUSED_KINDS: Final = frozenset({"So", "Cn", "Cs"})  # Cs can't be sent at all


def build(batch: RequestBatch, credential: Credential, _access: AccessToken | None) -> Request:
    """One message to 1..1000 regids of one app: `/v3/message/regid`, form-encoded once."""
    item = batch.items[0]
    note = item.note
    private = note.bucket is Bucket.PRIVATE
    fields: dict[str, str] = {
        "registration_id": ",".join(dict.fromkeys(each.target.token for each in batch.items)),
        "restricted_package_name": credential.options.get("package", ""),
        "pass_through": "0",
        "notify_type": str(_notify_type(note)),
        "notify_id": str(number_id(note.collapse_id)),
        "time_to_live": str(min(max(item.ttl_s, 1) * 1000, TTL_MS_MAX[note.bucket])),
        "title": title_of(note, TITLE_MAX),
        "description": body_of(note, DESCRIPTION_MAX),
        "payload": click_text(note, PAYLOAD_BYTES_MAX),
    }
    look = _within({**_look(note, credential), **_raw(note)})
    extra = {**_class_extra(note, private), **look, **_callback(batch), "jobkey": jobkey(batch)}
    form = [(key, value) for key, value in fields.items() if value] + [(f"extra.{key}", value) for key, value in extra.items()]
    headers = {
        "authorization": f"key={credential.secrets.get('app_secret', '')}",
        "content-type": "application/x-www-form-urlencoded;charset=UTF-8",
    }
    return Request(_endpoint(credential), "/v3/message/regid", headers, encode(form))


def encode(form: Sequence[tuple[str, str]]) -> bytes:
    """Ordinary form encoding, once: a payload encoded twice reaches the app as percent text."""
    return urlencode([(key, whole(value)) for key, value in form]).encode()


def jobkey(batch: RequestBatch) -> str:
    """Batch key; the client shows only the first message of one, so that a repeat after silence is invisible.

    A message of one person's has the push id's (`group` keeps it alone in its request); one that goes to many has the
    message's own, which stays the same however the next attempt is batched.
    """
    item = batch.items[0]
    alone = len(batch.items) == 1 and item.note.conversation_type == "c2c"
    return base62(item.target.push_id if alone else message_tag(item), JOBKEY_CHARS)


def group(item: PushItem) -> str:
    """A c2c push travels alone, under its own push id; the pushes of a group message share requests."""
    return item.target.push_id if item.note.conversation_type == "c2c" else ""


def _class_extra(note: Notification, private: bool) -> dict[str, str]:
    """Channel and template. Overrides move within the private class only: a public push never gets a private channel."""
    over = note.vendor if private else {}
    given = note.template if private and note.template else {}
    placed = note.placement
    channel = scalar(over.get("channel_id"), VALUE_MAX) or placed.get("channel_id")
    chosen = scalar(given.get("id"), VALUE_MAX)
    template = chosen or scalar(over.get("template_id"), VALUE_MAX) or placed.get("template_id")
    extra = {"channel_id": channel} if channel else {}
    if not (private and channel and template):
        return extra
    values = _given_values(note, given) if chosen else _own_values(note)
    return {**extra, "template_id": template, "template_param": json_text(values) or "{}"}


def _own_values(note: Notification) -> dict[str, str]:
    """The template's two variables. When details are hidden, nothing but the words of title and body may fill them."""
    placed, name, text = note.placement, note.sender_name or note.title, note.text or note.body
    if veiled(note):
        name, text = note.title, note.body
    sender = template_value(name) or template_value(note.app_name) or template_value(generic(note)) or GENERIC["en"]
    words = template_value(text) or template_value(note.fallback_body) or template_value(generic(note)) or GENERIC["en"]
    pairs = ((placed.get("template_sender", "sender"), sender), (placed.get("template_text", "text"), words))
    return {whole(variable): value for variable, value in pairs if variable}


def _given_values(note: Notification, given: Mapping[str, Any]) -> dict[str, str]:
    """A sender-given template's values (objects, or their JSON text), each made valid: where nothing remains, words of ours.

    A variable that is missing would cost the person the message (10017).
    """
    values: dict[str, str] = {}
    words = template_value(generic(note)) or GENERIC["en"]
    for part, spare in (("title_params", template_value(note.app_name) or words), ("content_params", words)):
        for key, value in mapping(given.get(part)).items():
            shown = words if veiled(note) else template_value(scalar(value, GIVEN_CHARS_MAX) or "")
            if isinstance(key, str) and len(values) < TEMPLATE_VARIABLES_MAX:
                values[whole(key)] = shown or spare
    return values


def value_valid(value: str) -> bool:
    """Whether the vendor takes this as a template value: 1..128 characters, not blank, no symbol (So), nothing unassigned (Cn)."""
    return 0 < len(value) <= VALUE_MAX and bool(value.strip()) and not any(unicodedata.category(c) in _REFUSED_KINDS for c in value)


def template_value(text: str) -> str:
    """`text` as the vendor takes it, "" when nothing remains. A grapheme with one refused character goes whole: no half emoji."""
    text = _EMOJI_MARKS.sub("", text)
    if not value_valid(text):
        shown = (match.group() for match in _GRAPHEME.finditer(text))
        text = "".join(part for part in shown if not any(unicodedata.category(c) in _REFUSED_KINDS for c in part)).strip()
        text = cut(text, VALUE_MAX)
    return text if value_valid(text) else ""


def _notify_type(note: Notification) -> int:
    """Sound, vibration and light; a quiet and a silent push make no noise."""
    if quiet(note) or note.push_type is PushType.SILENT:
        return LIGHT
    return VIBRATE | LIGHT if note.sound_android == "none" else ALL


def _look(note: Notification, credential: Credential) -> dict[str, str]:
    """Click, sound and style. notify_effect is always there: without it a notification is withdrawn (2024-09-30)."""
    extra = {"notify_effect": "1", "notify_foreground": "1"}
    if intent := credential.options.get("intent_uri"):
        extra |= {"notify_effect": "2", "intent_uri": intent}
    sound = re.sub(r"\..*$", "", note.sound_android or "")
    package = credential.options.get("package", "")
    if sound not in ("", "none", "default") and not quiet(note) and re.fullmatch(r"[A-Za-z0-9_]{1,64}", sound):
        extra["sound_uri"] = f"android.resource://{package}/raw/{sound}"
    if scalar(note.vendor.get("style"), 4) == BIG_TEXT:
        extra["notification_style_type"] = BIG_TEXT
    if name := scalar(note.vendor.get("channel_name"), VALUE_MAX):
        extra["channel_name"] = name
    return extra


def _raw(note: Notification) -> dict[str, str]:
    """The sender's own `extra`, white-listed keys with short values; a click that lacks its address is left out."""
    raw = note.vendor_raw.get("extra")
    wanted = raw.items() if isinstance(raw, Mapping) else ()
    allowed = RAW_EXTRA - RAW_TELLING if veiled(note) else RAW_EXTRA
    if quiet(note):
        allowed -= {"sound_uri"}
    extra = {key: text for key, value in wanted if key in allowed and (text := scalar(value, EXTRA_CHARS_MAX))}
    needs = {"1": None, "2": "intent_uri", "3": "web_uri"}
    effect = extra.get("notify_effect")
    if effect is not None and (effect not in needs or (needs[effect] and needs[effect] not in extra)):
        del extra["notify_effect"]
    return extra


def _within(extra: Mapping[str, str]) -> dict[str, str]:
    """`extra` without what would be too much of the app's own: the whole message would be refused for it."""
    kept, room = {}, OWN_EXTRA_CHARS_MAX
    for key, value in extra.items():
        size = len(key) + len(value) if key in OWN_EXTRA else 0
        if size <= room:
            kept[key] = value
            room -= size
    return kept


def _callback(batch: RequestBatch) -> dict[str, str]:
    """Where receipts go and what they echo: the push id of a single push, the batch's tag of a list."""
    url = batch.callback_url
    if not url or len(whole(url).encode()) > CALLBACK_BYTES_MAX:
        return {}
    return {"callback": url, "callback.param": receipt_tag(batch), "callback.type": str(CALLBACK_TYPE)}


def _endpoint(credential: Credential) -> str:
    return "XIAOMI_GLOBAL" if credential.options.get("region") == "global" else "XIAOMI"


# ---------------------------------------------------------------- classify


def classify(batch: RequestBatch, answer: Answer | NoAnswer) -> Sequence[Outcome]:
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
    """Some older interfaces say errorCode."""
    return code_of(reply.get("code", reply.get("errorCode")))


def _words(batch: RequestBatch, reply: Mapping[str, Any]) -> str:
    """reason first, then description, then info: the first that says something."""
    said = next((text for key in ("reason", "description", "info") if isinstance(text := reply.get(key), str) and text.strip()), "")
    return told(said, *(item.target.token for item in batch.items))


def _refused(batch: RequestBatch, answer: Answer, reply: Mapping[str, Any], code: str) -> Outcome:
    words, status = _words(batch, reply), str(answer.status)
    verdict = CODES.get(code)
    if code == "20301" and NO_TARGETS in words.lower():
        verdict = Verdict.TOKEN_DEAD
    if verdict is Verdict.TOKEN_DEAD and len(batch.items) > 1:
        return Outcome(Verdict.UNAVAILABLE, status, code, words, again=Again.SINGLY)
    if verdict is not None:
        wait = retry_after_s(answer) or WAITS.get(code)
        most = ATTEMPTS.get(code) if verdict is Verdict.UNAVAILABLE else None
        return Outcome(verdict, status, code, words, retry_after_s=wait, attempts_max=most, alarm=code in ALARMS)
    if code == "10035":
        return Outcome(Verdict.UNKNOWN, status, code, words, alarm=True)
    if re.fullmatch(r"66[0-9]{3}", code):
        return Outcome(Verdict.REJECTED, status, code, words, alarm=True)
    return Outcome(Verdict.UNAVAILABLE, status, code, words, alarm=True)


def _given_up(batch: RequestBatch, outcome: Outcome) -> Sequence[Outcome]:
    """A code that nobody documents is tried a few times; what it meant is unknown then, too."""
    last = replace(outcome, verdict=Verdict.UNKNOWN)
    undocumented = outcome.code not in CODES and outcome.verdict is Verdict.UNAVAILABLE
    return [last if undocumented and tries_with(item, outcome.code) >= UNKNOWN_ATTEMPTS else outcome for item in batch.items]


def _by_status(answer: Answer, code: str) -> Outcome:
    """No usable code. A 2xx that can't be read may well have been done: uncertain, never sent twice for marketing."""
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


def _taken(batch: RequestBatch, answer: Answer, reply: Mapping[str, Any]) -> Sequence[Outcome]:
    """Code 0: the regids that `data.bad_regids` names are dead, the others share one outcome. Source: xiaomi.md §4A, §9.7."""
    if reply.get("result", "ok") != "ok":
        return same(batch, Outcome(Verdict.UNKNOWN, str(answer.status), "0", _words(batch, reply), alarm=True))
    data = _data(reply)
    bad = refused_regids(data)
    good = [item for item in batch.items if item.target.token not in bad]
    dead = Outcome(Verdict.TOKEN_DEAD, str(answer.status), "0", BAD_REGIDS, vendor_message_id=code_of(data.get("id")) or None)
    accepted = _accepted(len(good), str(answer.status), data)
    return [dead if item.target.token in bad else accepted for item in batch.items]


def _accepted(good: int, status: str, data: Mapping[str, Any]) -> Outcome:
    """Of the `good` regids that were not refused. Items over the day's quota are counted in `channel_exceed_quota`, unnamed."""
    dropped = sum(channels_exceeded(data.get("channel_exceed_quota")).values())
    message_id = code_of(data.get("id")) or None
    if not dropped:
        return Outcome(Verdict.ACCEPTED, status, "0", vendor_message_id=message_id)
    words = f"{dropped} of {good} over the day's quota"
    if dropped >= good:
        return Outcome(Verdict.QUOTA_SPENT, status, "0", words, vendor_message_id=message_id)
    return Outcome(Verdict.ACCEPTED, status, "0", words, vendor_message_id=message_id, alarm=True)


BAD_REGIDS: Final = "bad_regids"


def refused_regids(data: Mapping[str, Any]) -> frozenset[str]:
    """The regids of `bad_regids` (also spelt `bad_regIds`): one comma list, or a list of texts; empty for anything else."""
    found: set[str] = set()
    for name in (BAD_REGIDS, "bad_regIds"):
        value = data.get(name)
        parts = value if isinstance(value, list) else [value]
        found.update(one.strip() for part in parts if isinstance(part, str) for one in part.split(","))
    return frozenset(found - {""})


def _data(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    data = reply.get("data")
    return data if isinstance(data, dict) else {}


def channels_exceeded(text: Any) -> dict[str, int]:
    """`"no_channel:2 a:3"` -> {"no_channel": 2, "a": 3}: items dropped per channel. What can't be read is left out."""
    found: dict[str, int] = {}
    for part in text.split() if isinstance(text, str) else ():
        channel, _, count = part.rpartition(":")
        if channel and (dropped := number(count, 1, 10**9)):
            found[channel] = found.get(channel, 0) + dropped
    return found


def quota_told(answer: Answer) -> tuple[int, int] | None:
    """(delivered today, today's total) as the answer tells them; used = limit once a channel is over, which closes it until midnight."""
    data = _data(read(answer, dict[str, Any]) or {})
    limit, used = number(data.get("day_quota"), 0, 10**12), number(data.get("day_acked"), 0, 10**12)
    if limit is None or used is None:
        return None
    return (max(used, limit), limit) if channels_exceeded(data.get("channel_exceed_quota")) else (used, limit)


# ---------------------------------------------------------------- credential

_PACKAGE = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)+")


def read_credential(options: Mapping[str, str], files: Mapping[str, bytes], _now_ms: int) -> tuple[dict[str, str], dict[str, str]]:
    """package (Android package), app_secret (AppSecret, not AppKey); optional region `cn` or `global`, intent_uri."""
    require(options, "package")
    if not _PACKAGE.fullmatch(options["package"]):
        raise CredentialError("--package takes an Android package name, such as com.example.im")
    if options.get("region", "cn") not in ("cn", "global"):
        raise CredentialError("--region takes cn or global")
    secret = secret_text(files, "app_secret", ascii_only=True)
    if len(secret) > 256:
        raise CredentialError("the file of --app-secret-file holds more than the AppSecret")
    kept = {name: options[name] for name in ("package", "region", "intent_uri") if options.get(name)}
    return kept, {"app_secret": secret}


def token_valid(token: str) -> bool:
    """Printable ASCII, 1..512, no comma (which would make two of it). The page gives no stricter form."""
    return bool(re.fullmatch(r"[!-+\--~]{1,512}", token))


def check(credential: Credential, _access: AccessToken | None) -> Request:
    """Today's quota: needs the secret, reaches nobody. At most one call a second."""
    headers = {"authorization": f"key={credential.secrets.get('app_secret', '')}"}
    return Request(_endpoint(credential), "/v1/trace/quota/get", headers, b"", method="GET")


def checked(answer: Answer) -> Verdict:
    """ACCEPTED when the secret was taken, though statistics may be forbidden (10038) or asked too often (10027, 10039)."""
    code = _code(read(answer, dict[str, Any]) or {})
    if code in ("0", "10027", "10038", "10039") and answer.status < 500:
        return Verdict.ACCEPTED
    return CODES.get(code, Verdict.UNKNOWN) if code else _by_status(answer, code).verdict


XIAOMI = VendorSpec(
    vendor=Vendor.XIAOMI,
    endpoints={"XIAOMI": "https://api.xmpush.xiaomi.com", "XIAOMI_GLOBAL": "https://api.xmpush.global.xiaomi.com"},
    http2=False,
    request_tokens_max=TOKENS_MAX,
    build=build,
    classify=classify,
    read_credential=read_credential,
    # pId=1656 of 2026-02-04: a new app has 500 requests/s; public 2 x 10,000 a day and 5 a device; private unlimited.
    limits=Limits(rate_per_s=500, burst=500, rate_unit="request", quota_public=20_000, device_cap_public=5),
    retry=replace(DEFAULT_RETRY, delay_max_s=1024.0),  # the SDK's own back-off: 1 s, doubling below 1024 s
    token_valid=token_valid,
    check=check,
    checked=checked,
    rights=frozenset({"xiaomi.private"}),
    group=group,
    quota_told=quota_told,
    too_long=TOO_LONG | {"10018", "65009", "65014", "65015"},
)
