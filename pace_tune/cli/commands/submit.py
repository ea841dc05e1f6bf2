"""Run a study on a cluster; it keeps running when this machine goes away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pace_tune.cli.jobs import show_submission
from pace_tune.cli.options import address_option, json_option, settings_option


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@address_option
@click.option("--output", help="Absolute folder of sweeps, on storage that all nodes of the cluster share.")
@settings_option
@json_option
def command(study: Path, address: str | None, output: str | None, settings: dict[str, Any], as_json: bool) -> None:
    """Send STUDY, a file, to a Ray cluster and run it there.

    A second submission of a sweep that runs attaches to it. Relative paths in the study travel along, 100 MiB at most; absolute
    ones are the cluster's.
    """
    from pace_tune.cluster.jobs import Cluster

    submission = Cluster(address).submit(study, settings={**settings, **({"output": output} if output else {})})
    show_submission(submission, as_json=as_json)
