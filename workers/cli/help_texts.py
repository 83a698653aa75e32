"""What `--help` says of each command, made beforehand (`make generated`): an operator types it all
day, and a command's own modules take up to a second of CPU to load.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

FILE = Path(__file__).with_name("help_texts.json")
#: Click fills lines up to here; on a narrower terminal it fills them anew.
COLUMNS = 80
PROGRAM = "pushfleet"


def made_text(arguments: Sequence[str]) -> str | None:
    """The help that these arguments ask for; None where Click has to say something else."""
    *words, last = arguments or [""]
    if last != "--help" or shutil.get_terminal_size().columns < COLUMNS:
        return None
    known: dict[str, str] = json.loads(FILE.read_text(encoding="utf-8"))
    path: list[str] = []
    while words and " ".join([*path, words[0]]) in known:
        path.append(words.pop(0))
    is_group = any(other.startswith(" ".join([*path, ""]).lstrip()) for other in known if path)
    if words and (is_group or not path or any(one.startswith("-") for one in words)):
        return None
    return known[" ".join(path)]


def made(root: click.Group) -> str:
    """The file's content."""
    texts = {" ".join(path): text for path, text in _texts(root, [], None)}
    return json.dumps(texts, indent=1, ensure_ascii=False) + "\n"


def _texts(
    command: click.Command, path: list[str], parent: click.Context | None
) -> Iterator[tuple[list[str], str]]:
    name = path[-1] if path else PROGRAM
    context = click.Context(command, parent, name, terminal_width=COLUMNS - 2)
    yield path, command.get_help(context)
    if isinstance(command, click.Group):
        for one in command.list_commands(context):
            below = command.get_command(context, one)
            if below is not None:
                yield from _texts(below, [*path, one], context)
