"""What the sweep cost, and on what it was spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pace_tune.results.cost import Cost
from pace_tune.results.report.drawing import INK, colours_of, draw_legend, mark, new_figure
from pace_tune.results.report.parts import Picture, Section, Table
from pace_tune.results.sweep_data import Sweep
from pace_tune.wording import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def spent(sweep: Sweep, cost: Cost) -> Section:
    """Return the cost by how trials ended."""
    if not cost.lane_s:
        return Section(anchor="cost", title="Cost", missing="the sweep left no times of its trials")
    picture = Picture(
        name=f"{sweep.name}-cost",
        title="Lane-seconds of each trial",
        reading="How long each trial held its lane, in the order of the proposals; pale ones were stopped early or broke.",
        draw=lambda: _draw(sweep, cost),
    )
    columns = {"state": "ended as", "trials": "trials", "epochs": "epochs", "lane_s": "lane-seconds", "share": "share"}
    columns |= {"hours": "GPU-hours" if cost.gpus_per_worker else "worker-hours"}
    note = f"A worker's hours are lane-seconds / {counted(cost.lanes_per_worker, 'lane')} / 3600."
    if any(trial.state == "pruned" for trial in sweep.trials):
        note += " Seconds hold what a lane trains on before it hears that its trial was stopped, epochs do not."
    table = Table(
        name=f"{sweep.name}-cost", title="Cost by how trials ended", columns=columns, rows=_rows(sweep, cost), note=note, left=("state",)
    )
    return Section(anchor="cost", title="Cost", parts=(picture, table))


def _rows(sweep: Sweep, cost: Cost) -> list[dict[str, object]]:
    rows = []
    hours = cost.gpu_hours if cost.gpus_per_worker else cost.worker_hours
    for state in dict.fromkeys(trial.state for trial in sweep.trials):
        trials = [trial for trial in sweep.trials if trial.state == state]
        lane_s = sum(cost.lane_s.get(trial.lane, 0.0) for trial in trials)
        share = lane_s / cost.total_lane_s if cost.total_lane_s else 0.0
        epochs = sum(trial.epoch for trial in trials)
        rows.append(
            {"state": state, "trials": len(trials), "epochs": epochs, "lane_s": round(lane_s, 1), "share": share, "hours": share * hours}
        )
    total = {"state": "all", "trials": len(sweep.trials), "epochs": sum(trial.epoch for trial in sweep.trials)}
    return [*rows, {**total, "lane_s": round(cost.total_lane_s, 1), "share": 1.0, "hours": hours, "_class": "total"}]


def _draw(sweep: Sweep, cost: Cost) -> Figure:
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(8, 2.4)
    axes = figure.subplots()
    colours = colours_of(sweep)
    for trial in sweep.trials:
        alpha = 1.0 if trial.state == "finished" else 0.4
        (bar,) = axes.bar(trial.number, cost.lane_s.get(trial.lane, 0.0), color=colours.get(trial.objective, INK), alpha=alpha, width=0.8)
        mark(bar, sweep, trial)
    axes.set(xlabel="trial", ylabel="lane-seconds")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    draw_legend(axes, colours, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(colours), borderaxespad=0)
    return figure
