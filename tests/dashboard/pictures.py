"""The pages of a sweep as pictures for the documentation: ``python -m tests.dashboard.pictures pace-runs digits``.

The sweep has been confirmed and has a report; its folder holds no sweep of another experiment.
"""

import sys
from pathlib import Path

from pace_tune.results.sweep_data import read_sweep

from .views import ROOT, open_charts, open_report, open_report_artifact, open_runs, quiet_browser, served_dashboard, sweep_run

IMAGES = ROOT / "docs" / "images"


def main(output: Path, name: str) -> None:
    """Open each page, and take its picture."""
    sweep = read_sweep(output / name)
    with quiet_browser() as page:
        open_report(page, sweep.folder, height=1500)
        page.screenshot(IMAGES / "report.png")
        open_report(page, sweep.folder, height=1500, section="Generalisation")
        page.screenshot(IMAGES / "report_generalisation.png")
        with served_dashboard(output, experiment=name) as (address, link):
            open_runs(page, link, more_than=len(sweep.trials))
            page.screenshot(IMAGES / "dashboard_runs.png")
            open_charts(page, link, search="measure/", more_than=5)
            page.run("new Promise(done => setTimeout(done, 1000))")  # the plots move into their place
            page.screenshot(IMAGES / "dashboard_charts.png")
            open_report_artifact(page, address, sweep_run(address, experiment=name))
            # Where the sweep lies on this machine is of no interest.
            page.run(
                "for (const one of document.querySelectorAll('*')) if (/^Path: file:/.test(one.innerText)) one.style.visibility = 'hidden'"
            )
            page.run("new Promise(done => setTimeout(done, 1000))")
            page.screenshot(IMAGES / "dashboard_report.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
