"""Go on with a sweep on a cluster that stopped, failed or was cut off."""

from __future__ import annotations

import click

from pace_tune.cli.jobs import show_submission
from pace_tune.cli.options import address_option, json_option


@click.command()
@click.argument("sweep")
@address_option
@json_option
def command(sweep: str, address: str | None, as_json: bool) -> None:
    """Start SWEEP again where it stopped.

    A cluster that was set up anew has forgotten it: submit the study again, with the same output, and it goes on all the same.
    """
    from pace_tune.cluster.jobs import Cluster

    show_submission(Cluster(address).resume(sweep), as_json=as_json)
