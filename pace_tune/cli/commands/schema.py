"""Print the JSON Schema of study files, for editors."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write it to a file.")
def command(out: Path | None) -> None:
    """Print the JSON Schema of a study file, with every registered component and its fields.

    Put `# yaml-language-server: $schema=study.schema.json` on top of a study, and an editor completes and checks it.
    """
    from pace_tune.study.schema import study_schema

    text = json.dumps(study_schema(), indent=1, ensure_ascii=False)
    if out is None:
        click.echo(text)
        return
    from pace_tune.files import write_text

    write_text(out, text + "\n")
    click.echo(f"wrote {out}", err=True)
