"""What the simulators of six vendors do alike: each rule has its code, what is accepted stands in
the record, a repeat is marked, and an advert in service clothes is counted and may ban. Without
sockets.
"""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from simulators.simulator import VendorReply
from tests.integration.simulators import (
    test_honor,
    test_huawei,
    test_meizu,
    test_oppo,
    test_vivo,
    test_xiaomi,
)
from tests.integration.simulators.running import changed
from tests.integration.simulators.test_junk import CASES, made

RULES: dict[str, list[Any]] = {
    "huawei v1": test_huawei.V1_REFUSED,
    "huawei v3": test_huawei.V3_REFUSED,
    "honor": test_honor.REFUSED,
    "xiaomi": test_xiaomi.REFUSED,
    "oppo": test_oppo.REFUSED,
    "vivo": test_vivo.REFUSED,
    "meizu": [(*rule, "1005") for rule in test_meizu.REFUSED],
}


def code_of(reply: VendorReply) -> Any:
    body = json.loads(reply.body)
    return body.get("code", body.get("result"))


def with_title(name: str, title: str) -> Any:
    return changed(CASES[name][1], TITLES[name], title)


@pytest.mark.parametrize(
    ("name", "path", "value", "code"),
    [(name, *rule) for name, rules in RULES.items() for rule in rules],
)
def test_each_rule_has_its_code(
    tmp_path: Path, name: str, path: str, value: Any, code: Any
) -> None:
    module, good, travelling = CASES[name]
    simulator = made(module, tmp_path)
    if name == "xiaomi":  # a form, whose names have dots in them
        simulator.limits["notify_effect_required"] = 1
        told = value() if callable(value) else value
        body = {**good, path: told} if told is not None else test_xiaomi.without(good, path)
    else:
        body = changed(good, path, value)
    reply = simulator.handle(travelling(body))
    assert code_of(reply) == code
    assert name != "honor" or reply.status == code
    assert simulator.record.lines() == []


#: What the record says of a push: vendor, account, token, id.
RECORD = {
    "huawei v1": ("huawei", "1", "T1", "m-1001"),
    "huawei v3": ("harmony", "7", "T1", "m-1001"),
    "honor": ("honor", "1", "H1", "m-1001"),
    "xiaomi": ("xiaomi", "com.example.im", test_xiaomi.CHAT["registration_id"], "m1001u7"),
    "oppo": ("oppo", "1", test_oppo.MESSAGE["target_value"], "m-1001-u7"),
    "vivo": ("vivo", "100000123", test_vivo.BODY["regId"], "d=7f3a9c"),
    "meizu": ("meizu", "1", "A", "d=7f3a9c"),
}


@pytest.mark.parametrize("name", RECORD)
def test_the_record_tells_what_was_accepted_and_marks_repeats(tmp_path: Path, name: str) -> None:
    module, good, travelling = CASES[name]
    simulator = made(module, tmp_path)
    for _ in range(2):
        simulator.handle(travelling(good))
    first, second = simulator.record.lines()
    assert tuple(first[key] for key in ("vendor", "account", "token", "id")) == RECORD[name]
    assert (first["class"], first["tokens_in_request"]) == ("private", 1)
    assert set(first["body"]) >= ({*good} & {"title", "notification", "noticeBarInfo"})
    assert [one.get("duplicate", False) for one in (first, second)] == [False, True]
    assert [simulator.record.counts[name] for name in ("tokens", "doubled")] == [2, 1]


TITLES = {
    "huawei v1": "message.android.notification.title",
    "huawei v3": "payload.notification.title",
    "honor": "android.notification.title",
    "xiaomi": "title",
    "oppo": "notification.title",
    "meizu": "noticeBarInfo.title",
}
#: The right of a service message, and the code of a banned account.
RIGHTS = {
    "huawei v1": ("huawei.im", "80300002"),
    "huawei v3": ("harmony.im", "80300037"),
    "honor": ("honor.service", 403),
    "xiaomi": ("xiaomi.private", 10031),
    "oppo": ("oppo.private", 28),
    "meizu": ("meizu.private", "110009"),
}


@pytest.mark.parametrize("name", TITLES)
def test_misclassed_messages_are_counted_and_may_ban(tmp_path: Path, name: str) -> None:
    module, good, travelling = CASES[name]
    simulator, (right, banned) = made(module, tmp_path), RIGHTS[name]
    account = RECORD[name][1]
    simulator.control("accounts", {"account": account, "rights": [right]})
    advert = travelling(with_title(name, "[AD] half price"))
    simulator.handle(advert)
    assert simulator.record.counts["misclassed"] == 1
    simulator.control("guard", {"ban": True})
    found = [code_of(simulator.handle(call)) for call in (advert, travelling(good))]
    assert found == [banned] * 2
    simulator.control("guard", {"ban": False})
    simulator.control("accounts", {"account": account, "rights": []})
    simulator.handle(travelling(good))
    assert simulator.record.lines()[-1]["class"] == "public", "without its right"
    assert simulator.record.counts["misclassed"] == 3


#: What is told to who sends too much in a second, of two targets a request; whether targets count,
#: else requests.
OVER = {
    "huawei v1": (changed(CASES["huawei v1"][1], "message.token", ["A", "B"]), 503, True),
    "huawei v3": (changed(CASES["huawei v3"][1], "target.token", ["A", "B"]), 503, True),
    "honor": (changed(CASES["honor"][1], "token", ["A", "B"]), 429, True),
    "xiaomi": ({**CASES["xiaomi"][1], "registration_id": "A,B"}, 200002, False),
    "oppo batch": (CASES["oppo batch"][1] * 2, 55, True),
    "vivo": (CASES["vivo"][1], 10072, False),
    "meizu": (CASES["meizu"][1], "110010", False),
}


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a test is within one second of the simulators' clock."""
    now = SimpleNamespace(time=lambda at=time.time(): at)
    for module in ("state", "vivo"):
        monkeypatch.setattr(f"simulators.{module}.time", now)


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("name", OVER)
def test_more_than_a_second_allows_is_refused(tmp_path: Path, name: str) -> None:
    module, _, travelling = CASES[name]
    simulator, (body, over, by_targets) = made(module, tmp_path), OVER[name]

    def refused(count: int) -> list[bool]:
        replies = [simulator.handle(travelling(body)) for _ in range(count)]
        return [
            over
            in (
                one.status,
                json.loads(one.body or "{}").get("code"),
                json.loads(one.body or "{}").get("result"),
            )
            for one in replies
        ]

    simulator.limits["per_second"] = 2
    assert refused(3) == [False, by_targets, True]
    assert simulator.record.counts["per_second_max_requests"] == 3
    simulator.limits["per_second"] = 0
    simulator.faults.change({"over_rate": True, "only_first": 1})
    assert refused(2) == [True, False]


@pytest.mark.usefixtures("frozen")
def test_vivos_auth_is_limited_a_second(tmp_path: Path) -> None:
    module, body, travelling = CASES["vivo auth"]
    simulator = made(module, tmp_path)
    simulator.limits["auth_per_second"] = 10
    codes = [code_of(simulator.handle(travelling(body))) for _ in range(11)]
    assert [code == 10250 for code in codes] == [False] * 10 + [True]
