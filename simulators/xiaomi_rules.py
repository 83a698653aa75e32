"""What Xiaomi asks of a message's fields. Source: Xiaomi's page, sections 3 to 7."""

from __future__ import annotations

import json
import re
import time
import unicodedata
from collections.abc import Mapping
from typing import Any

from simulators.rules import INT32_MAX, parsed, url
from simulators.state import VendorAccount, VendorError

TARGETS_MAX = 1000
TITLE_CHARS_MAX = 49
DESCRIPTION_CHARS_MAX = 127
PAYLOAD_BYTES_MAX = 4095
DAY_MS = 86_400_000
EXTRAS_MAX = 10
EXTRAS_CHARS_MAX = 1024
VARIABLES_MAX = 9
RECEIPT_BITS = 1 | 2 | 16 | 32 | 64 | 128 | 1024

#: Extras with a meaning; all others are the app's own and are counted.
KNOWN_EXTRAS = frozenset(
    "extra." + name
    for name in (
        *(
            "channel_id",
            "template_id",
            "template_param",
            "notify_effect",
            "intent_uri",
            "web_uri",
            "notify_foreground",
            "sound_uri",
        ),
        *(
            "callback",
            "callback.param",
            "callback.type",
            "jobkey",
            "only_send_once",
            "flow_control",
            "notification_style_type",
        ),
        *(
            "notification_bigPic_uri",
            "notification_large_icon_uri",
            "ticker",
            "channel_name",
            "channel_description",
        ),
        *(
            "locale",
            "locale_not_in",
            "model",
            "model_not_in",
            "app_version",
            "app_version_not_in",
            "connpt",
        ),
    )
)
KNOWN_EXTRA_STARTS = (
    "extra.small_icon",
    "extra.notification_small_icon",
    "extra.notification_style_button_",
)
PACKAGE_NAME = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+", re.ASCII)

PACKAGE_FIELD = "restricted_package_name"

Form = dict[str, str]


def _check_number(form: Mapping[str, str], name: str, low: int, high: int, code: int) -> None:
    """Refuses with the code what is no whole number from low to high; with 10008 what is no number
    at all.
    """
    value = form.get(name)
    if value is None:
        return
    if not re.fullmatch(r"-?\d{1,18}", value):
        raise VendorError(10008, f"parameter error: {name}")
    if not low <= int(value) <= high:
        raise VendorError(code, f"illegal value: {name}")


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def template_value_ok(value: Any) -> bool:
    """1 to 128 characters, not blank, none of category So (emoji, ℃, №) and none unassigned.
    Source: page, section 3.
    """
    if not isinstance(value, str) or not 1 <= len(value) <= 128 or not value.strip():
        return False
    return not any(unicodedata.category(char) in ("So", "Cn") for char in value)


def check_texts(form: Form) -> None:
    bounds = (("title", TITLE_CHARS_MAX, 22100), ("description", DESCRIPTION_CHARS_MAX, 65009))
    for name, most, code in bounds:
        if not form.get(name, "").strip():
            raise VendorError(10016, f"required parameter is missing: {name}")
        if len(form[name]) > most:
            raise VendorError(code, f"too long: {name}")
    if _bytes(form.get("payload", "")) > PAYLOAD_BYTES_MAX:
        raise VendorError(65009, "too long: payload")


def check_numbers(form: Form, private: bool) -> None:
    if form.get("pass_through", "0") == "1":
        raise VendorError(10036, "transparent messages are out of service")
    _check_number(form, "pass_through", 0, 0, 10017)
    _check_number(form, "notify_type", -1, 7, 10017)
    _check_number(form, "notify_id", 0, INT32_MAX, 22103)
    _check_number(form, "time_to_live", 1, (10 if private else 1) * DAY_MS, 10017)
    _check_number(form, "time_to_send", 0, int(time.time() * 1000) + 7 * DAY_MS, 10017)


def check_effect(form: Form) -> None:
    """Without notify_effect a notification is a custom one, and those are withdrawn."""
    effect = form.get("extra.notify_effect")
    needs = {"1": True, "2": form.get("extra.intent_uri"), "3": url(form.get("extra.web_uri"))}
    if not needs.get(effect or ""):
        raise VendorError(22100, "illegal notification: extra.notify_effect")
    if form.get("extra.notify_foreground", "1") not in ("0", "1"):
        raise VendorError(10017, "illegal value: extra.notify_foreground")


def check_receipt_wish(form: Form) -> None:
    callback = form.get("extra.callback")
    if callback is not None and _bytes(callback) > 128:
        raise VendorError(65037, "callback url too long")
    if callback is not None and not url(callback):
        raise VendorError(65038, "callback url illegal")
    if _bytes(form.get("extra.callback.param", "")) > 64:
        raise VendorError(65036, "callback param too long")
    _check_number(form, "extra.callback.type", 1, 4095, 10017)


def _is_own(name: str) -> bool:
    """True for an extra of the app's own, whose number is limited.

    The vendor's own names are not counted (section 3).
    """
    extra = name.startswith("extra.")
    return extra and name not in KNOWN_EXTRAS and not name.startswith(KNOWN_EXTRA_STARTS)


def check_extras(form: Form) -> None:
    jobkey = form.get("extra.jobkey")
    if jobkey is not None and not re.fullmatch(r"[0-9A-Za-z-][0-9A-Za-z_-]{0,19}", jobkey):
        raise VendorError(10017, "illegal value: extra.jobkey")
    own = {name: value for name, value in form.items() if _is_own(name)}
    if len(own) > EXTRAS_MAX:
        raise VendorError(65014, "too many extras")
    size = sum(len(name) - len("extra.") + len(value) for name, value in own.items())
    if size > EXTRAS_CHARS_MAX:
        raise VendorError(65015, "extras too long")


def check_template(form: Form, account: VendorAccount, private: bool) -> None:
    """A private message carries a template and its variables; the template of an account that
    registered its own is known.
    """
    template = form.get("extra.template_id")
    if template is None:
        if private:
            raise VendorError(10016, "required parameter is missing: extra.template_id")
        return
    values = parsed(form.get("extra.template_param", ""))
    if not isinstance(values, dict):
        raise VendorError(10016, "required parameter is missing: extra.template_param")
    known = account.details.get("templates")
    if known is not None and (template not in known or set(known[template]) != set(values)):
        raise VendorError(10017, "illegal value: extra.template_id, extra.template_param")
    if len(values) > VARIABLES_MAX or not all(
        template_value_ok(value) for value in values.values()
    ):
        raise VendorError(10017, "illegal value: extra.template_param")


def item_form(item: Any) -> tuple[str, Form]:
    """(target, the message as the form of a single one would have it)."""
    if not isinstance(item, dict) or not isinstance(item.get("target"), str) or not item["target"]:
        raise VendorError(21305, "required parameter is missing: target")
    message = item.get("message")
    if not isinstance(message, dict):
        raise VendorError(21305, "required parameter is missing: message")
    extra = message.get("extra", {})
    if not isinstance(extra, dict):
        raise VendorError(10017, "illegal value: extra")
    form = {str(name): _field_text(value) for name, value in message.items() if name != "extra"}
    return item["target"], form | {
        f"extra.{name}": _field_text(value) for name, value in extra.items()
    }


def _field_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
