"""MLflow's own pages on a sweep of ours, seen by a browser against `pace-tune ui`."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pace_tune.cli.main import run
from pace_tune.results.report.page import Chapter
from pace_tune.results.report.page import page as report_page
from pace_tune.results.sweep_data import Sweep, read_sweep
from pace_tune.study.study_config import Study
from pace_tune.tracking.tracker import Tracker
from tests.results.planted_sweep import write_planted

from .browser import Page, chromium
from .views import open_charts, open_report, open_report_artifact, open_runs, quiet_browser, served_dashboard, sweep_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine"),
    pytest.mark.timeout(900),
]
# MLflow's own: it asks for a user that only its log-in knows, and its layout observer is impatient.
KNOWN = re.compile(r"404 .*/users/current|ResizeObserver loop")


@dataclass
class Served:
    address: str
    link: str
    """What `pace-tune ui` says to open."""
    sweep: Sweep


def track(folder: Path) -> Sweep:
    """Write a planted sweep into a store, as a sweep does."""
    study = Study.load(folder / "study.yaml", settings={"output": str(folder.parent), "name": folder.name})
    shutil.rmtree(folder / "spool")
    tracker = Tracker(study, folder=folder, sweep_id=f"{folder.name}-id")
    tracker.start()
    sweep = read_sweep(folder)
    for trial in sweep.trials:
        tracker.started(trial.lane, study.run(trial.chosen).as_mapping())
        for report in trial.reports:
            tracker.reported(trial.lane, epoch=report["epoch"], metrics=report["metrics"])
        tracker.ended(trial.lane, outcome=trial.state, reason=trial.reason)
    assert tracker.close("finished", best=sweep.ranked[0].lane, timeout_s=300) == 0
    return sweep


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    output = tmp_path_factory.mktemp("runs")
    sweep = track(write_planted(output, name="digits", trials=14))
    assert run(["report", "digits", "--output", str(output)]) == 0
    with served_dashboard(output, experiment="digits") as (address, link):
        yield Served(address, link, sweep)


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with quiet_browser() as page:
        yield page


@pytest.fixture
def page(browser) -> Iterator[Page]:
    browser.errors.clear()
    yield browser
    browser.run("1")  # whatever the page had to say is read
    assert not [error for error in browser.errors if not KNOWN.search(error)]


def names_in_order(page: Page) -> list[str]:
    # The table keeps rows in the order in which it made them; their index says where they stand.
    rows = page.run("[...document.querySelectorAll('.ag-row')].map(row => [+row.getAttribute('row-index'), row.innerText])")
    found = {index: name.group() for index, text in rows if (name := re.search(r"digits-t\d{4}", text))}
    return [found[index] for index in sorted(found)]


def test_the_experiment_opens_with_its_description_and_runs_by_worth(served, page):
    open_runs(page, served.link, more_than=14)
    assert "Fine-tuning runs on one data set" in page.text()
    last = {trial.lane: trial.reports[-1]["metrics"]["val/accuracy"] for trial in served.sweep.trials}
    found = names_in_order(page)
    assert sorted(found) == [f"digits-{lane}" for lane in sorted(last)]
    worth = [last[name.removeprefix("digits-")] for name in found]
    assert worth == sorted(worth, reverse=True)
    for heading in ("best/accuracy", "measure/grad_norm"):
        assert heading in page.text()


def test_charts_of_gradient_norm_and_fp_distance_draw_several_runs(served, page):
    lines = open_charts(page, served.link, search="measure/", more_than=1)
    assert len(lines) == 2
    assert min(lines) >= 5
    for title in ("measure/grad_norm", "measure/fp_distance"):
        assert title in page.text()


def test_the_report_renders_as_an_artifact_of_the_sweeps_run(served, page):
    open_report_artifact(page, served.address, sweep_run(served.address, experiment="digits"))
    assert page.run("document.querySelector('iframe.mlflow-html-iframe').sandbox.value") == "allow-scripts"
    text = page.run_in_frame("document.body.innerText")
    assert "Leaderboard" in text
    assert "Generalisation: measures against the gap" in text
    assert "at matched training loss" in text
    assert f"{served.sweep.ranked[0].value:.4f}" in text
    assert page.run_in_frame("document.querySelectorAll('figure svg').length") >= 7


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_report_by_itself_points_out_a_trial_and_needs_no_network(served, page, theme):
    page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    open_report(page, served.sweep.folder)
    page.point_at("tr[data-trial]")
    page.wait("document.body.classList.contains('pointing')")
    best = f"digits--{served.sweep.ranked[0].lane}"
    assert page.run(f"[...document.querySelectorAll('.mark.hot')].every(mark => mark.dataset.trial == '{best}')")
    assert page.run("document.querySelectorAll('.mark.hot').length") >= 8
    assert page.run("document.getElementById('tip').innerText").startswith(served.sweep.ranked[0].lane)
    assert page.run("performance.getEntriesByType('resource').filter(one => !one.name.startsWith('data:')).length") == 0


@pytest.mark.parametrize("width", [1250, 340])
def test_a_section_that_is_gone_to_is_not_behind_the_list_of_sections(served, page, width):
    open_report(page, served.sweep.folder, width=width, height=700)
    for link in range(2, page.run("document.querySelectorAll('nav a').length"), 3):
        page.run(f"document.querySelectorAll('nav a')[{link}].click()")
        top = "document.getElementById(location.hash.slice(1)).querySelector('h3').getBoundingClientRect().top"
        bottom = "document.querySelector('nav').getBoundingClientRect().bottom"
        assert page.run(f"{top} - {bottom}") >= 0 or page.run("scrollY + innerHeight >= document.documentElement.scrollHeight - 1")


def test_a_tile_holds_its_number_whole(page, tmp_path):
    tiles = [(f"tile {place}", "-0.1205 ± 0.9356", "2 seeds") for place in range(5)]
    text = report_page("widths", [Chapter("study-0", "widths", "", tiles, [])], drawn={}, files="", trials={})
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    page.open((tmp_path / "page.html").as_uri(), width=1200, height=600)
    page.wait("document.querySelectorAll('.tile .large').length === 5")
    beyond = "[...document.querySelectorAll('.tile')].filter(tile => tile.scrollWidth > tile.clientWidth).length"
    assert page.run(beyond) == 0
