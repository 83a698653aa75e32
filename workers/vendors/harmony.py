"""HarmonyOS Push Kit, v3: HarmonyOS 5 and later. Older Huawei devices: huawei.py. Limits, classes, codes: docs/vendors/harmony.md."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from common.contracts import Notification
from common.model import Bucket, Kind, PushType, Vendor, Verdict
from workers.vendors import pushkit
from workers.vendors.base import (
    AccessRefused,
    AccessSpec,
    AccessToken,
    Credential,
    CredentialError,
    ImageSpec,
    Limits,
    Outcome,
    RequestBatch,
    VendorSpec,
    base62,
    cut,
    number_id,
    quiet,
    read,
    secret_file_text,
)
from workers.vendors.shaping import (
    Keep,
    badge_of,
    bearer,
    body_of,
    click_data,
    encoded,
    fitted,
    image_of,
    json_text,
    laid,
    note_tag,
    part,
    plain,
    raw_fields,
    receipt_tag,
    text_option,
    title_of,
    token_valid,
    ttl_of,
)
from workers.wire import Answer, NoAnswer, Request

ENDPOINTS: Final = {"HARMONY": "https://push-api.cloud.huawei.com"}
#: Fixed in every JWT, whatever PUSHFLEET_ENDPOINT_HARMONY or the key file's token_uri say.
AUDIENCE: Final = "https://oauth-login.cloud.huawei.com/oauth2/v3/token"
JWT_LIFE_S: Final = 3600
#: iat is floored to this, so that all processes sign the same claims without talking and a token has 30 min left when renewed.
JWT_STEP_S: Final = 1800
CLOCK_SPARE_S: Final = 60
KEY_BITS_MIN: Final = 2048
#: Source: 消息分类标准 and the v3 request page, read 2026-05.
CATEGORIES: Final = frozenset(
    {
        "IM",
        "VOIP",
        "MISS_CALL",
        "SUBSCRIPTION",
        "TRAVEL",
        "HEALTH",
        "WORK",
        "ACCOUNT",
        "EXPRESS",
        "FINANCE",
        "DEVICE_REMINDER",
        "MAIL",
        "PLAY_VOICE",
    }
)
MARKETING: Final = "MARKETING"
NOTIFICATION, BACKGROUND, CALL = 0, 6, 10  # values of the header push-type that we send
#: What vendor_raw.harmony (or its `notification`) may set. Ids on the screen, words and class are ours.
RAW_NOTIFICATION: Final = frozenset({"badge", "clickAction", "foregroundShow", "image", "profileId", "sound", "soundDuration"})
NOISE: Final = frozenset({"sound", "soundDuration", "foregroundShow"})
RAW_WORDS: Final = frozenset({"inboxContent"})
RAW_OPTIONS: Final = frozenset({"backgroundMode", "collapseKey"})
INBOX_LINES_MAX: Final = 3
INBOX_LINE_MAX: Final = 1024
#: Only of the revoke call, where they speak of the tokens' app: one token may be foreign, several mean a wrong client id.
REVOKE_CODE: Final = "80300028"

_PATH_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


# ---------------------------------------------------------------- build


def build(batch: RequestBatch, credential: Credential, access: AccessToken | None) -> Request:
    note = batch.items[0].note
    tokens = [item.target.token for item in batch.items]
    if note.kind is Kind.RECALL and (client_id := credential.options.get("app_id")):
        revoke = encoded({"notifyId": number_id(note.collapse_id), "token": tokens})
        return Request("HARMONY", f"/v1/{client_id}/messages:revoke", _headers(access, NOTIFICATION), revoke)
    push_type = push_type_of(note, credential.rights)
    if push_type == NOTIFICATION:
        repeats = 2 if _inbox(note) else 1
        body = fitted(
            lambda title, text, keep: _alert(batch, credential, title, text, keep), title_of(note), body_of(note), repeats, note.prefix
        )
    else:
        body = _background(batch, credential, push_type)
    body["target"]["token"] = tokens
    return Request("HARMONY", f"/v3/{credential.options['project_id']}/messages:send", _headers(access, push_type), encoded(body))


def _headers(access: AccessToken | None, push_type: int) -> dict[str, str]:
    return {**bearer(access), "push-type": str(push_type)}


def push_type_of(note: Notification, rights: frozenset[str]) -> int:
    """0 notification; 6 for the app's process only; 10 in-app call, for calls where the app holds the right for it."""
    wanted = plain(note.vendor.get("push_type"))
    call = note.kind is Kind.CALL_INVITE and (note.push_type is PushType.VOIP or wanted == str(CALL))
    if call and note.bucket is Bucket.PRIVATE and "harmony.voip" in rights:
        return CALL
    silent = note.push_type is PushType.SILENT or wanted == str(BACKGROUND)
    return BACKGROUND if silent else NOTIFICATION


def _background(batch: RequestBatch, credential: Credential, push_type: int) -> dict[str, Any]:
    """Types 6 and 10: one text for the app's process. Never cut: half a data text is worse than a refusal."""
    note = batch.items[0].note
    call = note.voip or {} if push_type == CALL else {}
    data = {**call, **click_data(note), **call}  # the payload says nothing of the call
    return {
        "payload": {"extraData": json_text(data)},
        "target": {"token": []},
        "pushOptions": _options(batch, credential, note.vendor_raw if push_type == BACKGROUND else {}, frozenset({"backgroundMode"})),
    }


def _alert(batch: RequestBatch, credential: Credential, title: str, text: str, keep: Keep) -> dict[str, Any]:
    note = batch.items[0].note
    raw = note.vendor_raw if keep is Keep.ALL else {}
    fields = part(raw, "notification") or raw
    shown = _notification(batch, credential, title, text, keep)
    allowed = RAW_NOTIFICATION - NOISE if quiet(note) else RAW_NOTIFICATION
    shown = laid(shown, fields, raw_fields(batch, allowed, RAW_WORDS))
    if "inboxContent" in shown:
        shown["style"] = 3
    options = _options(batch, credential, raw, frozenset({"collapseKey"}))
    return {"payload": {"notification": shown}, "target": {"token": []}, "pushOptions": options}


def _options(batch: RequestBatch, credential: Credential, raw: Mapping[str, Any], allowed: frozenset[str]) -> dict[str, Any]:
    options: dict[str, Any] = {"ttl": ttl_of(batch), "biTag": receipt_tag(batch)}
    if receipt_id := text_option(credential.options, "receipt_id", 64):
        options["receiptId"] = receipt_id
    return laid(options, part(raw, "pushOptions"), RAW_OPTIONS & allowed)


def _notification(batch: RequestBatch, credential: Credential, title: str, text: str, keep: Keep) -> dict[str, Any]:
    note = batch.items[0].note
    shown: dict[str, Any] = {
        "category": category_of(note, credential.rights),
        "title": title,
        "body": text,
        "clickAction": _click(note, keep),
        "notifyId": number_id(note.collapse_id),
        "appMessageId": _shown_once(batch),
    }
    if (badge := _badge(batch)) is not None:
        shown["badge"] = {"setNum": badge}
    if note.sound_android not in (None, "", "default", "none") and not quiet(note):
        shown["sound"] = str(note.sound_android)[:128]
    if _inbox(note):
        shown |= {"style": 3, "inboxContent": _lines(text)}
    if (image := image_of(batch)) and keep is Keep.ALL:
        shown["image"] = image
    return shown


def _shown_once(batch: RequestBatch) -> str:
    """The phone shows an id once in 24 h, so a repeat is not seen. In a group the event's own: who was one of many in the
    first attempt may be alone in the next. In a chat of two the push id, or the event's for several phones."""
    note = batch.items[0].note
    return base62(receipt_tag(batch) if note.conversation_type == "c2c" else note_tag(note), 22)


def _click(note: Notification, keep: Keep) -> dict[str, Any]:
    """0 opens the app's first page, 1 the page of `vendor.harmony.uri`; the data goes to either."""
    uri = text_option(note.vendor, "uri", 512)
    page = uri if plain(note.vendor.get("click_type")) == "1" else None
    action: dict[str, Any] = {"actionType": 1, "uri": page} if page else {"actionType": 0}
    data = click_data(note, keep)
    return {**action, "data": data} if data else action


def _badge(batch: RequestBatch) -> int | None:
    """`vendor.harmony.badge`: a number shows that number, false or "none" leaves the icon alone; else the number taken for this push."""
    wanted = batch.items[0].note.vendor.get("badge")
    if wanted is False or wanted == "none":
        return None
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        return min(max(wanted, 0), 99)
    return badge_of(batch)


def _inbox(note: Notification) -> bool:
    return plain(note.vendor.get("style")) == "3"


def _lines(text: str) -> list[str]:
    """At most three lines; what is over stays in the last, as far as it fits: a longer line is refused with the whole push."""
    return [cut(line, INBOX_LINE_MAX) for line in text.split("\n", INBOX_LINES_MAX - 1)]


def category_of(note: Notification, rights: frozenset[str]) -> str:
    """The placed category, or an override that does not raise it: marketing stays marketing, and a category needs its right."""
    if note.bucket is Bucket.PUBLIC:
        return MARKETING
    raw = part(note.vendor_raw, "notification") or note.vendor_raw
    wanted = plain(raw.get("category", note.vendor.get("category"))).upper()
    granted = wanted in CATEGORIES and f"harmony.{wanted.lower()}" in rights
    return wanted if granted or wanted == MARKETING else note.placement.get("category", MARKETING)


def classify(batch: RequestBatch, answer: Answer | NoAnswer) -> Sequence[Outcome]:
    if batch.items[0].note.kind is not Kind.RECALL:
        return pushkit.classified(batch, answer)
    meaning = pushkit.NO_RIGHT_ALONE if len(batch.items) == 1 else pushkit.CREDENTIAL
    return pushkit.classified(batch, answer, {REVOKE_CODE: meaning})


# ---------------------------------------------------------------- images

IMAGE_CHECKED: Final = "83010000"
IMAGE_TOO_FAST: Final = "83010002"
#: An image that Huawei would not have (no picture behind the address, content) is shown to it again after so long.
IMAGE_REFUSED_MS: Final = 600_000
#: Huawei's key in the address that it gave: such a one needs no second look.
VERIFY_KEY: Final = re.compile(r"[?&]verifyKey=")


class ImageReply(msgspec.Struct):
    code: str = ""
    downloadUrl: str = ""  # noqa: N815 (Huawei's name)
    expireTime: str | int = 0  # noqa: N815 (s since the epoch)


def image_wanted(batch: RequestBatch, credential: Credential) -> str | None:
    """The image of a notification, unless it is an address that Huawei gave itself."""
    note = batch.items[0].note
    if note.kind is Kind.RECALL or push_type_of(note, credential.rights) != NOTIFICATION:
        return None
    image = image_of(batch)
    return None if image is None or VERIFY_KEY.search(image) else image


def ask_image(image: str, credential: Credential, access: AccessToken | None) -> Request:
    """Source: 图片风控, read 2026-11-23; push-type 0: the large icon of a notification."""
    path = f"/v2/{credential.options['project_id']}/images:verify"
    return Request("HARMONY", path, _headers(access, NOTIFICATION), encoded({"imageUrl": image}))


def read_image(answer: Answer, now_ms: int) -> tuple[str, int] | None:
    """The address that Huawei gave and when it ends; ("", …) for an image it refused; None for no word on the image."""
    reply = read(answer, ImageReply)
    if reply is None or not reply.code.startswith("8301") or reply.code == IMAGE_TOO_FAST:
        return None
    if reply.code != IMAGE_CHECKED:
        return "", now_ms + IMAGE_REFUSED_MS
    ends = str(reply.expireTime)
    good = reply.downloadUrl.startswith("https://") and ends.isascii() and ends.isdigit() and len(ends) <= 11
    return (reply.downloadUrl, int(ends) * 1000) if good and int(ends) * 1000 > now_ms else None


# ---------------------------------------------------------------- credential


def read_credential(options: Mapping[str, str], files: Mapping[str, bytes], now_ms: int) -> tuple[dict[str, str], dict[str, str]]:
    """--service-account: the key file's ids become options, its private key the secret. --app-id (client id), optional, lets us revoke."""
    del now_ms
    if "service_account" not in files:
        raise CredentialError("--service-account is missing")
    try:
        account = msgspec.json.decode(secret_file_text(files["service_account"], "--service-account"))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise CredentialError("the file of --service-account is not JSON: take it from the console unchanged") from None
    fields = {}
    for name in ("project_id", "key_id", "sub_account", "private_key"):
        value = account.get(name) if isinstance(account, dict) else None
        if not isinstance(value, str) or not value.strip():
            raise CredentialError(f"the service account has no {name}: take the file from the console unchanged")
        fields[name] = value.strip()
    if not _PATH_ID.fullmatch(fields["project_id"]):
        raise CredentialError("project_id of the service account is not an id")
    if options.get("app_id") and not _PATH_ID.fullmatch(options["app_id"]):
        raise CredentialError("--app-id is not a client id")
    private_key = fields.pop("private_key")
    _rsa_key(private_key)
    return {**options, **fields}, {"private_key": private_key}


def _rsa_key(pem: str) -> rsa.RSAPrivateKey:
    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CredentialError("private_key of the service account does not parse as an unencrypted PEM key") from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < KEY_BITS_MIN:
        raise CredentialError(f"private_key of the service account is not an RSA key of at least {KEY_BITS_MIN} bits")
    return key


def signing_input(key_id: str, sub_account: str, iat_s: int) -> str:
    """Header and claims of the JWT as it is signed: base64url without padding, joined by a dot."""
    header = {"kid": key_id, "typ": "JWT", "alg": "PS256"}
    claims = {"aud": AUDIENCE, "iss": sub_account, "exp": iat_s + JWT_LIFE_S, "iat": iat_s}
    return f"{_base64url(encoded(header))}.{_base64url(encoded(claims))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign_access(credential: Credential, now_ms: int) -> AccessToken:
    """The JWT is the access token itself; no call is made."""
    return _signed(credential, now_ms // 1000 // JWT_STEP_S * JWT_STEP_S)


def sign_again(credential: Credential, now_ms: int) -> AccessToken:
    """One of this very moment, a minute back for clocks that differ."""
    return _signed(credential, now_ms // 1000 - CLOCK_SPARE_S)


def _signed(credential: Credential, iat_s: int) -> AccessToken:
    text = signing_input(credential.options["key_id"], credential.options["sub_account"], iat_s)
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
    signature = _rsa_key(credential.secrets["private_key"]).sign(text.encode(), pss, hashes.SHA256())
    return AccessToken(f"{text}.{_base64url(signature)}", (iat_s + JWT_STEP_S) * 1000, (iat_s + JWT_LIFE_S) * 1000)


def read_token(answer: Answer, now_ms: int) -> AccessRefused:
    """Nobody answers: nothing was asked."""
    del now_ms
    return AccessRefused(Verdict.UNAVAILABLE, str(answer.status), "HarmonyOS tokens are signed here")


def check(credential: Credential, access: AccessToken | None) -> Request:
    """v3 has no dry run, so a push to no token: Huawei looks at the JWT and the project before it counts them (80300010)."""
    shown = {"category": MARKETING, "title": "check", "body": "check", "clickAction": {"actionType": 0}}
    body = encoded({"payload": {"notification": shown}, "target": {"token": []}})
    return Request("HARMONY", f"/v3/{credential.options['project_id']}/messages:send", _headers(access, NOTIFICATION), body)


HARMONY: Final = VendorSpec(
    vendor=Vendor.HARMONY,
    endpoints=ENDPOINTS,
    http2=False,  # unconfirmed, so HTTP/1.1
    request_tokens_max=1000,
    build=build,
    classify=classify,
    read_credential=read_credential,
    #: 6000 devices a second is the floor of the published formula; no number of all messages a device, 2 of marketing.
    #: Sources: docs/vendors/harmony.md, 2026-05.
    limits=Limits(rate_per_s=6000, burst=6000, rate_unit="token", device_cap_public=2),
    badge_in_body=True,
    badge_alone=True,
    access=AccessSpec(sign_access, read_token, sign_again),
    token_valid=token_valid,
    check=check,
    checked=pushkit.checked,
    too_long=pushkit.TOO_LONG_CODES,
    rights=frozenset(f"harmony.{category.lower()}" for category in CATEGORIES),
    images=ImageSpec(image_wanted, ask_image, read_image, per_minute=60),
)
