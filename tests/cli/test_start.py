"""What a user waits for first."""

import os
import statistics
import subprocess
import sys
import time

import pytest

from pace_tune.cli.main import COMMANDS

from .conftest import ROOT

HEAVY = {"torch", "ray", "mlflow", "optuna", "timm", "transformers", "pandas", "matplotlib"}
LISTS = ["tasks", "methods", "objectives", "backbones", "samplers", "studies"]


def started(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "pace_tune", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def loaded_by(*arguments: str) -> set[str]:
    code = f"import sys\nfrom pace_tune.cli.main import run\nrun({list(arguments)!r})\nprint('LOADED', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    return {name.split(".")[0] for name in done.stdout.rpartition("LOADED")[2].split()}


def test_help_answers_at_once_and_names_every_command():
    times_s = []
    for _ in range(3):
        start = time.perf_counter()
        done = started("--help")
        times_s.append(time.perf_counter() - start)
    assert done.returncode == 0
    assert all(f"  {path.stem} " in done.stdout for path in COMMANDS.glob("*.py") if path.stem != "__init__")
    assert statistics.median(times_s) < 0.7


def test_help_loads_no_command_and_nothing_heavy():
    loaded = loaded_by("--help")
    assert not loaded & (HEAVY | {"pydantic", "rich", "yaml"})


@pytest.mark.parametrize("kind", LISTS)
def test_ls_loads_nothing_heavy(kind):
    assert not loaded_by("ls", kind) & HEAVY


@pytest.mark.parametrize("name", sorted(path.stem for path in COMMANDS.glob("*.py") if path.stem != "__init__"))
def test_the_help_of_a_command_loads_nothing_heavy(name):
    assert not loaded_by(name, "--help") & HEAVY


def test_no_colours_in_a_pipe():
    done = started("ls", "objectives")
    assert "plain" in done.stdout
    assert "\x1b" not in done.stdout + started("ls", "nothing").stderr


def test_a_reader_that_goes_away_is_no_error():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "pace_tune", "ls", "methods"]
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(write)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
