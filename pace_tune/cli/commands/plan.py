"""Say what a sweep would do before it starts: lanes, rounds, and whether its workers fit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pace_tune.cli.options import json_option, output_option, same_study, settings_option
from pace_tune.cli.output import print_json
from pace_tune.study.study_config import Study
from pace_tune.study.sweep_folder import check_folder
from pace_tune.wording import counted

if TYPE_CHECKING:
    from pace_tune.cluster.resources import Request


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@output_option
@settings_option
@click.option("--node", "nodes", multiple=True, metavar="CPUS[,GPUS]", help="A node of the cluster.  [default: this machine] Repeatable.")
@json_option
def command(study: Path, output: Path | None, settings: dict[str, Any], nodes: tuple[str, ...], as_json: bool) -> None:
    """Show what STUDY, a file, would do, and start nothing.

    Refuses workers that have no room: on CPUs and GPUs of the nodes that are named, else on the CPUs of this machine. Memory is not
    looked at.
    """
    loaded = Study.load(study, settings={**settings, **({"output": str(output)} if output else {})})
    check_folder(loaded)
    from pace_tune.search.plan import plan_sweep

    named = [_node(node) for node in nodes]
    plan = plan_sweep(loaded, nodes=named or None)
    if as_json:
        print_json(plan.as_mapping())
    else:
        click.echo(plan.announcement)
        click.echo(f"{'fits':<10}{plan.request} on {_room(plan.request, named)}")
        # Nodes that are named are those of a cluster.
        start = "submit" if nodes else "sweep"
        click.echo(f"{start:<10}pace-tune {start} {same_study(study, output)}{' --address http://HEAD:8265' if nodes else ''}")


def _node(text: str) -> dict[str, float]:
    cpus, _, gpus = text.partition(",")
    try:
        return {"CPU": float(cpus), "GPU": float(gpus or 0)}
    except ValueError:
        raise click.BadParameter(f"a node is written CPUS or CPUS,GPUS, e.g. 16,4, but got {text!r}.") from None


def _room(request: Request, nodes: Sequence[dict[str, float]]) -> str:
    """Return where the workers were found to fit."""
    from pace_tune.cluster.resources import in_words, total

    if nodes:
        return f"{in_words(total(nodes))} of {counted(len(nodes), 'node')}"
    unseen = "; GPUs are not looked for" if request.gpus_per_worker else ""
    return f"this machine's {in_words({'CPU': os.cpu_count() or 1})}{unseen}"
