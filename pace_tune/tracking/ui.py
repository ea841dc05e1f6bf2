"""The dashboard: MLflow's own server on the store of the sweeps, as a child that ends with us."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from pace_tune.errors import PaceTuneError
from pace_tune.tracking.views import views

HOST = "127.0.0.1"
PORT = 5000
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
ENVIRONMENT = {
    # Its job runner starts seven processes that a dashboard has no use for.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@contextmanager
def dashboard(uri: str, *, port: int | None = None, artifacts: Path | None = None, log: Path | None = None) -> Iterator[str]:
    """Serve a store on this machine, and yield the address once the server answers.

    Args:
        uri: Of the tracking store. A server's own address is yielded as it is.
        port: To listen on; None takes 5000, or the next one that is free.
        artifacts: Folder for artifacts of runs that others log through this server.
        log: File for the server's output; None drops it.

    Raises:
        PaceTuneError: The port is taken, or the server did not come up.
    """
    if uri.startswith(("http://", "https://")):
        yield uri
        return
    if port is not None and not _is_free(port):
        raise PaceTuneError(f"port {port} is taken; choose another with --port.")
    port = port or _free_port(PORT)
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("ab")) if log else subprocess.DEVNULL
        # A session of its own: Ctrl-C reaches only us, and its workers can be ended with it.
        server = subprocess.Popen(  # noqa: S603  (our own interpreter)
            _command(uri, port=port, artifacts=artifacts),
            env={**os.environ, **ENVIRONMENT},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        stack.callback(_end, server)
        address = f"http://{HOST}:{port}"
        # Loaded while the server starts: what asks it for its experiments needs it.
        import_module("mlflow.tracking")
        _wait_until_healthy(server, address)
        yield address


def serve(uri: str, *, port: int | None = None, artifacts: Path | None = None, browser: bool = True) -> None:
    """Serve a store until Ctrl-C, telling where its tables of runs are and opening the first in a browser.

    Args:
        uri: Of the tracking store.
        port: To listen on; None takes the first free one from 5000.
        artifacts: Folder for artifacts.
        browser: Whether to open a browser.

    Raises:
        PaceTuneError: The server did not come up.
    """
    with dashboard(uri, port=port, artifacts=artifacts) as address:
        links = {name: f"{address}/{path}" for name, path in views(address)}
        lines = [f"runs of {name}: {link}" for name, link in links.items()]
        lines += [f"dashboard: {address}  (store {uri}; Ctrl-C ends it)"]
        print("\n".join(lines), flush=True)  # noqa: T201  (a command's answer)
        if browser:
            webbrowser.open(next(iter(links.values()), address))
        if address != uri:
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()


def _command(uri: str, *, port: int, artifacts: Path | None) -> list[str]:
    folder = ["--artifacts-destination", str(artifacts)] if artifacts else []
    store = ["--backend-store-uri", uri, "--host", HOST, "--port", str(port), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", "server", *store, *folder]


def _wait_until_healthy(server: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise PaceTuneError(f"the dashboard ended at once with status {server.returncode}.")
        if _answers(f"{address}/health"):
            return
        time.sleep(0.25)
    raise PaceTuneError(f"the dashboard did not answer on {address} within {START_TIMEOUT_S:g} s.")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  (http, our own server)
            return bool(answer.status == 200)
    except OSError:
        return False


def _end(server: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        try:
            server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            continue
        # Its workers may outlive it for a moment.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        return


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _free_port(first: int) -> int:
    for port in range(first, first + 100):
        if _is_free(port):
            return port
    raise PaceTuneError(f"no port from {first} to {first + 99} is free.")
