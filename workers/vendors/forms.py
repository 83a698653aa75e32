"""Usual pushes of one lane -> the requests of the vendor's `build`, made from one form. Pure.

Two samples that differ in all of a push's own values are built in the general way. The first one's
request, with its values cut out, is the form; it is valid when the second one's values give the
second one's request. A batch of one notification has a form of its own: what the notification says
stands in it, and only what is a device's own is cut out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from common.columns import ColumnBatch, SharedBatch
from common.contracts import LikeRow, Notification, encode, push_like
from common.values import Value
from workers.vendors.ids import uuid_text
from workers.vendors.json_text import compact
from workers.vendors.types import AccessToken, Credential, PushItem, RequestBatch, VendorSpec
from workers.wire import Form, Request, RequestColumns, RequestForm, is_visible

#: Values with any content; they occur in bodies only, JSON-encoded.
WORDS: Final = frozenset({"title", "body", "thread"})
#: Forms that are kept, some KiB each: of lanes and kinds of notifications, and of single
#: notifications, which are needed while their group's pages are sent.
FORMS_MAX, SHARED_FORMS_MAX = 5_000, 256
#: Longest id on the screen that a vendor takes unchanged.
COLLAPSE_CHARACTERS_MAX: Final = 64

#: Values that differ among the devices of one notification.
DEVICE_VALUES: Final = frozenset({"token", "push_id", "uuid", "badge", "ttl_s"})

#: Fields of a notification that are a push's own (common/contracts.py: push_like), and those that
#: no request depends on.
_NEUTRAL: Final[Mapping[str, object]] = {
    **dict.fromkeys(
        ("event_id", "message_id", "conversation_id", "body", "prefix", "sender_name", "text"), ""
    ),
    **dict.fromkeys(("collapse_id", "sender_id"), ""),
    **dict.fromkeys(("ts_ms", "received_ms", "expires_at_ms", "presence_ms", "routed_ms"), 0),
}


class PushValues(Value, frozen=True):
    """The values of a batch's requests beside its rows, one per push.

    ttls_s: seconds that each push still lives.
    """

    push_ids: Sequence[str]
    badges: Sequence[int]
    ttls_s: Sequence[int]


class _Sample(Value, frozen=True):
    """A push whose values occur in its request where they belong, and nowhere else. Its push id is
    no tenant's own: all lanes' requests are cut in the same places.
    """

    row: LikeRow
    push_id: str
    badge: int
    ttl_s: int
    now_ms: int


_SAMPLES: Final = (
    _Sample(
        LikeRow(
            "Event7",
            "Screen7",
            "Thread7",
            1_000,
            2_000,
            4_102_444_801_000,
            "Nick7",
            "Text7",
            "s",
            "u",
            "d",
            "7e57" * 16,
            3_000,
            None,
        ),
        "0c5f6b7a91de4e3884a2d71b3f6c9e05",
        badge=1_912_345_601,
        ttl_s=1_234_567,
        now_ms=5_000,
    ),
    _Sample(
        LikeRow(
            "E-8",
            "Place-8",
            "Room-8",
            11,
            12,
            4_102_444_912_345,
            "Nora.8",
            "Words-8",
            "t",
            "v",
            "e",
            "ab98" * 17,
            13,
            None,
        ),
        "f39a1d2e7b604c5d95b8e6087a4d3c1f",
        badge=12_345_602,
        ttl_s=2_234_561,
        now_ms=15,
    ),
)

#: Numbers beyond the samples' may be cut or left out: their requests do not follow the form.
BADGE_MAX: Final = max(one.badge for one in _SAMPLES)
TTL_S_MAX: Final = max(one.ttl_s for one in _SAMPLES)

_forms: dict[tuple[object, ...], RequestForm | None] = {}
_shared_forms: dict[tuple[object, ...], RequestForm | None] = {}


def form_of(
    spec: VendorSpec,
    batch: ColumnBatch,
    credential: Credential,
    access: AccessToken | None,
    callback_url: str | None,
) -> RequestForm | None:
    """The form of `spec.build`'s requests for this batch's pushes; None without one."""
    if spec.alike is None or spec.request_tokens_max != 1:
        return None
    is_shared = isinstance(batch, SharedBatch)
    like = _timeless(batch.like) if is_shared else _neutral(batch.like)
    token = access.value if access is not None else None
    account = (credential.lane, credential.version, token, callback_url)
    key = (*account, batch.platform, encode(like))
    kept, most = (_shared_forms, SHARED_FORMS_MAX) if is_shared else (_forms, FORMS_MAX)
    try:
        return kept[key]
    except KeyError:
        if len(kept) >= most:
            kept.clear()
        form = kept[key] = _found(
            spec, like, batch.platform, credential, access, callback_url, is_shared=is_shared
        )
        return form


def _neutral(like: Notification) -> Notification:
    """Without what is a push's own: the same for all batches of one kind. Of the title it counts
    whether there is one.
    """
    return msgspec.structs.replace(like, title="t" if like.title else "", **_NEUTRAL)


def _timeless(note: Notification) -> Notification:
    """Without the times of its stages: the same for all pages of a group."""
    return msgspec.structs.replace(note, presence_ms=0, routed_ms=0)


def _found(
    spec: VendorSpec,
    like: Notification,
    platform: str,
    credential: Credential,
    access: AccessToken | None,
    callback_url: str | None,
    *,
    is_shared: bool = False,
) -> RequestForm | None:
    """is_shared: the notification is every push's, as it is."""
    names = DEVICE_VALUES if is_shared else VALUES.keys()

    def built(sample: _Sample) -> tuple[Request, dict[str, str]] | None:
        push = push_like(like, sample.row, platform)
        target = msgspec.structs.replace(push.targets[0], push_id=sample.push_id)
        note = like if is_shared else push.note
        item = PushItem(note, target, sample.badge, sample.ttl_s)
        if spec.refuse is not None and spec.refuse(item, credential) is not None:
            return None
        request = spec.build(RequestBatch((item,), sample.now_ms, callback_url), credential, access)
        about = PushValues([sample.push_id], [sample.badge], [sample.ttl_s])
        return request, {name: VALUES[name](like, [sample.row], about)[0] for name in names}

    first, second = map(built, _SAMPLES)
    if first is None or second is None:
        return None
    form = _cut(*first)
    if form is None or form.own_headers.keys() & form.headers.keys():
        return None
    request, values = second
    if RequestColumns(form, {name: [value] for name, value in values.items()}, 1, {})[0] != request:
        return None
    return form


def _cut(request: Request, values: Mapping[str, str]) -> RequestForm | None:
    """The form of a request that contains these values."""
    try:
        path, body = _form(request.path, values), _form(request.body.decode(), values)
    except UnicodeDecodeError:
        return None
    headers, own = dict[str, str](), dict[str, str]()
    for name, value in request.headers.items():
        text, names = _form(value, values)
        if not names:
            headers[name] = value
        elif text == "%s":
            own[name] = names[0]
        else:
            return None
    outside = {*path[1], *own.values()}
    if request.method != "POST" or outside & WORDS:
        return None
    return RequestForm(request.endpoint, path, headers, own, body)


def _form(text: str, values: Mapping[str, str]) -> Form:
    by_value = {value: name for name, value in values.items()}
    found = _any_of(tuple(by_value))
    names = tuple(by_value[one] for one in found.findall(text))
    return "%s".join(part.replace("%", "%%") for part in found.split(text)), names


@lru_cache(2 * len(_SAMPLES))
def _any_of(values: tuple[str, ...]) -> re.Pattern[str]:
    """The longest value first: the body's text begins with the name that may be the title."""
    return re.compile("|".join(map(re.escape, sorted(values, key=len, reverse=True))))


#: The values that requests are made of, as text, for each row of a batch: the one table that forms
#: are cut by and filled from.
VALUES: Final[Mapping[str, Callable[[Notification, Sequence[LikeRow], PushValues], list[str]]]] = {
    "title": lambda like, rows, _: [row.nick or like.app_name or row.text for row in rows],
    "body": lambda _like, rows, _: [
        f"{nick}:{row.text}" if (nick := row.nick) else row.text for row in rows
    ],
    "thread": lambda _like, rows, _: [row.conversation_id for row in rows],
    "collapse": lambda _like, rows, _: [row.message_id for row in rows],
    "token": lambda _like, rows, _: [row.token for row in rows],
    "push_id": lambda _like, _rows, about: list(about.push_ids),
    "uuid": lambda _like, _rows, about: list(map(uuid_text, about.push_ids)),
    "badge": lambda _like, _rows, about: list(map(str, about.badges)),
    "expires_s": lambda _like, rows, _: [str(row.expires_at_ms // 1000) for row in rows],
    "ttl_s": lambda _like, _rows, about: list(map(str, about.ttls_s)),
}


def filled(
    form: RequestForm, spec: VendorSpec, batch: ColumnBatch, about: PushValues
) -> tuple[dict[str, list[str]], list[int]]:
    """The columns that the form asks for, and the places of those that do not follow it."""
    like, rows = batch.like, batch.rows
    names = dict.fromkeys((*form.path[1], *form.own_headers.values(), *form.body[1]))
    columns = {name: VALUES[name](like, rows, about) for name in names}
    odd = set[int]()
    for name in names:
        if name in WORDS:
            columns[name] = _as_json(columns[name])
        elif name in ("collapse", "token"):
            odd.update(
                _changed(columns[name], COLLAPSE_CHARACTERS_MAX if name == "collapse" else None)
            )
    odd.update(_beyond(about.badges, 1, BADGE_MAX))
    odd.update(_beyond(about.ttls_s, 0, TTL_S_MAX))
    if not isinstance(batch, SharedBatch):
        odd.update(_with_odd_words(spec, like, rows))
    return columns, sorted(odd)


def _with_odd_words(spec: VendorSpec, like: Notification, rows: Sequence[LikeRow]) -> set[int]:
    """Places of those whose own words do not fit the form."""
    most = (
        spec.alike.chars_max - len(like.ext or "") - len(like.app_name) - 1
        if spec.alike is not None
        else 0
    )
    lengths = [len(row.text) + 2 * len(row.nick) + len(row.conversation_id) for row in rows]
    odd = set(_beyond(lengths, 0, most))
    if not like.app_name:  # the vendor's own name for who sends would differ from the title
        odd.update([place for place, row in enumerate(rows) if not row.nick])
    return odd


def _beyond(numbers: Sequence[int], least: int, most: int) -> list[int]:
    """Places of those that are out of bounds."""
    if least <= min(numbers) and max(numbers) <= most:
        return []
    return [place for place, number in enumerate(numbers) if not least <= number <= most]


def _plain(text: str) -> bool:
    """True when JSON encodes the text unchanged."""
    unescaped = is_visible(text.replace(" ", "")) if text.isascii() else text.isprintable()
    return unescaped and '"' not in text and "\\" not in text


def _as_json(texts: Sequence[str]) -> list[str]:
    if _plain("".join(texts)):
        return list(texts)
    return [text if _plain(text) else compact(text)[1:-1].decode() for text in texts]


def _changed(texts: Sequence[str], most: int | None) -> list[int]:
    """Places of those that a vendor may not take, or write, as they are."""
    if _unchanged("".join(texts)) and (most is None or max(map(len, texts)) <= most):
        return []
    fit = [_unchanged(text) and (most is None or len(text) <= most) for text in texts]
    return [place for place, good in enumerate(fit) if not good]


def _unchanged(text: str) -> bool:
    """True when a header, a path and JSON take the text as it is."""
    return is_visible(text) and '"' not in text and "\\" not in text
