"""What only prints help loads nothing heavy: an operator types it all day."""

import json
import os
import re
import subprocess
import sys

import pytest

from workers.cli import help_texts
from workers.cli.commands import FILES, SECTIONS, cli

HEAVY = ("sqlalchemy", "celery", "redis", "pycurl", "alembic", "prometheus_client", "rich")


def test_the_texts_that_help_prints_are_the_commands_own():
    assert json.loads(help_texts.FILE.read_text(encoding="utf-8")) == json.loads(
        help_texts.made(cli)
    ), "make generated"


def test_the_first_help_names_every_command_in_whole_words():
    told = [name for commands in SECTIONS.values() for name in commands]
    assert sorted(told) == sorted(FILES)
    page = json.loads(help_texts.FILE.read_text(encoding="utf-8"))[""]
    lines = page.partition("First steps:")[2].splitlines()
    assert not [line for line in lines if line.endswith("...")]
    assert all(re.match(r"  [a-z-]+ +\S|[A-Z].*:$", line) for line in lines if line), (
        "one line each"
    )


@pytest.mark.parametrize(
    ("command", "first"),
    {
        "of a command": (["lanes", "--help"], "Usage: pushfleet lanes [OPTIONS]"),
        "with an argument": (
            ["credential", "add", "apns", "--help"],
            "Usage: pushfleet credential",
        ),
        "of no command": (["lain", "--help"], None),
        "of no command of a group": (["credential", "lain", "--help"], None),
        "behind an option": (["lanes", "--lain", "--help"], None),
        "not asked for": (["lanes"], None),
        "nothing typed": ([], None),
    }.values(),
)
def test_only_a_plain_question_is_answered_from_the_texts(command, first, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    found = help_texts.made_text(command)
    assert (found and found.startswith(first or "?")) == (True if first else None)
    monkeypatch.setenv("COLUMNS", "79")
    assert help_texts.made_text(command) is None, "Click fills the lines of a narrow terminal"


@pytest.mark.parametrize(
    "words", ["", *json.loads(help_texts.FILE.read_text(encoding="utf-8"))][::4], ids=str
)
def test_help_loads_nothing_heavy(words):
    command = [*words.split(), "--help"]
    code = f"import sys; from workers.cli import run; run({command!r})"
    code += f"; print([one for one in {HEAVY!r} if one in sys.modules], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr.strip() == "[]", done.stderr
