"""List the sweeps that a cluster knows."""

from __future__ import annotations

import click

from pace_tune.cli.jobs import row
from pace_tune.cli.options import address_option, json_option
from pace_tune.cli.output import print_json, print_table


@click.command()
@address_option
@json_option
def command(address: str | None, as_json: bool) -> None:
    """Show every sweep of the cluster, the last one first."""
    from pace_tune.cluster.jobs import Cluster

    rows = [row(job) for job in Cluster(address).list()]
    if as_json:
        print_json(rows)
    else:
        print_table(rows, columns=("sweep", "state", "started", "ended", "message"))
