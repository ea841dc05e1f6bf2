"""Sweeps on a cluster that is somewhere else: each is a Ray job that keeps running when the one who sent it goes away.

A job's id is the sweep's name, so a second submission attaches to what runs and never starts it twice. One that has ended is
replaced under the same id; the sweep itself goes on where it stopped, for its state lies in its folder and not in the job.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from pace_tune.cluster.parcel import Parcel, again, pack
from pace_tune.cluster.tokens import headers, refusal
from pace_tune.errors import ConfigError, PaceTuneError, UnknownNameError
from pace_tune.study.yaml_text import to_yaml

State: TypeAlias = Literal["pending", "running", "stopped", "finished", "failed"]
STATES: Mapping[JobStatus, State] = {
    JobStatus.PENDING: "pending",
    JobStatus.RUNNING: "running",
    JobStatus.STOPPED: "stopped",
    JobStatus.SUCCEEDED: "finished",
    JobStatus.FAILED: "failed",
}
ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
SWEEP_VARIABLE = "PACE_TUNE_SWEEP"
STUDY, DIGEST = "pace.study", "pace.digest"
STOP_TIMEOUT_S = 120.0
REPLACE_TIMEOUT_S = 60.0
SETTLE_S = 10.0
"""Ray watches a job once a second, by its id and the process that it had. A watcher of the old job that still goes round finds
the old process dead and calls the new job failed; one that comes round first sees that the old job is over, and ends."""
POLL_S = 0.5


class ClusterError(PaceTuneError):
    """The cluster cannot be reached, or does not do what it was asked."""


@dataclass(frozen=True)
class Job:
    """A sweep on the cluster."""

    name: str
    state: State
    message: str = ""
    started_s: float | None = None
    """Seconds since 1970."""
    ended_s: float | None = None
    study: str = ""
    """As it was sent, YAML."""
    digest: str = ""

    @property
    def over(self) -> bool:
        """Whether it has ended, well or not."""
        return self.state in ("stopped", "finished", "failed")


@dataclass(frozen=True)
class Submission:
    """What came of a submission."""

    job: Job
    attached: bool
    """The sweep ran already; nothing was sent."""


class Cluster:
    """The jobs of one Ray cluster.

    Args:
        address: Of its dashboard, e.g. ``http://127.0.0.1:8265``; None takes it from ``RAY_API_SERVER_ADDRESS``.

    Raises:
        ConfigError: There is no address, or one of another kind.
        ClusterError: Nothing answers there, or it does not take the token.

    Example:
        >>> cluster = Cluster("http://127.0.0.1:8265")  # doctest: +SKIP
        >>> cluster.submit("study.yaml", settings={"output": "/shared/pace-runs"}).job.state  # doctest: +SKIP
        'pending'
    """

    def __init__(self, address: str | None = None) -> None:
        self.address = _checked(address or os.environ.get(ADDRESS_VARIABLE, ""))
        # What the parcel holds was chosen; a .gitignore in the data must not thin it out.
        os.environ.setdefault("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "1")
        # It tells of every package that it sends.
        logging.getLogger("ray").setLevel(logging.WARNING)
        with self._talking():
            self._client = JobSubmissionClient(self.address, headers=headers())

    def submit(self, study: str | Path, *, settings: Mapping[str, Any] | None = None) -> Submission:
        """Send a study file, or attach to its sweep where that runs already.

        Raises:
            ConfigError: The study is wrong, or another study runs under its name.
            DataError: The data it takes along are too large.
        """
        return self._send(pack(study, settings=settings))

    def resume(self, name: str, *, trials: int | None = None) -> Submission:
        """Start a sweep again that ended; it goes on where it stopped.

        Args:
            name: Of the sweep.
            trials: How many there should be in all; None leaves it.

        Raises:
            ConfigError: More trials are asked of a sweep that still runs.
        """
        job = self.status(name)
        if not job.over and trials is not None:
            raise ConfigError(f"the sweep {name!r} is {job.state}; stop it first, then extend it.", path="search.trials")
        return self._send(again(job.study, trials=trials))

    def status(self, name: str) -> Job:
        """Return a sweep's job.

        Raises:
            UnknownNameError: The cluster knows no sweep of this name.
        """
        job = self._find(name)
        if job is None:
            raise UnknownNameError("sweep on this cluster", name, [each.name for each in self.list()])
        return job

    def list(self) -> list[Job]:
        """Return every sweep that the cluster knows, the last one first."""
        with self._talking():
            found = [_job(details) for details in self._client.list_jobs() if STUDY in (details.metadata or {})]
        return sorted(found, key=lambda job: job.started_s or 0.0, reverse=True)

    def logs(self, name: str) -> str:
        """Return what a sweep has written so far."""
        self.status(name)
        with self._talking():
            return str(self._client.get_job_logs(name))

    def follow(self, name: str) -> Iterator[str]:
        """Yield what a sweep writes, from its beginning to its end."""
        self.status(name)
        lines = self._client.tail_job_logs(name)
        # Ray's iterator is asynchronous; a loop of its own makes it a plain one.
        loop = asyncio.new_event_loop()
        try:
            while True:
                with self._talking():
                    yield str(loop.run_until_complete(anext(lines)))
        except StopAsyncIteration:
            return
        finally:
            loop.run_until_complete(lines.aclose())  # type: ignore[attr-defined]  # a generator, annotated as an iterator
            loop.close()

    def wait(self, name: str, *, timeout_s: float) -> Job:
        """Wait for a sweep's end, and return how it is then or when the time is over."""
        deadline = time.monotonic() + timeout_s
        while not (job := self.status(name)).over and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return job

    def stop(self, name: str, *, timeout_s: float = STOP_TIMEOUT_S) -> Job:
        """Stop a sweep; what it did is kept.

        Raises:
            ClusterError: It has not stopped in time.
        """
        if not self.status(name).over:
            with self._talking():
                self._client.stop_job(name)
        job = self.wait(name, timeout_s=timeout_s)
        if not job.over:
            raise ClusterError(f"the sweep {name!r} has not stopped within {timeout_s:g} s.")
        return job

    def _send(self, parcel: Parcel) -> Submission:
        there = self._find(parcel.name)
        if there is not None and not there.over:
            return _attach(parcel, there)
        with tempfile.TemporaryDirectory(prefix="pace-") as folder, self._talking():
            parcel.write(Path(folder))
            faster = self._replace(there, parcel, folder)
        return _attach(parcel, faster) if faster else Submission(self.status(parcel.name), attached=False)

    def _replace(self, there: Job | None, parcel: Parcel, folder: str) -> Job | None:
        """Submit a job in place of one that is over; return the job of another one who was faster."""
        deadline = time.monotonic() + REPLACE_TIMEOUT_S
        while True:
            if there is not None:
                time.sleep(settling_s(there, now_s=time.time()))
                self._client.delete_job(parcel.name)
            try:
                self._submit(parcel, folder)
            except RuntimeError as error:
                there = self._find(parcel.name)
                if there is not None and not there.over:
                    return there
                # Ray calls a job stopped a moment before its supervisor is gone, whose name the new one needs; and a
                # head answers a moment before its agent does.
                passing = there is not None or "No available agent" in str(error)
                if not passing or time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)
            else:
                return None

    def _submit(self, parcel: Parcel, folder: str) -> None:
        self._client.submit_job(
            entrypoint=parcel.entrypoint,
            submission_id=parcel.name,
            # Only what is no secret: everybody with the cluster's token can read it.
            runtime_env={"working_dir": folder, "env_vars": {SWEEP_VARIABLE: parcel.name}},
            metadata={STUDY: to_yaml(dict(parcel.study)), DIGEST: parcel.digest},
            # The driver waits nearly all the time.
            entrypoint_num_cpus=0,
        )

    def _find(self, name: str) -> Job | None:
        with self._talking():
            found = [details for details in self._client.list_jobs() if details.submission_id == name]
        return _job(found[0]) if found else None

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Turn what Ray's client raises into one sentence."""
        try:
            yield
        except PaceTuneError:
            raise
        except AuthenticationError:
            raise ClusterError(refusal(self.address)) from None
        # requests raises its errors as OSError.
        except OSError as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ClusterError(f"no Ray dashboard answers at {self.address}: {reason}") from None
        except RuntimeError as error:
            raise ClusterError(f"the cluster at {self.address} said: {str(error).strip().splitlines()[-1]}") from None


def settling_s(job: Job, *, now_s: float) -> float:
    """Return how long Ray may still be busy with a job that is over; the cluster's clock need not be ours."""
    ago_s = 0.0 if job.ended_s is None else now_s - job.ended_s
    return SETTLE_S if ago_s < 0 else max(0.0, SETTLE_S - ago_s)


def _checked(address: str) -> str:
    if not address:
        here = "sweeps of this machine: `pace-tune ls sweeps`"
        raise ConfigError(f"a cluster is needed: give its dashboard's address, or set {ADDRESS_VARIABLE}; {here}.", path="--address")
    if not address.startswith(("http://", "https://")):
        raise ConfigError(f"the address of a dashboard is needed, e.g. http://127.0.0.1:8265, but got {address!r}.", path="--address")
    return address.rstrip("/")


def _attach(parcel: Parcel, there: Job) -> Submission:
    if there.digest != parcel.digest:
        raise ConfigError(f"another study runs under the name {parcel.name!r} on this cluster; choose another `name`.", path="name")
    return Submission(there, attached=True)


def _job(details: JobDetails) -> Job:
    metadata = details.metadata or {}
    return Job(
        str(details.submission_id),
        STATES[details.status],
        # Of a failed job it holds the end of the log as well.
        message=(details.message or "").strip(),
        started_s=_seconds(details.start_time),
        ended_s=_seconds(details.end_time),
        study=metadata.get(STUDY, ""),
        digest=metadata.get(DIGEST, ""),
    )


def _seconds(time_ms: int | None) -> float | None:
    return time_ms / 1000 if time_ms else None
