"""Processes that train one population together: each takes a part of every batch, and their gradients are added up.

Data parallelism with one bucket: what trains lies in one matrix, so a step costs one all-reduce. Every process draws the noise of
the whole batch and takes its own rows, so a team learns what one process would, up to the order of sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from pace_tune.pace.draws import Part

START_TIMEOUT_S = 300.0
IDLE_TIMEOUT_S = 30 * 24 * 3600.0
"""A team waits as long as its leader does; a process that dies breaks the connection, which ends the wait at once."""


class Team:
    """The processes that train together; this one is a process alone.

    Attributes:
        rank: Which of them this is; 0 leads.
        size: How many they are.
    """

    rank: int = 0
    size: int = 1

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
        for tensor in tensors:
            distributed.all_reduce(tensor)

    def agree(self, error: Exception | None) -> None:
        """Raise in every process what went wrong in one of them."""
        kinds = ("", "other", "memory")
        kind = kinds[0] if error is None else kinds[2] if isinstance(error, torch.OutOfMemoryError) else kinds[1]
        worst = torch.tensor(kinds.index(kind), device=self.device)
        distributed.all_reduce(worst, distributed.ReduceOp.MAX)
        if not worst.item():
            return
        said: list[Any] = [None] * self.size
        distributed.all_gather_object(said, "" if error is None else f"{type(error).__name__}: {error}")
        text = next(text for text in said if text)
        if kinds[int(worst)] == "memory":
            raise torch.OutOfMemoryError(text)
        raise RuntimeError(text) from error

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
