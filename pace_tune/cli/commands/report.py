"""Write one HTML page on sweeps: what won, what mattered, how it generalised, what it cost."""

from __future__ import annotations

from pathlib import Path

import click

from pace_tune.cli.options import json_option, output_folder, output_option
from pace_tune.cli.output import console, print_json


@click.command()
@click.argument("studies", nargs=-1)
@click.option("--paper", is_flag=True, help="Add the published tables, with our confirmed scores beside them.")
@output_option
@click.option(
    "-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="The page.  [default: report.html in the sweep's folder]"
)
@click.option("--track/--no-track", default=True, help="Also put the page on the sweep's run in the dashboard.")
@json_option
def command(studies: tuple[str, ...], paper: bool, output: Path | None, out: Path | None, track: bool, as_json: bool) -> None:
    """Write the report of STUDIES, by sweep, study file or task; of every sweep in the folder where none is named.

    Pictures (PNG, SVG) and tables (CSV, LaTeX) land in a folder beside the page, which needs neither them nor a network.
    """
    from pace_tune.cli.dashboard import track as put_on_run
    from pace_tune.results.best import choose_sweeps
    from pace_tune.results.report.write import write_report

    folder = output_folder(output)
    sweeps = choose_sweeps(folder, *studies)
    path = out or (sweeps[0].folder if len(sweeps) == 1 else folder) / "report.html"
    with console(stderr=True).status("report") as status:
        report = write_report(sweeps, path.expanduser().absolute(), paper=paper, progress=status.update)
    tracked = [sweep.name for sweep in sweeps if track and put_on_run(sweep.folder, files=[report.path])]
    if as_json:
        files = [str(file) for file in report.files]
        print_json({"report": str(report.path), "sweeps": [sweep.name for sweep in sweeps], "files": files, "tracked": tracked})
        return
    names = ", ".join(tracked)
    click.echo(f"report    {report.path}")
    click.echo(f"pictures  {report.files[0].parent if report.files else ''}")
    click.echo(f"dashboard {f'the page is also on the run of {names} (`pace-tune ui`)' if tracked else 'no run to put it on'}")
