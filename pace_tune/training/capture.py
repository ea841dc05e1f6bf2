"""A training step recorded as one CUDA graph: the host then launches one thing a step where it launched some 1,700.

A recording holds for as long as lanes and shapes stay: its inputs are the numbers of the samples, the learning rates and the
generators' states, and everything else that it reads or writes (parameters, moments, counts, what objectives remember) stays in
its place. Recording takes about as long as one step, so a population's second step with the same lanes is recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pace_tune.errors import ConfigError

log = logging.getLogger(__name__)

FEWEST_STEPS = 4
"""Of an epoch; with fewer, recording takes longer than it saves where lanes change with every epoch."""
LONGEST_REASON = 300
"""Characters of an error that are shown."""

Sums = dict[str, Tensor]
StepFunction = Callable[[Tensor, Tensor], Sums]
"""Takes index_KB and lr_K, trains, and returns the step's losses."""


class CaptureError(Exception):
    """Recording a step failed, and generators are in no state to go on: the epoch has to run again. Its cause says how."""


class Recording:
    """One step of a population as a CUDA graph.

    Args:
        generators: All that the step draws from.

    Raises:
        CaptureError: The step does what a graph cannot hold, such as waiting for the device, or memory is short.
    """

    def __init__(self, step: StepFunction, index_KB: Tensor, lr_K: Tensor, *, generators: Sequence[torch.Generator]) -> None:
        self._index_KB, self._lr_K = index_KB.clone(), lr_K.clone()
        self._graph = torch.cuda.CUDAGraph()
        for generator in generators:
            self._graph.register_generator_state(generator)
        try:
            # Other threads may talk to the device meanwhile: one that reports does.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._sums = step(self._index_KB, self._lr_K)
        except Exception as error:
            raise CaptureError(" ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_REASON]) from error

    def __call__(self, index_KB: Tensor, lr_K: Tensor) -> Sums:
        """Take a step. The losses are in the same memory each time."""
        self._index_KB.copy_(index_KB)
        self._lr_K.copy_(lr_K)
        self._graph.replay()
        return self._sums


def captures(wanted: object, *, device: torch.device) -> bool:
    """Return whether steps are recorded, from `resources.cuda_graphs`; ``auto`` records on GPUs.

    Raises:
        ConfigError: It is neither ``auto`` nor a truth value, or asks for them where there is no GPU.
    """
    if wanted != "auto" and not isinstance(wanted, bool):
        raise ConfigError(f"one of auto, true, false is needed, but got {wanted!r}.", path="resources.cuda_graphs")
    gpu = device.type == "cuda"
    if wanted is True and not gpu:
        raise ConfigError(
            "CUDA graphs need a GPU, and this worker has none; `auto` takes them where there is one.", path="resources.cuda_graphs"
        )
    return gpu if wanted == "auto" else bool(wanted)
