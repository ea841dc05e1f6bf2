"""Trainable numbers of all lanes in one matrix: a row a lane, a column a parameter.

Each parameter of a site is a strided view of that matrix, and so is its gradient. An optimizer step is then a
handful of operations whatever the number of lanes and sites, and a lane's checkpoint is a row.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from math import prod

import torch
from torch import Tensor, nn

from pace_tune.methods.context import corner

Shapes = Mapping[str, tuple[int, ...]]


class ParameterBank:
    """Parameters of K lanes.

    Args:
        shapes: Key -> shape of one lane's parameter, padded to the largest lane.
        lanes: K.

    Attributes:
        values_KP: All parameters.
        grads_KP: Their gradients; autograd accumulates into it.
        parameters: Key -> parameter of shape (K, *shape), a view of `values_KP`.
    """

    def __init__(self, shapes: Shapes, *, lanes: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        # Rows of a matrix are strided; autograd accumulates into them in place, which is what we want.
        warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout contract")
        self.shapes = dict(shapes)
        width = sum(prod(shape) for shape in self.shapes.values())
        self.values_KP = torch.zeros(lanes, width, device=device, dtype=dtype)
        self.grads_KP = torch.zeros_like(self.values_KP)
        self.parameters: dict[str, nn.Parameter] = {}
        for key, view in self.views(self.values_KP).items():
            self.parameters[key] = nn.Parameter(view)
        self._tie()

    @property
    def lanes(self) -> int:
        """K."""
        return len(self.values_KP)

    def views(self, matrix_KP: Tensor) -> dict[str, Tensor]:
        """Return key -> (K, *shape) views of a matrix laid out like this bank, e.g. the optimizer's moments."""
        views, start = {}, 0
        for key, shape in self.shapes.items():
            size = prod(shape)
            views[key] = matrix_KP[:, start : start + size].view(len(matrix_KP), *shape)
            start += size
        return views

    def move(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Replace the matrices by `fn` of them; the parameters stay the same objects."""
        self.values_KP, self.grads_KP = fn(self.values_KP), fn(self.grads_KP)
        for key, view in self.views(self.values_KP).items():
            self.parameters[key].grad = None  # of another type or device than what comes
            self.parameters[key].data = view
        self._tie()

    def zero_grad(self) -> None:
        """Set every gradient to zero in place, and tie it to the bank again if someone set it to None."""
        self.grads_KP.zero_()
        for key, view in self._grads.items():
            if self.parameters[key].grad is not view:
                self.parameters[key].grad = view

    def _tie(self) -> None:
        self._grads = self.views(self.grads_KP)
        for key, view in self._grads.items():
            self.parameters[key].grad = view

    def read(self, lane: int, shapes: Shapes, *, matrix_KP: Tensor | None = None) -> dict[str, Tensor]:
        """Return a copy of one lane's tensors in their own, unpadded shapes."""
        matrix = self.values_KP if matrix_KP is None else matrix_KP
        return {key: corner(view[lane], shapes[key]).clone() for key, view in self.views(matrix).items()}

    def write(self, lane: int, tensors: Mapping[str, Tensor], *, matrix_KP: Tensor | None = None) -> None:
        """Copy one lane's tensors in; what pads them is set to zero."""
        matrix = self.values_KP if matrix_KP is None else matrix_KP
        matrix[lane].zero_()
        for key, view in self.views(matrix).items():
            corner(view[lane], tuple(tensors[key].shape)).copy_(tensors[key])
