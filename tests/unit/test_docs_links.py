"""Every link between our pages leads somewhere, and every command, option, setting and make target
that a page names is one.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from common.config import known_names
from common.settings_table import unknown
from tests.builders import present
from workers.cli.commands import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
)
#: Not pages, but they tell people what to type.
TOLD = [
    ROOT / "workers/reports/problems.py",
    ROOT / "docker-compose.yml",
    *sorted((ROOT / "deploy").rglob("*.y*ml")),
]
HISTORY = ROOT / "CHANGELOG.md"
#: Made up by pages, to show what is refused.
MADE_UP = {"PUSHFLEET_REDISURL"}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ +(.+?)\s*$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", one).lower()).replace(
            " ", "-"
        )
        for one in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        found = page.parent / path if path else page
        if not found.exists() or (
            anchor and found.suffix == ".md" and anchor not in anchors(found)
        ):
            wrong.append(target)
    assert not wrong


def commands(text: str) -> Iterator[list[str]]:
    """The words behind each `pushfleet` that is typed or shown as code."""
    text = text.replace("\\\n", " ")
    blocks = re.findall(r"```(?:sh|bash|console)?\n(.*?)```", text, re.DOTALL)
    spans = re.findall(r"`([^`\n]*?)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    typed = [line.split(" #")[0] for block in blocks for line in block.splitlines()] + spans
    for line in typed:
        for found in re.finditer(
            r"(?:^\s*|[(;&|$] ?|bin/|-- )pushfleet ((?:[^|;&`()\[\]]|\[(?=-))+)", line
        ):
            yield found[1].split()


def wrong_in(words: list[str]) -> str | None:
    """The first word that no command and no option of ours is called; what people fill in is in
    capitals or follows an option.
    """
    command: click.Command = cli
    context = click.Context(command)
    while words and isinstance(command, click.Group):
        word = words[0].rstrip(",.:")
        if not re.fullmatch(r"[a-z][a-z-]*", word):
            break
        one = command.get_command(context, word)
        if one is None:
            return word
        command, words = one, words[1:]
    known = {
        name
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    } | {"--help", "--version"}
    if command.name == "init":  # it takes those of `credential add`, too
        known |= {
            name
            for name in words
            if name.startswith("--") and wrong_in(["credential", "add", name]) is None
        }
    if isinstance(command, click.Group):  # options told of all its commands
        known |= {
            name
            for sub in command.list_commands(context)
            for p in present(command.get_command(context, sub)).params
            for name in p.opts
        }  # type: ignore[union-attr]
    named = [match[0] for word in words if (match := re.match(r"--[a-z][a-z0-9-]*", word))]
    return next((option for option in named if option not in known), None)


@pytest.mark.parametrize("page", [page for page in PAGES if page != HISTORY], ids=name_of)
def test_commands_and_their_options_are_there(page: Path) -> None:
    told = commands(page.read_text(encoding="utf-8"))
    wrong = {" ".join(words): found for words in told if (found := wrong_in(words))}
    assert not wrong


@pytest.mark.parametrize("page", TOLD, ids=name_of)
def test_what_helps_is_a_command(page: Path) -> None:
    wrong = []
    for found in re.finditer(
        r"(?<!generic )(?<!namespace )pushfleet ([a-z][a-z -]*)", page.read_text(encoding="utf-8")
    ):
        first, *more = found[1].split() or [""]
        if first in ("apply", "create"):  # kubectl -n pushfleet …
            continue
        command = cli.get_command(click.Context(cli), first)
        deeper = (
            isinstance(command, click.Group)
            and more
            and command.get_command(click.Context(command), more[0]) is None
        )
        if command is None or deeper:
            wrong.append(found[0])
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_settings_are_settings(page: Path) -> None:
    words = set(re.findall(r"PUSHFLEET_[A-Z][A-Z0-9_]*[A-Z0-9]", page.read_text(encoding="utf-8")))
    named = words - MADE_UP
    names = {name for name in named if not name.startswith("PUSHFLEET_TEST")}
    whole = known_names()
    odd = unknown(dict.fromkeys(names, "x"), whole)
    wrong = [name for name, _ in odd if not any(one.startswith(name + "_") for one in whole)]
    assert not wrong


@pytest.mark.parametrize("page", [page for page in PAGES if page != HISTORY], ids=name_of)
def test_make_targets_and_modules_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^|&& )make ([a-z][a-z0-9-]*)", text, re.MULTILINE))
    modules = set(re.findall(r"python -m ((?:tests|workers|simulators)[\w.]*)", text))
    missing = {
        one
        for one in modules
        if not any((ROOT / one.replace(".", "/")).with_suffix(end).exists() for end in (".py", ""))
    }
    assert not (named - targets) | missing
