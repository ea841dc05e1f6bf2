"""Stop a sweep on a cluster; what it did is kept."""

from __future__ import annotations

import click

from pace_tune.cli.options import address_option


@click.command()
@click.argument("sweep")
@address_option
def command(sweep: str, address: str | None) -> None:
    """Stop SWEEP and wait until it has stopped; `pace-tune resume` goes on with it."""
    from pace_tune.cluster.jobs import Cluster

    job = Cluster(address).stop(sweep)
    click.echo(f"{job.name}: {job.state}. Go on with `pace-tune resume {job.name}`.")
