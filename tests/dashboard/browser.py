"""A headless Chromium driven over a pipe: opens pages, runs scripts in them, takes screenshots, collects errors.

The DevTools protocol is JSON messages that end in a zero byte; over a pipe it needs neither a port nor another package.
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--no-first-run",
    "--hide-scrollbars",
    "--mute-audio",
    # Nothing but this machine can be reached.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    # Frames of the page can be looked into.
    "--disable-features=IsolateSandboxedIframes",
    "--disable-site-isolation-trials",
    "--remote-debugging-pipe",
)


def chromium() -> str | None:
    """The browser of this machine."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers, self._buffer, self._last = commands, answers, b"", 0
        self.errors: list[str] = []
        """What the page wrote to its console as an error, what it threw, and what it could not load."""
        self._session = ""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, *, timeout_s: float = 60.0, **params: Any) -> dict[str, Any]:
        self._last += 1
        session = {"sessionId": self._session} if self._session else {}
        os.write(self._commands, json.dumps({"id": self._last, "method": method, "params": params, **session}).encode() + b"\0")
        deadline = time.monotonic() + timeout_s
        while True:
            message = self._receive(deadline)
            if message.get("id") == self._last:
                assert "error" not in message, (method, message["error"])
                return message["result"]

    def open(self, url: str, *, width: int = 1500, height: int = 950) -> None:
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.send("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str, *, timeout_s: float = 60.0) -> Any:
        """The value of an expression once it is true."""
        deadline = time.monotonic() + timeout_s
        while not (value := self.run(script)):
            if time.monotonic() > deadline:
                raise AssertionError(f"still not true: {script}\n{self.run('document.body.innerText')[:3000]}")
            time.sleep(0.25)
        return value

    def run_in_frame(self, script: str) -> Any:
        """The value of an expression in the page's last frame."""
        frame = self.send("Page.getFrameTree")["frameTree"].get("childFrames", [])[-1]["frame"]["id"]
        world = self.send("Page.createIsolatedWorld", frameId=frame)["executionContextId"]
        return self.send("Runtime.evaluate", expression=script, contextId=world, returnByValue=True)["result"].get("value")

    def point_at(self, selector: str) -> None:
        """Move the mouse over an element."""
        script = f"(() => {{ const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
        x, y = self.run(f"{script} return [box.x + box.width / 2, box.y + box.height / 2]; }})()")
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def before_each_page(self, script: str) -> None:
        """Run a script in each page before its own."""
        self.send("Page.addScriptToEvaluateOnNewDocument", source=script)

    def text(self) -> str:
        return self.run("document.body.innerText")

    def screenshot(self, path: Path) -> Path:
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))
        return path

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise AssertionError("the browser did not answer in time")
            found = os.read(self._answers, 1 << 20)
            if not found:
                raise AssertionError("the browser ended")
            self._buffer += found
        message, _, self._buffer = self._buffer.partition(b"\0")
        event = json.loads(message)
        self._note(event.get("method", ""), event.get("params", {}))
        return event

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(one.get("value", one.get("description", ""))) for one in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            entry = params["entry"]
            self.errors.append(f"{entry['text']} {entry.get('url', '')}")


@contextmanager
def opened() -> Iterator[Page]:
    """A tab of a browser of its own, which ends with the block."""
    found = chromium()
    assert found is not None
    (read_command, write_command), (read_answer, write_answer) = _pipe(), _pipe()
    redirected = f'exec "$@" 3<&{read_command} 4>&{write_answer}'
    with tempfile.TemporaryDirectory(prefix="pt-browser-", ignore_cleanup_errors=True) as profile:
        command = ["bash", "-c", redirected, "browser", found, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(read_command, write_answer))
        try:
            yield Page(write_command, read_answer)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            for descriptor in (read_command, write_command, read_answer, write_answer):
                os.close(descriptor)


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are not 3 or 4, which the browser's own become."""
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return moved[0], moved[1]
