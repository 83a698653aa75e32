"""An image that the vendor wants to see: shown to it once for all, no more than the round and the
minute allow, never in the push's way.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from common.model import Vendor
from tests.unit.delivery.builders import NOW_MS, lane, work
from workers.delivery.images import AT_ONCE_MAX, WAIT_S, shown
from workers.delivery.lane import Lane
from workers.delivery.request_batches import pack
from workers.vendors.types import PushItem
from workers.wire import HttpResponse, NoAnswer, Request


class Gallery:
    """The vendor's side and the fleet's memory, both in this process. answer: what the vendor says
    to every image.
    """

    def __init__(self, answer: Any = None, room: int = 1_000) -> None:
        self.answer, self.left = answer, room
        self.kept: dict[str, tuple[str, int]] = {}
        self.asked: list[str] = []
        self.waits: list[float] = []
        self.observed = 0
        self.images = self.transport = self

    def now_ms(self) -> int:
        return NOW_MS

    def observe(self, _lane: Lane, answers: Sequence[HttpResponse | NoAnswer]) -> None:
        self.observed += len(answers)

    def known(self, _lane: Lane, images: Sequence[str]) -> Mapping[str, str]:
        return {image: self.kept[image][0] for image in images if image in self.kept}

    def keep(self, _lane: Lane, image: str, given: str, life_ms: int) -> None:
        self.kept[image] = (given, life_ms)

    def room(self, _lane: Lane, wanted: int, per_minute: int) -> int:
        assert per_minute == 60
        may = min(wanted, self.left)
        self.left -= may
        return may

    def send_many(
        self, _route: Any, requests: Sequence[Request], deadline_s: float
    ) -> list[HttpResponse | NoAnswer]:
        self.waits.append(deadline_s)
        self.asked += [json.loads(request.body)["imageUrl"] for request in requests]
        return [self.answer or good(json.loads(request.body)["imageUrl"]) for request in requests]


def good(image: str) -> HttpResponse:
    expire_time = str(NOW_MS // 1000 + 60)
    told = {"code": "83010000", "downloadUrl": f"{image}?verifyKey=k", "expireTime": expire_time}
    return HttpResponse(200, {}, json.dumps(told).encode())


def harmony() -> Lane:
    made = lane(Vendor.HARMONY)
    made.credential.options["project_id"] = "p1"  # type: ignore[index]
    return made


def images_after(
    gallery: Gallery, images: Sequence[str | None], to: Lane | None = None
) -> list[str | None]:
    """What each push's request batch carries, one push an image."""
    to = to or harmony()
    works = [work(image=image) for image in images]
    items = [PushItem(one.note, one.target, None, 60) for one in works]
    batches = pack(items, to.spec, to.credential, NOW_MS, None)
    pairs = [(batch, [one]) for batch, one in zip(batches, works, strict=True)]
    done = shown(pairs, to, None, cast(Any, gallery))
    assert [list(of) for _, of in done] == [[one] for one in works]
    return [batch.image for batch, _ in done]


def test_one_image_of_many_pushes_is_shown_once_and_remembered_as_long_as_it_holds() -> None:
    gallery, url = Gallery(), "https://cdn.example.com/a.png"
    found = images_after(gallery, [url, None, url])
    assert found == [f"{url}?verifyKey=k", None, f"{url}?verifyKey=k"]
    assert images_after(gallery, [url]) == [f"{url}?verifyKey=k"]
    assert (gallery.asked, gallery.observed) == ([url], 1)
    assert gallery.kept == {url: (f"{url}?verifyKey=k", 60_000)}
    assert gallery.waits == [WAIT_S]


NO_WORD = {
    "no answer": NoAnswer("timeout", True),
    "too fast": HttpResponse(200, {}, b'{"code":"83010002"}'),
    "a page of a proxy": HttpResponse(502, {}, b"<html>"),
}


@pytest.mark.parametrize("answer", NO_WORD.values(), ids=NO_WORD)
def test_where_the_vendor_says_nothing_the_push_goes_as_it_is(
    answer: HttpResponse | NoAnswer,
) -> None:
    gallery = Gallery(answer)
    assert images_after(gallery, ["https://a.example/1.png"]) == [None]
    assert gallery.kept == {}


def test_an_image_that_the_vendor_refuses_is_left_out_and_not_shown_again_soon() -> None:
    gallery = Gallery(HttpResponse(200, {}, b'{"code":"83010005"}'))
    assert [images_after(gallery, ["https://a.example/1.png"]) for _ in range(2)] == [[""], [""]]
    assert len(gallery.asked) == 1


def test_a_round_shows_a_few_images_only() -> None:
    gallery, urls = Gallery(), [f"https://a.example/{n}.png" for n in range(AT_ONCE_MAX + 5)]
    told = images_after(gallery, urls)
    assert [image is not None for image in told] == [True] * AT_ONCE_MAX + [False] * 5
    assert all(images_after(gallery, urls))


def test_what_the_minute_has_no_room_for_waits_for_another_push() -> None:
    gallery, urls = Gallery(room=1), ["https://a.example/1.png", "https://a.example/2.png"]
    assert [image is not None for image in images_after(gallery, urls)] == [True, False]
    assert images_after(gallery, urls[1:]) == [None]
    assert gallery.asked == urls[:1]


def test_other_vendors_are_not_asked() -> None:
    gallery = Gallery()
    assert images_after(gallery, ["https://a.example/1.png"], lane(Vendor.HUAWEI)) == [None]
    assert (gallery.asked, gallery.kept) == ([], {})
