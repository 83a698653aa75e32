"""`pushfleet …` in the test's own process, with the environment of a process of its own."""

import contextlib
import io
import os
from collections.abc import Mapping
from unittest import mock

from workers.cli import run


def clean_environ() -> dict[str, str]:
    """This process's environment without settings of a fleet."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PUSHFLEET_")}


def command(environ: Mapping[str, str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr. environ: its settings, PUSHFLEET_ and the name."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, {**clean_environ(), **environ}, clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = run(list(arguments))
    return code, out.getvalue(), err.getvalue()
