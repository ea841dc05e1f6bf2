"""Check this machine: versions, accelerator, disk, folders."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import click
from rich.markup import escape

from pace_tune.cli.options import json_option, output_folder, output_option
from pace_tune.cli.output import console, print_json

PACKAGES = ("torch", "timm", "transformers", "peft", "ray", "optuna", "mlflow", "pydantic")
FREE_GIB = 2.0
"""Less than this and a sweep's checkpoints, database and logs may not fit."""
ACCELERATOR = """
import torch
names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
print(", ".join(names) or "no GPU", "and", torch.get_num_threads(), "torch threads")
"""
MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "fault": "[red]✗[/]"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    check: str
    state: Literal["ok", "warning", "fault"]
    detail: str


@click.command()
@output_option
@json_option
def command(output: Path | None, as_json: bool) -> int:
    """Say whether pace-tune can work on this machine; the exit status is 1 where it cannot."""
    findings = [*examine(output_folder(output))]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            console().print(MARKS[finding.state], escape(f"{finding.check:<16} {finding.detail}"), soft_wrap=True)
    return 1 if any(finding.state == "fault" for finding in findings) else 0


def examine(output: Path) -> Iterator[Finding]:
    """Yield a finding per check.

    Args:
        output: Folder that sweeps will write to.
    """
    yield _python()
    yield from map(_package, PACKAGES)
    checks: tuple[Callable[[], Finding], ...] = (_ray_dashboard, _torch, _hub)
    for check in checks:
        yield check()
    existing = next(folder for folder in (output, *output.parents) if folder.exists())
    yield _writable(output, existing)
    yield _disk(existing)


def _python() -> Finding:
    version = platform.python_version()
    return Finding("python", "ok" if sys.version_info >= (3, 11) else "fault", f"{version}, 3.11 or newer is needed")


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, "fault", "not installed")


def _ray_dashboard() -> Finding:
    """Without ray[default] the dashboard and job submission are missing, and Train's clean-up with them."""
    missing = [name for name in ("aiohttp_cors", "colorful", "opencensus", "prometheus_client") if not _importable(name)]
    if missing:
        return Finding("ray[default]", "fault", f"missing {', '.join(missing)}: pip install 'ray[default,train,tune]'")
    return Finding("ray[default]", "ok", "the dashboard's packages are there")


def _importable(name: str) -> bool:
    from importlib.util import find_spec

    # A module may be loaded without a spec, and find_spec then refuses to answer.
    return name in sys.modules or find_spec(name) is not None


def _torch() -> Finding:
    # In a process of its own: a build of torch that does not fit the machine can end the process that loads it.
    looked = subprocess.run([sys.executable, "-c", ACCELERATOR], capture_output=True, text=True, timeout=120, check=False)  # noqa: S603  (our own text)
    if looked.returncode != 0:
        return Finding("accelerator", "fault", f"torch does not load: {(looked.stderr.strip().splitlines() or ['no message'])[-1]}")
    return Finding("accelerator", "ok", f"{looked.stdout.strip()} on {os.cpu_count()} cores")


def _hub() -> Finding:
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    return Finding("Hugging Face", "ok", f"{'offline' if offline else 'online'}, cache {Path(home).expanduser()}")


def _writable(output: Path, existing: Path) -> Finding:
    good = existing.is_dir() and os.access(existing, os.W_OK)
    return Finding("output", "ok" if good else "fault", f"{output} {'can' if good else 'cannot'} be written")


def _disk(existing: Path) -> Finding:
    free_gib = shutil.disk_usage(existing).free / 2**30
    return Finding("disk", "ok" if free_gib >= FREE_GIB else "warning", f"{free_gib:.1f} GiB free under {existing}")
