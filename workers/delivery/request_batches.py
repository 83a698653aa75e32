"""Which pushes share a request. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from common.model import Again
from workers.vendors.types import Credential, PushItem, RequestBatch, VendorSpec


def pack(
    items: Sequence[PushItem],
    spec: VendorSpec,
    credential: Credential,
    now_ms: int,
    callback_url: str | None,
    *,
    singly: bool = False,
    tokens_max: int | None = None,
) -> list[RequestBatch]:
    """Groups items into as few requests as the vendor allows; no token appears twice in a request.

    Items of a request share their notification and stay within the vendor's bound. Different badges
    go apart where the body carries the badge; an item with Again.SINGLY goes alone.
    singly: every item goes alone. tokens_max: the burst of the lane's rate, where it counts tokens.
    """
    prepared: dict[int, object] = {}
    batches = []
    badges = spec.badge_in_body and (
        spec.badge_option is None or bool(credential.options.get(spec.badge_option))
    )
    most = min(spec.request_tokens_max, tokens_max or spec.request_tokens_max)
    prepare = spec.prepare if not spec.mixed else None
    if most == 1:
        singly = True
    for group in zip(items) if singly else _groups(items, spec, badges, most):
        note = group[0].note
        ready = prepared.get(id(note))
        if ready is None and prepare is not None:
            ready = prepared[id(note)] = prepare(note, credential)
        batches.append(RequestBatch(tuple(group), now_ms, callback_url, ready))
    return batches


def _groups(
    items: Sequence[PushItem], spec: VendorSpec, badges: bool, most: int
) -> Iterator[list[PushItem]]:
    together: dict[object, list[PushItem]] = {}
    for item in items:
        if item.target.again == Again.SINGLY:
            yield [item]
        else:
            together.setdefault(_key(item, spec, badges), []).append(item)
    for same in together.values():
        yield from _bounded(same, spec, most)


def _key(item: PushItem, spec: VendorSpec, badges: bool) -> object:
    group = spec.group(item)
    if spec.mixed:
        return group
    return (id(item.note), item.badge if badges else None, item.target.again, group)


def _bounded(items: Sequence[PushItem], spec: VendorSpec, most: int) -> Iterator[list[PushItem]]:
    """Groups within the vendor's bound, no token repeated; too small groups go singly."""
    for part in _without_repeats(items, most):
        if 1 < len(part) < spec.request_tokens_min_list:
            yield from ([item] for item in part)
        else:
            yield part


def _without_repeats(items: Iterable[PushItem], most: int) -> Iterator[list[PushItem]]:
    waiting = list(items)
    while waiting:
        part: list[PushItem] = []
        tokens: set[str] = set()
        rest: list[PushItem] = []
        for item in waiting:
            if len(part) < most and item.target.token not in tokens:
                part.append(item)
                tokens.add(item.target.token)
            else:
                rest.append(item)
        yield part
        waiting = rest
