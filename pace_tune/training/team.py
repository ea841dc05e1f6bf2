"""Processes that train one population together: each takes a part of every batch, and their gradients are added up.

Data parallelism with one bucket: what trains lies in one matrix, so a step costs one all-reduce. Every process draws the noise of
the whole batch and takes its own rows, so a team learns what one process would, up to the order of sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed.device_mesh import DeviceMesh

from pace_tune.errors import UnsupportedError
from pace_tune.pace.draws import Part

START_TIMEOUT_S = 300.0
IDLE_TIMEOUT_S = 30 * 24 * 3600.0
"""A team waits as long as its leader does; a process that dies breaks the connection, which ends the wait at once."""


class StoppedError(Exception):
    """Another process of the team has stopped; what went wrong there is not known yet."""


class BrokenTeamError(Exception):
    """Another process of the team is gone. No lane is to blame: a new team goes on from the checkpoints."""


class Team:
    """The processes that train together; this one is a process alone.

    Attributes:
        rank: Which of them this is; 0 leads.
        size: How many they are.
        lockstep: Whether they wait for each other within a step, so that all must stop where one does.
        on_stop: Called in every process when they stop.
    """

    rank: int = 0
    size: int = 1
    lockstep: bool = False
    on_stop: Callable[[], None] = staticmethod(lambda: None)

    def own(self, parts: list[Part]) -> list[Part]:
        """Return the parts of a batch that this process computes."""
        return parts[self.rank :: self.size]

    def add(self, *tensors: Tensor) -> None:
        """Put the sum over the processes in place of each tensor."""

    def agree(self, error: Exception | None) -> None:
        """Raise in every process what went wrong in one of them.

        Raises:
            torch.OutOfMemoryError: One ran out of memory.
            RuntimeError: Another error of another process; this one's own is raised as it is.
        """
        if error is not None:
            raise error

    def check(self, *, stopping: bool = False) -> None:
        """Meet the others; say whether this process stops.

        Raises:
            StoppedError: Another one does.
        """

    @contextmanager
    def together(self) -> Iterator[None]:
        """Stop in every process what one of them has to stop; all raise then what went wrong in that one, see `agree`.

        Inside there are no meetings but `check`, and what follows one in all processes.
        """
        yield

    @contextmanager
    def unbroken(self) -> Iterator[None]:
        """Tell the loss of another process from what a lane does wrong.

        Raises:
            BrokenTeamError: One is gone.
        """
        yield

    def mesh(self, device: torch.device) -> DeviceMesh:
        """Return the processes as FSDP2 wants them.

        Raises:
            UnsupportedError: A process alone is none.
        """
        raise UnsupportedError("a backbone is spread over several processes, and this one is alone.")

    @contextmanager
    def sharing(self, memory: Mapping[str, Tensor]) -> Iterator[None]:
        """Give every process what the others change in the tensors meanwhile; they change different rows."""
        yield

    def leave(self) -> None:
        """Break the team up."""

    def tell(self, *command: Any) -> None:
        """Have the others do what the leader does next."""

    def hear(self) -> Sequence[Any]:
        """Wait for what the leader does next.

        Raises:
            RuntimeError: The leader is gone.
        """
        raise RuntimeError("a process alone has no leader.")


SOLO = Team()


@dataclass(frozen=True, kw_only=True)
class Seat:
    """A process's place in a team.

    Args:
        host: Where the processes of all teams meet.
        port: Of the meeting place.
        hosts: Whether this process opens it.
        name: Of the team; several may meet at one place.
    """

    rank: int
    size: int
    host: str
    port: int
    hosts: bool
    name: str = "team"


class ProcessTeam(Team):
    """Several processes, one device each: NCCL between GPUs, gloo between CPUs.

    Args:
        seat: This process's place; a process is in one team at a time.
        device: Where it trains.
    """

    def __init__(self, seat: Seat, *, device: torch.device) -> None:
        self.rank, self.size, self.device = seat.rank, seat.size, device
        if device.type == "cuda":
            torch.cuda.set_device(device)
        meeting = distributed.TCPStore(  # type: ignore[attr-defined]  # exported without saying so
            seat.host, seat.port, is_master=seat.hosts, wait_for_workers=False, timeout=timedelta(seconds=START_TIMEOUT_S)
        )
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=distributed.PrefixStore(seat.name, meeting),  # type: ignore[attr-defined]
            rank=seat.rank,
            world_size=seat.size,
            timeout=timedelta(seconds=IDLE_TIMEOUT_S),
        )
        self.add(torch.zeros(1))  # the meeting place may close once all have met

    def add(self, *tensors: Tensor) -> None:
        """Put the sum over the processes in place of each tensor."""
        with self.unbroken():
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def agree(self, error: Exception | None) -> None:
        """Raise in every process what went wrong in one of them."""
        kinds = ("", "other", "memory")
        kind = kinds[0] if error is None else kinds[2] if isinstance(error, torch.OutOfMemoryError) else kinds[1]
        worst = torch.tensor(kinds.index(kind), device=self.device)
        said: list[Any] = [None] * self.size
        with self.unbroken():
            distributed.all_reduce(worst, distributed.ReduceOp.MAX)
            if not worst.item():
                return
            distributed.all_gather_object(said, "" if error is None else f"{type(error).__name__}: {error}")
        text = next(text for text in said if text)
        if kinds[int(worst)] == "memory":
            raise torch.OutOfMemoryError(text)
        raise RuntimeError(text) from error

    def check(self, *, stopping: bool = False) -> None:
        """Meet the others on the CPU, so that no device waits; say whether this process stops."""
        stops = torch.tensor(int(stopping))
        with self.unbroken():
            distributed.all_reduce(stops, distributed.ReduceOp.MAX)
        if stops.item() and not stopping:
            raise StoppedError

    @contextmanager
    def together(self) -> Iterator[None]:
        """Stop in every process what one of them has to stop; a process that stops meets the others at their next `check`."""
        error: Exception | None = None
        try:
            yield
            self.check()
        except (torch.AcceleratorError, BrokenTeamError):
            raise
        except StoppedError:
            pass
        except Exception as caught:  # noqa: BLE001  (whatever it was, the others wait for this process)
            error = caught
            self.check(stopping=True)
        else:
            return
        self.on_stop()
        self.agree(error)

    @contextmanager
    def unbroken(self) -> Iterator[None]:
        """Tell the loss of another process from what a lane does wrong."""
        try:
            yield
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except RuntimeError as error:
            raise BrokenTeamError(f"process {self.rank} of {self.size} lost the others: {error}") from error

    def mesh(self, device: torch.device) -> DeviceMesh:
        """Return the processes as FSDP2 wants them."""
        return DeviceMesh.from_group(distributed.distributed_c10d._get_default_group(), device.type)

    @contextmanager
    def sharing(self, memory: Mapping[str, Tensor]) -> Iterator[None]:
        """Give every process what the others change in the tensors meanwhile; they change different rows."""
        before = {key: value.clone() for key, value in memory.items()}
        yield
        for key, value in memory.items():
            change = value - before[key]
            self.add(change)
            value.copy_(before[key] + change)

    def leave(self) -> None:
        """Break the team up; each process may then join another."""
        distributed.destroy_process_group()

    def tell(self, *command: Any) -> None:
        """Have the others do what the leader does next."""
        if self.rank == 0:
            distributed.broadcast_object_list([command], src=0)

    def hear(self) -> Sequence[Any]:
        """Wait for what the leader does next."""
        box: list[Any] = [None]
        distributed.broadcast_object_list(box, src=0)
        heard: Sequence[Any] = box[0]
        return heard


def join(seat: Mapping[str, Any] | None, *, device: torch.device) -> Team:
    """Return the team that a seat, as a mapping, belongs to; a process alone without one."""
    return SOLO if seat is None else ProcessTeam(Seat(**seat), device=device)
