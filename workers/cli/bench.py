"""`pushfleet bench`: the benchmarks of the checkout this command was installed from."""

from __future__ import annotations

import importlib.util
import os
import sys

import click

from workers.cli.errors import CliError


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def bench(options: tuple[str, ...]) -> None:
    """Measure this fleet beside its peers, on this machine, in one run; leaves
    var/reports/bench.json.
    """
    try:
        found = importlib.util.find_spec("tests.benchmarks")
    except ModuleNotFoundError:  # of the folder around it
        found = None
    if found is None:
        raise CliError("the benchmarks are in the repository: run `make bench` in a checkout")
    os.execv(sys.executable, [sys.executable, "-m", "tests.benchmarks.bench", *options])  # noqa: S606 - a signal must reach it
