"""How the commands for clusters show a job."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from pace_tune.cli.output import print_json

if TYPE_CHECKING:
    from pace_tune.cluster.jobs import Job, Submission


def show_submission(submission: Submission, *, as_json: bool) -> None:
    """Say what came of a submission, and how to go on."""
    job = submission.job
    if as_json:
        print_json({**row(job), "attached": submission.attached})
        return
    click.echo(f"{job.name}: {f'is {job.state} already; nothing was sent' if submission.attached else 'sent'}.")
    click.echo(f"Watch it with `pace-tune logs {job.name} --follow`, stop it with `pace-tune stop {job.name}`.")


def row(job: Job) -> dict[str, Any]:
    """Return a job as a row of a table."""
    first_line = job.message.splitlines()[0] if job.message else ""
    return {"sweep": job.name, "state": job.state, "started": _time(job.started_s), "ended": _time(job.ended_s), "message": first_line}


def _time(time_s: float | None) -> str | None:
    return datetime.fromtimestamp(time_s, tz=UTC).strftime("%Y-%m-%d %H:%M:%SZ") if time_s else None
