"""Leaves out the processes of Ray's own that a sweep on one machine does not use: its start waits for them, and they take cores."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray._raylet as ray_core
from ray._private import services
from ray._private.node import Node

UNUSED = ("start_api_server", "start_log_monitor", "start_monitor")
"""The dashboard's server, which Ray starts and waits for even where it is switched off; the reader of logs for drivers, which is
switched off too; and the monitor that asks a cloud for nodes."""
AGENT = "--dashboard_agent_command="
AGENT_PORTS = ("METRICS_AGENT_PORT_NAME", "METRICS_EXPORT_PORT_NAME", "DASHBOARD_AGENT_LISTEN_PORT_NAME")
NO_PORT = -1
"""How an agent says that it does not serve something, as it does where Ray was installed without its dashboard."""
# A raylet ends when its agent does, and does not end it everywhere.
STAND_IN = "import os, time\nparent = os.getppid()\nwhile os.getppid() == parent: time.sleep(0.5)"


@contextmanager
def without_helpers() -> Iterator[None]:
    """Start Ray without them. In place of the dashboard's agent, without which no raylet lives, a process waits that loads nothing."""
    methods = {name: getattr(Node, name) for name in UNUSED}
    starting = services.start_ray_process

    def start(command: list[str], *args: Any, **kwargs: Any) -> Any:
        return starting([_replaced(part) for part in command], *args, **kwargs)

    for name in UNUSED:
        setattr(Node, name, lambda *_, **__: None)
    services.start_ray_process = start
    try:
        yield
    finally:
        services.start_ray_process = starting
        for name, method in methods.items():
            setattr(Node, name, method)


def _replaced(part: str) -> str:
    """Return a part of a command, with another agent if it names one; what the agent would say is said at once."""
    if not part.startswith(AGENT):
        return part
    options = dict(word[2:].split("=", 1) for word in shlex.split(part.removeprefix(AGENT)) if word.startswith("--") and "=" in word)
    core: Any = ray_core
    for port in AGENT_PORTS:
        core.persist_port(options["session-dir"], options["node-id"], getattr(core, port), NO_PORT)
    return AGENT + subprocess.list2cmdline([sys.executable, "-I", "-S", "-c", STAND_IN])
