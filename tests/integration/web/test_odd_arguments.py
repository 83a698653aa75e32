"""Arguments and files that the command line can do nothing with: exit codes and one line each."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

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
    [
        ("delivery", "--vendors", "acme"),
        ("upkeep", "--roles", "acme"),
        ("intake", "--index", "-1"),
    ],
)
def test_a_worker_names_a_wrong_option_whatever_servers_run(cli, monkeypatch, more):
    monkeypatch.setenv("PUSHFLEET_REDIS_URL", "embedded")  # and nobody has started it
    assert cli("worker", *more).code == 2
