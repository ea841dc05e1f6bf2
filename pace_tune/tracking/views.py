"""Where the dashboard shows the experiments of our sweeps."""

from __future__ import annotations

from pace_tune.tracking.notes import VIEW_TAG, view_path


def views(uri: str) -> list[tuple[str, str]]:
    """Return (experiment, path in the dashboard) of every experiment that has our view, the last used first."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    try:
        found = list(MlflowClient(uri).search_experiments())
    except MlflowException:
        return []  # a link that is missing is no reason not to serve
    ours = [one for one in found if VIEW_TAG in one.tags]
    return [(one.name, view_path(one.experiment_id)) for one in sorted(ours, key=lambda one: -(one.last_update_time or 0))]
