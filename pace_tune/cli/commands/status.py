"""Say how a sweep on a cluster is doing."""

from __future__ import annotations

import click

from pace_tune.cli.jobs import row
from pace_tune.cli.options import address_option, json_option
from pace_tune.cli.output import print_json

LAST_LINES = 3


@click.command()
@click.argument("sweep")
@address_option
@json_option
def command(sweep: str, address: str | None, as_json: bool) -> int:
    """Show the state of SWEEP and the last lines it wrote; the exit status is 1 where it failed."""
    from pace_tune.cluster.jobs import Cluster

    cluster = Cluster(address)
    job = cluster.status(sweep)
    last = cluster.logs(sweep).splitlines()[-LAST_LINES:]
    if as_json:
        print_json({**row(job), "last_lines": last})
    else:
        click.echo("\n".join([f"{key:<8} {value}" for key, value in row(job).items() if value] + last))
    return 1 if job.state == "failed" else 0
