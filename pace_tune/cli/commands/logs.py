"""Show what a sweep on a cluster writes."""

from __future__ import annotations

import click

from pace_tune.cli.options import address_option


@click.command()
@click.argument("sweep")
@address_option
@click.option("-f", "--follow", is_flag=True, help="Go on until it ends.")
def command(sweep: str, address: str | None, follow: bool) -> int:
    """Show what SWEEP wrote; following it, the exit status is 1 where it did not finish. Ctrl-C ends the view, not the sweep."""
    from pace_tune.cluster.jobs import STOP_TIMEOUT_S, Cluster

    cluster = Cluster(address)
    if not follow:
        click.echo(cluster.logs(sweep), nl=False)
        return 0
    for lines in cluster.follow(sweep):
        click.echo(lines, nl=False)
    # The log ends a moment before the job.
    return 0 if cluster.wait(sweep, timeout_s=STOP_TIMEOUT_S).state == "finished" else 1
