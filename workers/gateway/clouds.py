"""Callbacks of the three clouds: their tenant, their authenticity, and their JSON. Pure.

Signatures: workers/intake/dialects/signatures.py. Their coverage differs: NIM's covers the body,
ZEGO's a nonce, Tencent's a minute.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, unquote_plus, unquote_to_bytes

from workers.intake.dialects import DialectError, tenant_named
from workers.intake.dialects.signatures import nim_signed, tencent_signed, zego_signed
from workers.vendors.json_text import scalar_text

ACKS: Final[Mapping[str, bytes]] = {
    "tencent": b'{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}',
    "zego": b'{"code":0,"message":"success"}',
    "nim": b'{"errCode":0}',
}


class CloudRefusal(Exception):  # noqa: N818 - it is an answer, not a fault of ours
    """status, and a message that repeats nothing of the request."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


@dataclass(frozen=True, slots=True)
class CloudCallback:
    """cloud: tencent, zego or nim. query: as it came, without `?`. headers: names in lower case."""

    cloud: str
    query: str
    headers: Mapping[str, str]
    raw: bytes


@dataclass(frozen=True, slots=True)
class Genuine:
    """app: whose it is. body: JSON. once: what a genuine callback brings only once, "" where the
    cloud has no such thing.
    """

    app: str
    body: bytes
    once: str


def genuine(given: CloudCallback, secrets: Mapping[str, Sequence[str]], now_s: float) -> Genuine:
    """secrets: by tenant, of those that have any. CloudRefusal: 400 unreadable, 401 not signed by
    its tenant, 403 another's.
    """
    body = _decoded(given)
    value = _object(body)
    named = _named(given, value)
    if len(named) > 1:
        raise CloudRefusal(403, "address and body name different tenants")
    tenants = named or sorted(secrets)
    fits = [
        app
        for app in tenants
        if any(_signed(given, value, secret, now_s) for secret in secrets.get(app, ()))
    ]
    if not fits:
        raise CloudRefusal(
            401,
            "the signature does not fit, or the tenant has no callback secret (pushfleet app "
            "callback)",
        )
    if len(fits) > 1:
        raise CloudRefusal(
            403, "several tenants have this secret: name one by ?app= in the address"
        )
    return Genuine(fits[0], body, _once(given, value))


def _decoded(given: CloudCallback) -> bytes:
    """The intended JSON: plain, percent-encoded, in a form's only field, or a form's fields."""
    raw = given.raw.strip().removeprefix(codecs.BOM_UTF8).lstrip()
    if raw.startswith(b"{"):
        return raw
    if raw[:3].lower() == b"%7b":
        text = unquote_to_bytes(raw)
        return text if _is_object(text) else unquote_plus(raw.decode("utf-8", "replace")).encode()
    if b"=" in raw and "json" not in given.headers.get("content-type", ""):
        return _form(raw)
    return given.raw


def _form(raw: bytes) -> bytes:
    try:
        pairs = parse_qsl(
            raw.decode("utf-8"), keep_blank_values=True, strict_parsing=True, max_num_fields=200
        )
    except (ValueError, UnicodeDecodeError):
        raise CloudRefusal(400, "neither JSON nor a form") from None
    if len(pairs) == 1 and pairs[0][1].lstrip().startswith("{"):
        return pairs[0][1].encode()
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise CloudRefusal(400, "a form names a field twice")
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise CloudRefusal(400, "the body is no JSON") from None
    if not isinstance(value, dict):
        raise CloudRefusal(400, "the body is no JSON object")
    return value


def _named(given: CloudCallback, value: dict[str, Any]) -> list[str]:
    """Every tenant that the address and the body name."""
    try:
        tenants = tenant_named(given.cloud, value, given.query)
    except DialectError:
        raise CloudRefusal(400, "the tenant's name is no text") from None
    return list(dict.fromkeys([*_query(given.query).get("app", ()), *tenants]))


def _query(query: str) -> dict[str, list[str]]:
    try:
        return parse_qs(query, max_num_fields=100)
    except ValueError:
        return {}


def _signed(given: CloudCallback, value: Mapping[str, Any], secret: str, now_s: float) -> bool:
    return _CHECKS[given.cloud](given, value, secret, now_s)


def _tencent(given: CloudCallback, _value: Mapping[str, Any], secret: str, now_s: float) -> bool:
    query = _query(given.query)
    times, signs = query.get("RequestTime", ()), query.get("Sign", ())
    return (
        len(times) == 1
        and len(signs) == 1
        and tencent_signed(secret, times[0], signs[0].lower(), now_s)
    )


def _zego(_given: CloudCallback, value: Mapping[str, Any], secret: str, _now_s: float) -> bool:
    parts = [scalar_text(value.get(name)) for name in ("timestamp", "nonce", "signature")]
    return all(parts) and zego_signed(secret, parts[0], parts[1], parts[2].lower())


def _nim(given: CloudCallback, _value: Mapping[str, Any], secret: str, _now_s: float) -> bool:
    md5, cur_time, checksum = (
        given.headers.get(name, "") for name in ("md5", "curtime", "checksum")
    )
    return bool(checksum) and nim_signed(secret, given.raw, md5.lower(), cur_time, checksum.lower())


_CHECKS: Final[Mapping[str, Callable[[CloudCallback, Mapping[str, Any], str, float], bool]]] = {
    "tencent": _tencent,
    "zego": _zego,
    "nim": _nim,
}


def _once(given: CloudCallback, value: Mapping[str, Any]) -> str:
    """The part that makes a callback unique. Tencent signs a second, not a callback.

    Its repeats are recognised by the event's id alone.
    """
    if given.cloud == "zego":
        return f"{scalar_text(value.get('timestamp'))}/{scalar_text(value.get('nonce'))}"
    return given.headers.get("checksum", "").lower() if given.cloud == "nim" else ""
