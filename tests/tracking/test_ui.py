import json
import socket
import urllib.request

import psutil
import pytest

from pace_tune.errors import PaceTuneError
from pace_tune.tracking.tracker import Tracker
from pace_tune.tracking.ui import dashboard
from tests.search.stores import runs_in_mlflow
from tests.search.studies import study


def get(url: str, **data) -> bytes:
    body = json.dumps(data).encode() if data else None
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"} if data else {})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read()


def test_a_port_that_is_taken_is_said_to_be():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PaceTuneError, match="is taken; choose another"), dashboard("sqlite:///x.db", port=taken.getsockname()[1]):
            pass


def test_a_server_of_its_own_is_not_served_again():
    with dashboard("http://10.0.0.1:5000") as address:
        assert address == "http://10.0.0.1:5000"


@pytest.mark.slow
def test_the_dashboard_shows_a_sweep_and_ends_with_all_of_its_processes(tmp_path, mlflow_store):
    what = study(tmp_path, name=tmp_path.name, tracking={"uri": mlflow_store, "experiment": tmp_path.name})
    what.folder.mkdir(parents=True)
    tracker = Tracker(what, folder=what.folder, sweep_id="a")
    tracker.start()
    tracker.started("t0000", {"task": "t", "backbone": "b", "method": "m", "objective": "o"})
    tracker.close("finished")
    (run,) = runs_in_mlflow(what)
    before = set(psutil.Process().children(recursive=True))
    with dashboard(mlflow_store) as address:
        server = set(psutil.Process().children(recursive=True)) - before
        assert b"<html" in get(address).lower()
        found = json.loads(get(f"{address}/api/2.0/mlflow/runs/search", experiment_ids=[run.info.experiment_id]))
        assert {one["info"]["run_name"] for one in found["runs"]} == {what.name, f"{what.name}-t0000 o"}
        assert b"task" in get(f"{address}/get-artifact?path=RUN.yaml&run_uuid={run.info.run_id}")
    assert server
    _, alive = psutil.wait_procs(server, timeout=10)
    assert not alive
