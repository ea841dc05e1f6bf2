"""Ways to the pages that people look at, for the tests and for the pictures of the documentation."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.tracking import MlflowClient

from .browser import Page, opened

ROOT = Path(__file__).parents[2]
QUIET_START = """
for (const [key, value] of [["mlflow.workflowType_v1", '"machine_learning"'], ["mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true"]])
  try { localStorage.setItem(key, value); } catch {}
"""
CARDS = "[...document.querySelectorAll('.js-plotly-plot')]"
FRAME = "document.querySelector('iframe.mlflow-html-iframe')"


@contextmanager
def quiet_browser() -> Iterator[Page]:
    """A tab in which MLflow does not introduce itself."""
    with opened() as page:
        page.before_each_page(QUIET_START)
        yield page


@contextmanager
def served_dashboard(output: Path, *, experiment: str) -> Iterator[tuple[str, str]]:
    """`pace-tune ui` on a folder of sweeps of one experiment: the address, and the table of its runs, as it prints them."""
    command = [sys.executable, "-m", "pace_tune", "ui", "--no-browser", "--output", str(output)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        link = re.fullmatch(r"runs of (.+): (http\S+)\n", process.stdout.readline())
        address = re.match(r"dashboard: (http://127\.0\.0\.1:\d+) ", process.stdout.readline())
        assert link.group(1) == experiment
        yield address.group(1), link.group(2)
    finally:
        process.terminate()
        process.wait(30)


def open_runs(page: Page, link: str, *, more_than: int) -> None:
    """The table of runs, once so many rows are drawn."""
    page.open(link, width=1700, height=1000)
    page.wait(f"document.querySelectorAll('.ag-row').length > {more_than}")


def open_charts(page: Page, link: str, *, search: str, more_than: int) -> list[int]:
    """The charts of metrics with some words in their names, once so many are drawn; how many lines each of them has."""
    page.open(f"{link}&compareRunsMode=CHART", width=1700, height=1400)
    field = "document.querySelector('input[placeholder=\"Search metric charts\"]')"
    page.wait(f"{field} !== null")
    page.run(f"{field}.focus()")
    page.send("Input.insertText", text=search)
    lines = f"{CARDS}.map(plot => plot.querySelectorAll('.scatterlayer .trace').length)"
    return page.wait(f"({CARDS}.length > {more_than}) && {lines}.every(count => count > 0) && {lines}", timeout_s=90)


def open_report_artifact(page: Page, address: str, run_id: str) -> None:
    """The report where it lies on the sweep's run."""
    page.open(f"{address}/#/experiments/1/runs/{run_id}/artifacts/report.html", width=1700, height=1000)
    page.wait(f"{FRAME} !== null")


def open_report(page: Page, folder: Path, *, width: int = 1250, height: int = 1400, section: str = "") -> None:
    """The report by itself, at a section."""
    page.open((folder / "report.html").as_uri(), width=width, height=height)
    page.wait("document.readyState == 'complete' && document.querySelector('tr[data-trial]') !== null")
    if section:
        page.run(f"[...document.querySelectorAll('h3')].find(one => one.innerText.startsWith('{section}')).scrollIntoView()")


def sweep_run(address: str, *, experiment: str) -> str:
    """The run of the only sweep in an experiment."""
    client = MlflowClient(address)
    (one,) = (found for found in client.search_experiments() if found.name == experiment)
    (run,) = client.search_runs([one.experiment_id], "tags.`pace.kind` = 'sweep'")
    return run.info.run_id
