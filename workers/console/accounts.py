"""The forms of vendor accounts: a vendor's fields, and a form's command-line options. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from common.model import Vendor
from workers.vendors import VENDORS

#: Bytes of one uploaded file.
FILE_BYTES_MAX: Final = 64 * 1024
#: vendor -> option of `pushfleet credential add` -> kind: file, secret (never shown again), text,
#: env.
FIELDS: Final[Mapping[Vendor, Mapping[str, str]]] = {
    vendor: {name: field.kind for name, field in spec.account.items()}
    for vendor, spec in VENDORS.items()
}
#: Lists, their values apart by white space.
LISTS: Final = ("rights", "channels", "templates", "quotas")
TEXTS: Final = ("rate",)
#: Every option that the form does not name.
_REST: Final[Mapping[str, Any]] = {
    **dict.fromkeys(name for fields in FIELDS.values() for name in fields),
    **dict.fromkeys(("quota_tz", "rate", "callback_user", "callback_key_file")),
    **dict.fromkeys(
        (
            "rights",
            "channels",
            "templates",
            "quotas",
            "device_caps",
            "reserves",
            "aliases",
            "voip_aliases",
            "extra",
        ),
        (),
    ),
}


def given(vendor: Vendor, fields: Mapping[str, str], files: Mapping[str, bytes]) -> dict[str, Any]:
    """As the options of `pushfleet credential add`; secrets and files as bytes. What is empty is
    not given.
    """
    found = dict(_REST)
    for name, kind in FIELDS[vendor].items():
        if kind == "file":
            found[name] = files.get(name) or None
        elif kind == "secret":
            found[name] = fields[name].encode() if fields.get(name) else None
        else:
            found[name] = fields.get(name, "").strip() or None
    found |= {
        name: tuple(re.split(r"\s+", fields[name].strip()))
        for name in LISTS
        if fields.get(name, "").strip()
    }
    return found | {name: fields[name].strip() for name in TEXTS if fields.get(name, "").strip()}
