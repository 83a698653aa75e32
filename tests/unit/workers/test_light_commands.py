"""What only prints help loads nothing heavy: an operator types it all day."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("sqlalchemy", "celery", "redis", "pycurl", "alembic", "prometheus_client", "rich")


@pytest.mark.parametrize(
    "command", [["lanes", "--help"], ["quota", "--help"], ["settings", "--help"]], ids=" ".join
)
def test_help_loads_nothing_heavy(command):
    code = f"import sys; from workers.cli import run; run({command!r})"
    code += f"; print([one for one in {HEAVY!r} if one in sys.modules], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.strip() == "[]", done.stderr
