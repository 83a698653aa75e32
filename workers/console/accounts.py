"""The forms of vendor accounts: which fields a vendor needs, and what a form gives as the command line's options. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from common.model import Vendor

#: Of one uploaded file.
FILE_BYTES_MAX: Final = 64 * 1024
#: option of `pushfleet credential add` -> kind: file, secret (never shown again), text, env.
_SECRET: Final = {"app_secret_file": "secret"}
FIELDS: Final[Mapping[Vendor, Mapping[str, str]]] = {
    Vendor.APNS: {
        "p8": "file",
        "key_id": "text",
        "team_id": "text",
        "p12": "file",
        "password_file": "secret",
        "topic": "text",
        "env": "env",
    },
    Vendor.FCM: {"service_account": "file"},
    Vendor.HUAWEI: {"vendor_app_id": "text", **_SECRET},
    Vendor.HARMONY: {"service_account": "file", "vendor_app_id": "text"},
    Vendor.HONOR: {"vendor_app_id": "text", "app_key": "text", **_SECRET},
    Vendor.XIAOMI: {"package": "text", **_SECRET},
    Vendor.OPPO: {"app_key": "text", **_SECRET},
    Vendor.VIVO: {"vendor_app_id": "text", "app_key": "text", **_SECRET},
    Vendor.MEIZU: {"vendor_app_id": "text", **_SECRET},
}
#: Lists, their values apart by white space.
LISTS: Final = ("rights", "channels", "templates", "quotas")
TEXTS: Final = ("rate",)
#: Every option that the form does not name.
_REST: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("p12", "password_file", "p8", "key_id", "team_id", "topic", "env", "service_account", "vendor_app_id")),
    **dict.fromkeys(("app_key", "app_secret_file", "package", "quota_tz", "rate", "callback_user", "callback_key_file")),
    **dict.fromkeys(("rights", "channels", "templates", "quotas", "device_caps", "reserves", "aliases", "voip_aliases", "extra"), ()),
}


def given(vendor: Vendor, fields: Mapping[str, str], files: Mapping[str, bytes]) -> dict[str, Any]:
    """As the options of `pushfleet credential add`; secrets and files as bytes. What is empty is not given."""
    found = dict(_REST)
    for name, kind in FIELDS[vendor].items():
        if kind == "file":
            found[name] = files.get(name) or None
        elif kind == "secret":
            found[name] = fields[name].encode() if fields.get(name) else None
        else:
            found[name] = fields.get(name, "").strip() or None
    found |= {name: tuple(re.split(r"\s+", fields[name].strip())) for name in LISTS if fields.get(name, "").strip()}
    return found | {name: fields[name].strip() for name in TEXTS if fields.get(name, "").strip()}
