"""Arguments and files that the command line can do nothing with: exit codes and one line each."""

import json
import sys
from pathlib import Path

import pytest

from tests.integration.web.conftest import message, registered
from tests.waiting import eventually

NOT_UTF_8 = "\udcff"  # as Python reads the byte 0xff of an argument


@pytest.mark.parametrize(
    "arguments",
    [
        ("why", NOT_UTF_8),
        ("device", "list", "a", NOT_UTF_8),
        ("app", "add", "a", "--name", NOT_UTF_8),
        ("dead-letters", "show", NOT_UTF_8),
    ],
)
def test_an_argument_that_is_no_text_is_wrong_use(cli, arguments):
    said = cli(*arguments)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "not UTF-8" in said.err


LISTS = (
    ("credential", "list", "nobody"),
    ("device", "list", "nobody"),
    ("strategy", "list", "nobody"),
    ("lanes", "--app", "nobody"),
    ("quota", "--app", "nobody"),
)


@pytest.mark.parametrize("arguments", LISTS, ids=lambda one: one[0])
def test_a_list_of_a_tenant_that_is_not_there_says_no(cli, arguments):
    for said in (cli(*arguments), cli(*arguments, "--json")):
        assert said.code == 1
        assert "no tenant nobody" in said.err
    assert said.json == []


def test_a_list_of_an_account_that_is_not_there_says_no(cli):
    assert cli("app", "add", "a").code == 0
    named = ("credential", "list", "a", "vivo", "nobody")
    assert (cli(*named).code, cli(*named, "--json").code) == (1, 1)
    assert cli(*named, "--json").json == []
    assert cli("credential", "list", "a", "vivo", "--json").code == 0


PRESETS = {
    "nested too deep": b"[" * 100_000,
    "U+0000": b'{"fcm": {"a": "\\u0000"}}',
    "U+0000 in a name": b'{"fcm": {"\\u0000": 1}}',
    "half a character": b'{"fcm": {"a": "\\ud800"}}',
    "a constant of JavaScript": b'{"fcm": {"a": NaN}}',
    "a number beyond all bounds": b'{"fcm": {"a": %s}}' % (b"9" * 400),
    "no JSON": b"{",
    "not UTF-8": b'{"\xff": 1}',
}


@pytest.mark.parametrize("inside", PRESETS.values(), ids=PRESETS)
def test_a_file_that_can_not_be_kept_is_wrong_use(cli, tmp_path: Path, inside: bytes):
    file = tmp_path / "preset"
    file.write_bytes(inside)
    assert cli("app", "add", "a").code == 0
    for arguments in (
        ("strategy", "add", "a", "s", str(file)),
        ("app", "add", "a", "--texts", str(file)),
    ):
        said = cli(*arguments)
        assert (said.code, said.err.count("\n")) == (2, 1)


def test_a_byte_order_mark_before_a_preset_is_none_of_it(cli, tmp_path: Path):
    file = tmp_path / "preset"
    file.write_text('{"fcm": {"priority": "high"}}', encoding="utf-8-sig")
    assert cli("app", "add", "a").code == 0
    assert cli("strategy", "add", "a", "s", str(file)).code == 0
    assert cli("strategy", "list", "a", "--json").json[0]["preset"] == {"fcm": {"priority": "high"}}


def test_the_benchmarks_are_not_asked_for_outside_of_a_checkout(cli, monkeypatch):
    monkeypatch.setattr("sys.path", [one for one in sys.path if not (Path(one) / "tests").is_dir()])
    for name in [one for one in sys.modules if one.partition(".")[0] == "tests"]:
        monkeypatch.delitem(sys.modules, name)
    said = cli("bench")
    assert (said.code, said.err.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    "more",
    [("delivery", "--vendors", "acme"), ("upkeep", "--roles", "acme"), ("intake", "--index", "-1")],
)
def test_a_worker_names_a_wrong_option_whatever_servers_run(cli, monkeypatch, more):
    monkeypatch.setenv("PUSHFLEET_REDIS_URL", "embedded")  # and nobody has started it
    assert cli("worker", *more).code == 2


@pytest.mark.parametrize("command", [("list",), ("replay", "--all"), ("drop", "--all")])
def test_dead_letters_of_a_stage_that_is_none_are_wrong_use(cli, command):
    said = cli("dead-letters", *command, "--stage", "deliverry")
    assert said.code == 2
    assert "deliverry" in said.err
    assert cli("dead-letters", "list", "--stage", "delivery", "--json").json == []


#: An option of another vendor beside a good account, which would be dropped without a word.
FOREIGN = {
    "meizu": ("--app-id", "110001", "--app-key", "k"),
    "huawei": ("--app-id", "100001", "--package", "com.example"),
    "xiaomi": ("--package", "com.example.im", "--topic", "com.example.im"),
    "oppo": ("--app-key", "key", "--env", "sandbox"),
}


@pytest.mark.parametrize(("vendor", "options"), FOREIGN.items(), ids=FOREIGN)
def test_an_account_with_an_option_of_another_vendor_is_refused(
    cli, tmp_path: Path, vendor: str, options: tuple[str, ...]
):
    assert cli("app", "add", "a").code == 0
    secret = tmp_path / "secret"
    secret.write_text("simulated-secret-1")
    account = (vendor, "--app", "a", "--business-id", "b", "--app-secret-file", str(secret))
    said = cli("credential", "add", *account, *options)
    assert said.code == 2
    assert f"{options[2]} is no option of {vendor}, which takes --" in said.err
    assert cli("credential", "list", "a", "--json").json == []
    assert cli("credential", "add", *account, *options[:2]).code == 0
    assert cli("credential", "rotate", "a", vendor, "b", *options[2:]).code == 2


UNREAD = {
    "another vendor's": ("--option", "app_key=zork"),
    "nobody's": ("--option", "zork=1"),
    "Apple's": ("--voip-alias", "foo"),
}


@pytest.mark.parametrize("options", UNREAD.values(), ids=UNREAD)
def test_an_option_that_the_vendor_never_reads_is_refused(
    cli, tmp_path: Path, options: tuple[str, ...]
):
    assert cli("app", "add", "a").code == 0
    secret = tmp_path / "secret"
    secret.write_text("simulated-secret-1")
    account = ("meizu", "--app", "a", "--business-id", "b", "--app-secret-file", str(secret))
    said = cli("credential", "add", *account, "--app-id", "110001", *options)
    assert said.code == 2
    assert "is no option of meizu" in said.err
    assert options[0] == "--voip-alias" or "which takes app_id, callback" in said.err
    assert cli("credential", "list", "a", "--json").json == []
    given = (*account, "--option", "app_id=110001", "--option", "callback=on")
    assert cli("credential", "add", *given).code == 0
    assert cli("credential", "rotate", "a", "meizu", "b", *options).code == 2


def test_an_account_that_shares_a_name_since_an_earlier_release_gets_new_secrets(
    cli, runtime, tmp_path: Path
):
    assert cli("app", "add", "a").code == 0
    secret = tmp_path / "secret"
    secret.write_text("simulated-secret-1")
    own = ("--app-id", "110001", "--app-secret-file", str(secret))
    for name, alias in (("one", "org.x.*"), ("two", "org.y.*")):
        given = ("meizu", "--app", "a", "--business-id", name, *own, "--alias", alias)
        assert cli("credential", "add", *given).code == 0
    with runtime.engine.begin() as connection:
        statement = "UPDATE credentials SET options = jsonb_set(options, '{alias}', '\"*.ios\"')"
        connection.exec_driver_sql(statement + " WHERE app = 'a' AND business_id = 'two'")
    assert cli("credential", "rotate", "a", "meizu", "two", *own).code == 0
    said = cli("credential", "rotate", "a", "meizu", "two", *own, "--alias", "*.org")
    assert (said.code, "'org.x.*' already" in said.err) == (2, True)


def test_a_person_of_whom_a_message_has_nothing_is_not_there(cli, fleet, tenant):
    for each in (registered("bob", "phone", "meizu", "token-1"), message("m-1", ["bob"])):
        fleet.runtime.core.xadd(fleet.runtime.settings.event_streams[0], {"e": json.dumps(each)})
    eventually(lambda: fleet.step() or cli("why", "m-1", "bob", "--json").code == 0)
    said = cli("why", "m-1", "eve", "--json")
    assert (said.code, said.json["recipients"]) == (1, [])
    assert "nothing of eve" in said.err
    assert cli("why", "m-1").code == 0


def test_of_what_was_decided_for_everybody_each_person_has_an_answer(cli, fleet, tenant):
    stored = message("m-2", ["bob"], gate={"enabled": False})
    fleet.runtime.core.xadd(fleet.runtime.settings.event_streams[0], {"e": json.dumps(stored)})
    eventually(lambda: fleet.step() or cli("why", "m-2", "--json").code == 0)
    assert cli("why", "m-2", "bob", "--json").json["decision"] == "push_disabled"
