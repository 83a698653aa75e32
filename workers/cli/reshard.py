"""`pushfleet reshard N`: another number of shards."""

from __future__ import annotations

import click

from common.config import SHARDS_MAX, Settings
from common.running_fleet import resolve
from workers.cli.errors import CliError


@click.command()
@click.argument("number", type=click.IntRange(1, SHARDS_MAX))
@click.option(
    "--drain",
    "drain_s",
    default=20.0,
    show_default=True,
    help="Seconds to send what can be sent, before the workers stop.",
)
@click.option(
    "--stop", "stop_s", default=60.0, show_default=True, help="Seconds the workers have to stop."
)
@click.option(
    "--lang",
    type=click.Choice(["en", "zh"]),
    default="en",
    show_default=True,
    help="Language of what is printed.",
)
def reshard(number: int, drain_s: float, stop_s: float, lang: str) -> None:
    """Give the fleet NUMBER shards.

    Intake stops, what can be sent is sent, the workers stop, and what still waits moves, in its
    order. Ended at any moment, it goes on when it is called again. Then start the fleet with
    PUSHFLEET_SHARDS=NUMBER.
    """
    from workers.resharding.steps import Resharding, ReshardingError

    try:
        Resharding(resolve(Settings.load()), number, click.echo, lang).run(drain_s, stop_s)
    except ReshardingError as error:
        raise CliError(str(error), exit_code=1) from None
