"""What people see: the receiver's language, hidden modes set by an operator, badges in a rush; and
that hidden words are found nowhere.
"""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from common.model import Vendor
from tests.builders import core_event
from tests.e2e.conftest import Core
from tests.e2e.house import decision, wait_for
from tests.e2e.town import Town
from tests.e2e.watch import Watch
from tests.tables import table

pytestmark = [pytest.mark.e2e]


@pytest.fixture(scope="module")
def small(fleet: Core, tmp_path_factory: pytest.TempPathFactory) -> Town:
    """A tenant whose options the tests change."""
    return Town(fleet, tmp_path_factory.mktemp("small"), vendors=("apns",))


# ---------------------------------------------------------------- hidden words


def everything_with(secret: str, town: Town, to: str) -> dict[str, Any]:
    """A message that says the secret wherever a sender can say something that is shown."""
    vendors = [vendor.value for vendor in Vendor]
    raw = {
        one: {"aps": {"alert": {"body": secret}}, "notification": {"title": secret, "body": secret}}
        for one in vendors
    }
    push = {
        "display": {"title": secret, "subtitle": secret, "body": secret, "nick_prefix": "on"},
        "force": {"on": True, "body": secret},
        "image": dict.fromkeys(["ios", *vendors], f"https://img.example.com/{secret}.png"),
        "template": {
            one: {"id": "T9", "title_params": {"a": secret}, "content_params": {"b": secret}}
            for one in vendors
        },
        "vendor": {one: {"title": secret, "channel_name": secret} for one in vendors},
        "vendor_raw": raw,
    }
    conversation = {"type": "c2c", "id": "ann", "name": secret}
    sender = {"id": "ann", "nick": secret, "group_card": secret}
    elements = [{"type": "text", "text": secret}]
    return town.of_ann(to, conversation=conversation, sender=sender, elements=elements, push=push)


def test_hidden_words_are_found_nowhere_but_on_the_streams(town: Town) -> None:
    """Searched: all nine vendors' records, every log of the fleet, the ledger, and every command
    that Redis took but those of streams.
    """
    secret = "qX" + uuid.uuid4().hex
    core, user = town.core, town.person("hidden")
    tokens = {vendor.value: town.register(user, f"d-{vendor}", vendor) for vendor in Vendor}
    town.event("settings.updated", {"user": user, "show_detail": False})
    with Watch(core) as watch:
        data = everything_with(secret, town, user)
        told = town.send(data, rows=len(tokens))
        core.redis.xadd("im:events", {"e": f'{{"broken": "{secret}"'})
        broken_event = {"type": "message.stored", "data": {"elements": secret}, "app": town.app}
        core.redis.xadd("im:events", {"e": json.dumps(broken_event)})
        core.settled()
    seen = {row["vendor"]: row["decision"] for row in told["recipients"]}
    assert seen == dict.fromkeys(tokens, "accepted")
    assert len(town.pushes(tokens["apns"])) == 1
    folder = core.runtime.settings.data_dir
    paths = (folder / "simulators").glob("*.jsonl")
    records = [path for path in paths if secret in path.read_text("utf-8")]
    assert records == []
    logs = [path for path in (folder / "logs").rglob("*") if path.is_file()]
    assert len(logs) >= 5
    for words in (secret, user, *tokens.values()):
        assert [path.name for path in logs if words in path.read_text("utf-8", "replace")] == []
    with core.runtime.engine.connect() as connection:
        for table in ("events", "ledger", "notes", "dead_letters"):
            query = text(f"SELECT count(*) FROM {table} t WHERE t::text LIKE :words")
            found = connection.execute(query, {"words": f"%{secret}%"})
            assert found.scalar() == 0, table
    wake_ups = [command for command in watch.commands if command.upper().startswith("LPUSH")]
    assert wake_ups, "Celery's messages were seen"
    assert [
        command[:60]
        for command in watch.commands
        if secret in command and not command.upper().startswith("XADD")
    ] == []


def test_the_search_finds_what_is_not_hidden(town: Town) -> None:
    secret, user = "qX" + uuid.uuid4().hex, town.person()
    town.register(user)
    assert decision(town.send(everything_with(secret, town, user))) == "accepted"
    assert secret in (town.core.runtime.settings.data_dir / "simulators" / "apns.jsonl").read_text(
        "utf-8"
    )


def test_one_who_hides_details_reads_the_neutral_words_in_her_language_and_data_still_travel(
    town: Town,
) -> None:
    user = town.person()
    chinese = town.register(user, device="zh", lang="zh-CN")
    tokens = [chinese, town.register(user, device="en", lang="en-GB")]
    town.event("settings.updated", {"user": user, "show_detail": False})
    push = {"data": {"ext": '{"cid":"ann"}'}, "display": {"title": "Ann"}}
    town.send(town.of_ann(user, push=push), rows=2)
    assert [town.push(token)["body"]["aps"]["alert"] for token in tokens] == [
        {"title": "您收到一条新消息", "body": "您收到一条新消息"},
        {"title": "You have a new message", "body": "You have a new message"},
    ]
    assert [town.push(token)["body"]["ext"] for token in tokens] == ['{"cid":"ann"}'] * 2
    town.event("settings.updated", {"user": user, "show_detail": None})
    assert "hello" in json.dumps(
        town.send(town.of_ann(user), rows=2) and town.pushes(tokens[0])[-1]["body"]
    )


# ---------------------------------------------------------------- what an operator sets

MODES: dict[str, tuple[list[str], dict[str, str], bool]] = table("""
    sender only | ["--hidden-mode", "sender"] | {"title": "Ann", "body": "您收到一条新消息"} | true
    fixed text | ["--hidden-mode", "text", "--hidden-text", "请打开应用查看"]
      | {"body": "请打开应用查看"} | true
    id only | ["--hidden-mode", "id"] | {"body": "您收到一条新消息"} | false
    full | ["--hidden-mode", "full"] | {"body": "Ann:hello"} | true
""")


@pytest.mark.parametrize(("options", "alert", "data"), MODES.values(), ids=MODES)
def test_a_tenants_hidden_mode_holds_for_everybody(
    small: Town, options: list[str], alert: dict[str, str], data: bool
) -> None:
    assert small.command("app", "add", small.app, *options)[0] == 0
    small.changed()
    user = small.person()
    token = small.register(user)
    message = small.of_ann(user, push={"data": {"ext": "to-the-chat"}})
    assert decision(small.send(message)) == "accepted"
    got = small.push(token)["body"]
    assert got["aps"]["alert"] == alert
    assert got.get("ext") == ("to-the-chat" if data else None)
    assert data or got["message_id"] == message["message_id"]


def test_a_content_key_picks_the_tenants_text_for_a_device_of_one_who_hides(small: Town) -> None:
    added = small.command(
        "app", "add", small.app, "--hidden-mode", "full", "--content-key", "quiet=有人找你"
    )[0]
    assert added == 0
    small.changed()
    user = small.person()
    keyed, other = small.register(user, device="keyed"), small.register(user, device="other")
    content_key = {"device_id": "keyed", "key": "quiet"}
    small.event(
        "settings.updated", {"user": user, "show_detail": False, "content_key": content_key}
    )
    small.send(small.of_ann(user), rows=2)
    found = [small.push(token)["body"]["aps"]["alert"]["body"] for token in (keyed, other)]
    assert found == ["有人找你", "您收到一条新消息"]
    small.event("settings.updated", {"user": user, "content_key": None})
    small.send(small.of_ann(user), rows=2)
    assert small.pushes(keyed)[-1]["body"]["aps"]["alert"]["body"] == "您收到一条新消息"


def test_a_catalogue_of_the_tenant_speaks_further_languages(small: Town, tmp_path: Path) -> None:
    file = tmp_path / "texts.json"
    file.write_text(
        json.dumps({"ja": {"image": "[画像]", "hidden": "新着メッセージがあります"}}), "utf-8"
    )
    found = small.command("app", "add", small.app, "--hidden-mode", "full", "--texts", str(file))[0]
    assert found == 0
    small.changed()
    user = small.person()
    tokens = [small.register(user, device=lang, lang=lang) for lang in ("ja-JP", "en", "fr")]
    small.send(small.of_ann(user, elements=[{"type": "image"}]), rows=3)
    seen = [small.push(token)["body"]["aps"]["alert"]["body"] for token in tokens]
    assert seen == ["Ann:[画像]", "Ann:[Image]", "Ann:[图片]"]


REFUSED = {
    "a mode that nobody knows": (["--hidden-mode", "some"], "hidden-mode"),
    "a fixed text that is missing": (["--hidden-mode", "text"], "--hidden-text"),
    "a key without a text": (["--content-key", "quiet"], "KEY=TEXT"),
    "no catalogue": (["--texts", "BROKEN"], "--texts"),
    "no zone": (["--tz", "Mars/Base"], "--tz"),
}


@pytest.mark.parametrize(("options", "words"), REFUSED.values(), ids=REFUSED)
def test_what_an_operator_sets_wrongly_is_refused_with_the_option_named(
    small: Town, tmp_path: Path, options: list[str], words: str
) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{", "utf-8")
    fresh = "t-" + uuid.uuid4().hex[:8]
    code, _, told = small.command(
        "app", "add", fresh, *[str(broken) if one == "BROKEN" else one for one in options]
    )
    assert (code, words in told) == (2, True), told


def test_what_is_not_named_stays_when_a_tenant_is_changed(small: Town) -> None:
    name = "t-" + uuid.uuid4().hex[:8]
    small.command(
        "app",
        "add",
        name,
        "--name",
        "Chat",
        "--lang",
        "en",
        "--tz",
        "Europe/Berlin",
        "--hidden-mode",
        "sender",
    )
    small.command("app", "add", name, "--name", "Chat 2")
    (row,) = [
        one for one in json.loads(small.command("app", "list", "--json")[1]) if one["app"] == name
    ]
    assert row == {
        "app": name,
        "name": "Chat 2",
        "lang": "en",
        "tz": "Europe/Berlin",
        "hidden_mode": "sender",
    }


# ---------------------------------------------------------------- badge

MESSAGES = 300


def test_hundreds_of_messages_at_once_each_have_a_badge_of_their_own(small: Town) -> None:
    town, user = small, small.person()
    token = town.register(user)
    town.event("app.background", {"user": user, "device_id": "phone", "badge": 41})
    with town.core.redis.pipeline(transaction=False) as pipe:
        for _ in range(MESSAGES):
            event = core_event(town.app, "message.stored", town.of_ann(user))
            pipe.xadd("im:events", {"e": json.dumps(event)})
        pipe.execute()
    wait_for(lambda: len(town.pushes(token)) >= MESSAGES, f"{MESSAGES} pushes")
    found = sorted(push["body"]["aps"]["badge"] for push in town.pushes(token))
    assert found == list(range(42, 42 + MESSAGES))


BADGES: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "increment by three": ({"badge": {"increment": 3}}, [8, 9]),
    "keep": ({"badge": {"mode": "keep"}}, [None, 6]),
    "none": ({"badge": {"mode": "none"}}, [None, 6]),
    "not counted as unread": ({"badge": {"counts_unread": False}}, [None, 6]),
    "by nothing: the number as it stands": ({"badge": {"increment": 0}}, [5, 6]),
}


@pytest.mark.parametrize(("push", "shown"), BADGES.values(), ids=BADGES)
def test_a_badge_moves_as_the_message_says_and_the_next_one_goes_on_from_there(
    small: Town, push: dict[str, Any], shown: list[Any]
) -> None:
    user = small.person()
    token = small.register(user)
    small.event("app.background", {"user": user, "device_id": "phone", "badge": 5})
    for one in (push, {}):
        small.send(small.of_ann(user, push=one))
    assert [one["body"]["aps"].get("badge") for one in small.pushes(token)] == shown
