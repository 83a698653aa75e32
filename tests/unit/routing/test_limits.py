"""Whatever people write, what each vendor gets breaks none of its rules; the simulators, which know
nothing of ours, are the judges.
"""

import json
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qsl

import pytest

from common.model import Kind, Vendor
from simulators import apns, fcm_message, huawei_rules, meizu, oppo, vivo, xiaomi_rules
from simulators.honor import Honor
from tests.examples import examples
from tests.unit.routing.builders import Books, device, message
from tests.unit.routing.test_fan_out import wire
from tests.unit.vendors.strategies import PIECES
from workers.routing.render import HiddenMode
from workers.vendors.vivo.texts import SAFE_CONTENT, SAFE_TITLE
from workers.wire import Request

EACH = examples(50)


def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.body.decode(), keep_blank_values=True))


def _apns(request: Request) -> None:
    apns._payload(request.body, request.headers["apns-push-type"])


def _fcm(request: Request) -> None:
    fcm_message.check(request.body)


def _huawei(request: Request) -> None:
    body = json.loads(request.body)
    huawei_rules.check_size(request.body, huawei_rules.tokens_of(body["message"]["token"]))
    huawei_rules.check_v1(body, body["message"])


def _harmony(request: Request) -> None:
    body = json.loads(request.body)
    if request.path.endswith(":revoke"):
        assert set(body) == {"notifyId", "token"}
        return
    huawei_rules.check_size(request.body, huawei_rules.tokens_of(body["target"]["token"]))
    huawei_rules.check_v3(body, int(request.headers["push-type"]))


def _honor(request: Request) -> None:
    Honor._check(cast(Any, SimpleNamespace()), json.loads(request.body))


def _xiaomi(request: Request) -> None:
    form = _form(request)
    xiaomi_rules.check_texts(form)
    for check in (xiaomi_rules.check_effect, xiaomi_rules.check_extras):
        check(form)


def _oppo(request: Request) -> None:
    body = json.loads(_form(request)["message"])
    oppo._check(body["notification"], True)


def _vivo(request: Request) -> None:
    vivo._check(json.loads(request.body))


def _meizu(request: Request) -> None:
    meizu._check(json.loads(_form(request)["messageJson"]))


JUDGES: dict[Vendor, Callable[[Request], None]] = {
    Vendor.APNS: _apns,
    Vendor.FCM: _fcm,
    Vendor.HUAWEI: _huawei,
    Vendor.HARMONY: _harmony,
    Vendor.HONOR: _honor,
    Vendor.XIAOMI: _xiaomi,
    Vendor.OPPO: _oppo,
    Vendor.VIVO: _vivo,
    Vendor.MEIZU: _meizu,
}


def words(rng: random.Random, pieces: list[str]) -> str | None:
    """Nothing, a word, or up to some thousand characters of what breaks careless code."""
    length = rng.choice([0, 1, 3, 30, 60, 300, 3000])
    return None if rng.random() < 0.2 else "".join(rng.choices(pieces, k=length))


def event(rng: random.Random, pieces: list[str]) -> Any:
    def said() -> str | None:
        return words(rng, pieces)

    kinds = ["text", "custom", "image", "file", "merger"]
    display = {
        "title": said(),
        "subtitle": said(),
        "body": said(),
        "nick_prefix": rng.choice(["on", "off"]),
    }
    kinds_of = ["c2c", "group"]
    return message(
        kind=rng.choice(list(Kind)),
        conversation={"type": rng.choice(kinds_of), "id": (said() or "x")[:100], "name": said()},
        sender={"id": "ann", "nick": said(), "group_card": said()},
        elements=[{"type": rng.choice(kinds), "text": said()} for _ in range(rng.randint(0, 3))],
        push={"display": display, "collapse_key": said(), "data": {"ext": (said() or "")[:150]}},
    )


def test_what_vivo_gets_in_place_of_words_that_it_refused_is_formal():
    assert vivo.formal(SAFE_TITLE)
    assert vivo.formal(SAFE_CONTENT)


@pytest.mark.parametrize("vendor", Vendor)
def test_no_words_break_a_rule_of_the_vendor(vendor):
    rng = random.Random(f"limits {vendor}")
    # JSON events hold no half characters
    pieces = [piece for piece in PIECES if not "\ud800" <= piece[0] <= "\udfff"]
    for number in range(EACH):
        mode = rng.choice(["full", "full", *HiddenMode])
        books = Books(settings={"bob": {"show_detail": number % 5 != 0}})
        hidden = {"hidden_mode": mode, "hidden_text": words(rng, pieces)}
        books.tenant(vendor).options.update(hidden)  # type: ignore[attr-defined]
        request = wire(
            event(rng, pieces),
            device(vendor, lang=rng.choice(["zh", "en"])),
            books,
            rng.choice([None, 0, 5, 10**9]),
        )
        JUDGES[vendor](request)
