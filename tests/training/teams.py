"""Processes that train together, for tests: gloo on the CPU."""

import inspect
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import multiprocessing

from pace_tune.training.population import Population
from pace_tune.training.team import join

SIZE = 2
CPU = torch.device("cpu")
TIMEOUT_S = 300.0
"""What hangs takes longer."""


def seat_of(rank: int, port: int) -> dict[str, Any]:
    return {"rank": rank, "size": SIZE, "host": "127.0.0.1", "port": port, "hosts": rank == 0}


@pytest.fixture(scope="module")
def in_team() -> Iterator[Callable[..., list[Any]]]:
    """What `fn(team, *args)` gives in each process of a team."""
    with multiprocessing.get_context("spawn").Pool(SIZE) as pool:

        def call(fn: Callable[..., Any], *args: Any) -> list[Any]:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            # They wait for each other, so each takes one.
            return pool.starmap_async(seated, [(fn, seat_of(rank, port), args) for rank in range(SIZE)], chunksize=1).get(TIMEOUT_S)

        yield call


def seated(fn: Callable[..., Any], seat: dict[str, Any], args: tuple[Any, ...]) -> Any:
    torch.set_num_threads(1)
    if "seat" in inspect.signature(fn).parameters:
        return fn(seat, *args)
    team = join(seat, device=CPU)
    backward = Population._backward
    try:
        return fn(team, *args)
    finally:
        Population._backward = backward
        team.leave()
