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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import IO

import psutil

from pace_tune.errors import PaceTuneError
from pace_tune.tracking.views import views

HOST = "127.0.0.1"
PORT = 5000
TRIES = 5
"""Ports that are tried where other programs take what was free a moment ago."""
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
ENVIRONMENT = {
    # Its job runner starts seven processes that a dashboard has no use for.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class _PortTakenError(PaceTuneError):
    """Another program has the port, or got it first."""

    def __init__(self, port: int) -> None:
        super().__init__(f"port {port} is taken; choose another with --port.")


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
    if _is_server(uri):
        yield uri
        return
    with _running(uri, port=port, artifacts=artifacts, log=log) as (_, address):
        yield address


def serve(uri: str, *, port: int | None = None, artifacts: Path | None = None, browser: bool = True) -> None:
    """Serve a store until Ctrl-C, telling where its tables of runs are and opening the first in a browser.

    Args:
        uri: Of the tracking store.
        port: To listen on; None takes the first free one from 5000.
        artifacts: Folder for artifacts.
        browser: Whether to open a browser.

    Raises:
        PaceTuneError: The server did not come up, or it ended by itself.
    """
    if _is_server(uri):
        _show(uri, uri, browser=browser)
        return
    with _running(uri, port=port, artifacts=artifacts) as (server, address), contextlib.suppress(KeyboardInterrupt):
        _show(uri, address, browser=browser)
        server.wait()
        raise PaceTuneError(f"the dashboard on {address} ended by itself; the same command starts it again.")


def _is_server(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def _show(uri: str, address: str, *, browser: bool) -> None:
    links = {name: f"{address}/{path}" for name, path in views(address)}
    lines = [f"runs of {name}: {link}" for name, link in links.items()]
    lines += [f"dashboard: {address}  (store {uri}; Ctrl-C ends it)"]
    print("\n".join(lines), flush=True)  # noqa: T201  (a command's answer)
    if browser:
        webbrowser.open(next(iter(links.values()), address))


@contextmanager
def _running(
    uri: str, *, port: int | None, artifacts: Path | None, log: Path | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Yield a server that answers, and its address; it ends with the block."""
    with log.open("ab") if log else contextlib.nullcontext(subprocess.DEVNULL) as output:

        def start(port: int) -> subprocess.Popen[bytes]:
            return _started(_command(uri, port=port, artifacts=artifacts), port=port, output=output)

        server, port = (start(port), port) if port is not None else _started_somewhere(start)
        try:
            yield server, _address(port)
        finally:
            _end(server)


def _started_somewhere(start: Callable[[int], subprocess.Popen[bytes]]) -> tuple[subprocess.Popen[bytes], int]:
    """Start a server on the first port that is free, the next one where another program is faster."""
    for port in islice(filter(_is_free, range(PORT, PORT + 100)), TRIES):
        with contextlib.suppress(_PortTakenError):
            return start(port), port
    raise PaceTuneError(f"no port from {PORT} on is free; choose one with --port.")


def _started(command: Sequence[str], *, port: int, output: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Start a server, and return it once it answers on its port."""
    if not _is_free(port):
        raise _PortTakenError(port)
    # A session of its own: Ctrl-C reaches only us, and its workers can be ended with it.
    server = subprocess.Popen(  # noqa: S603  (our own interpreter)
        command, env={**os.environ, **ENVIRONMENT}, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        # Loaded while the server starts: what asks it for its experiments needs it.
        import_module("mlflow.tracking")
        _wait_until_healthy(server, port)
    except BaseException:
        _end(server)
        raise
    return server


def _command(uri: str, *, port: int, artifacts: Path | None) -> list[str]:
    folder = ["--artifacts-destination", str(artifacts)] if artifacts else []
    store = ["--backend-store-uri", uri, "--host", HOST, "--port", str(port), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", "server", *store, *folder]


def _address(port: int) -> str:
    return f"http://{HOST}:{port}"


def _wait_until_healthy(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        ended = server.poll() is not None
        if not ended and _answers(f"{_address(port)}/health"):
            # The answer may be that of another server, which was started at the same moment and was faster.
            if _listens(server, port):
                return
            raise _PortTakenError(port)
        if ended and not _is_free(port):
            raise _PortTakenError(port)
        if ended:
            raise PaceTuneError(f"the dashboard ended at once with status {server.returncode}.")
        time.sleep(0.25)
    raise PaceTuneError(f"the dashboard did not answer on {_address(port)} within {START_TIMEOUT_S:g} s.")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  (http, our own server)
            return bool(answer.status == 200)
    except (OSError, HTTPException):
        return False


def _listens(server: subprocess.Popen[bytes], port: int) -> bool:
    """Whether the server itself, or a process that it started, listens on a port."""
    parent = psutil.Process(server.pid)
    return any(port in _ports(process) for process in (parent, *parent.children(recursive=True)))


def _ports(process: psutil.Process) -> set[int]:
    """Return the ports that a process listens on; none of one that has ended meanwhile."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return {one.laddr.port for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
    return set()


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
