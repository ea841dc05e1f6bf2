"""Give a sweep on a cluster that ended more trials."""

from __future__ import annotations

import click

from pace_tune.cli.jobs import show_submission
from pace_tune.cli.options import address_option, json_option


@click.command()
@click.argument("sweep")
@click.option("--trials", type=click.IntRange(min=1), required=True, help="How many there should be in all.")
@address_option
@json_option
def command(sweep: str, trials: int, address: str | None, as_json: bool) -> None:
    """Go on with SWEEP until it has so many trials in all."""
    from pace_tune.cluster.jobs import Cluster

    show_submission(Cluster(address).resume(sweep, trials=trials), as_json=as_json)
