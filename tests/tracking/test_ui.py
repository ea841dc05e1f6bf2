import json
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import psutil
import pytest

from pace_tune.errors import PaceTuneError
from pace_tune.tracking import ui
from pace_tune.tracking.tracker import Tracker
from pace_tune.tracking.ui import dashboard, serve
from tests.search.stores import runs_in_mlflow
from tests.search.studies import study


def get(url: str, **data) -> bytes:
    body = json.dumps(data).encode() if data else None
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"} if data else {})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read()


STAND_IN = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ours")

server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
server.timeout = 0.5
for _ in range(int(sys.argv[2])):
    server.handle_request()
"""
"""Answers so many requests, or waits half a second for each, and ends."""


@pytest.fixture
def stand_in(monkeypatch):
    """A small server in MLflow's place; return how to say how long it lives."""

    def replace(requests: int = 1000) -> None:
        monkeypatch.setattr(ui, "_command", lambda _, *, port, **__: [sys.executable, "-c", STAND_IN, str(port), str(requests)])

    monkeypatch.setattr(ui, "views", lambda _: [])
    replace()
    return replace


class Stranger(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"somebody else's")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def lost_race(monkeypatch) -> Iterator[int]:
    """A port that another server listens on, though it looked free: both were started at the same moment."""
    with HTTPServer(("127.0.0.1", 0), Stranger) as stranger:
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        monkeypatch.setattr(ui, "_is_free", lambda _: True)
        monkeypatch.setattr(ui, "PORT", stranger.server_port)
        yield stranger.server_port
        stranger.shutdown()


@pytest.mark.usefixtures("stand_in")
def test_where_another_server_was_faster_the_next_port_is_taken_and_never_its_answer(lost_race):
    assert get(f"http://127.0.0.1:{lost_race}") == b"somebody else's"
    with dashboard("sqlite:///x.db") as address:
        assert get(address) == b"ours"
    with pytest.raises(PaceTuneError, match=f"port {lost_race} is taken; choose another"), dashboard("sqlite:///x.db", port=lost_race):
        pass


def test_a_server_that_ends_by_itself_ends_the_command(stand_in, capsys):
    stand_in(requests=8)
    with pytest.raises(PaceTuneError, match="ended by itself; the same command starts it again"):
        serve("sqlite:///x.db", browser=False)
    assert "dashboard: http://127.0.0.1:" in capsys.readouterr().out


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
