"""What a sweep asks of a cluster, how much of it fits, and the sentence for what never will."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pace_tune.errors import ConfigError
from pace_tune.wording import counted

_ENOUGH = 10_000


@dataclass(frozen=True)
class Request:
    """The warm workers of a sweep."""

    workers: int = 1
    lanes: int = 4
    """Per worker."""
    cpus_per_worker: float = 1.0
    """Of each of its processes."""
    gpus_per_worker: float = 0.0
    """Of all its processes together."""
    processes: int = 1
    """Per worker; they train each batch together."""
    auto_lanes: bool = False
    """Whether `lanes` is the most, and each worker finds by itself how many of them pay."""

    @property
    def slots(self) -> int:
        """Trials that run at once."""
        return self.workers * self.lanes

    @property
    def places(self) -> int:
        """Processes of all workers."""
        return self.workers * self.processes

    def bundle(self) -> dict[str, float]:
        """Return what one process takes, in Ray's words."""
        gpus = self.gpus_per_worker / self.processes
        return {"CPU": self.cpus_per_worker, **({"GPU": gpus} if gpus else {})}

    def __str__(self) -> str:
        """Return the workers in words."""
        each = f" of {self.processes} processes" if self.processes > 1 else ""
        return f"{counted(self.workers, 'worker')}{each} of {in_words(self.bundle())}"


def gpus_per_worker(wanted: str | float, *, workers: int, nodes: Sequence[Mapping[str, float]]) -> float:
    """Return how many GPUs each worker takes; ``auto`` is one where there is one for each worker, else none."""
    if wanted != "auto":
        return float(wanted)
    return 1.0 if sum(int(node.get("GPU", 0)) for node in nodes) >= workers else 0.0


def slots(nodes: Sequence[Mapping[str, float]], bundles: Sequence[Mapping[str, float]]) -> int:
    """Return how many times a set of bundles fits on the nodes at once.

    A fraction of a GPU never spans two of them, so eight GPUs hold 48 times 0.15, not 53.

    Example:
        >>> slots([{"CPU": 64, "GPU": 8}], [{"CPU": 1, "GPU": 0.15}])
        48
    """
    free = [_Node(node) for node in nodes]
    fitted = 0
    while fitted < _ENOUGH and all(any(node.take(bundle) for node in free) for bundle in bundles):
        fitted += 1
    return fitted


class _Node:
    """What is left of a node."""

    def __init__(self, resources: Mapping[str, float]) -> None:
        self.rest = {name: amount for name, amount in resources.items() if name != "GPU"}
        self.gpus = [1.0] * int(resources.get("GPU", 0))

    def take(self, bundle: Mapping[str, float]) -> bool:
        """Take a bundle off the node if it fits."""
        others = {name: amount for name, amount in bundle.items() if name != "GPU"}
        chosen = self._gpus_for(bundle.get("GPU", 0.0))
        if chosen is None or any(self.rest.get(name, 0.0) + 1e-9 < amount for name, amount in others.items()):
            return False
        for name, amount in others.items():
            self.rest[name] = self.rest.get(name, 0.0) - amount
        for index, share in chosen.items():
            self.gpus[index] -= share
        return True

    def _gpus_for(self, wanted: float) -> dict[int, float] | None:
        if wanted < 1:
            fits = [index for index, left in enumerate(self.gpus) if left + 1e-9 >= wanted]
            return {} if not wanted else {fits[0]: wanted} if fits else None
        whole = [index for index, left in enumerate(self.gpus) if left > 1 - 1e-9][: int(wanted)]
        return dict.fromkeys(whole, 1.0) if len(whole) == int(wanted) else None


def refuse_infeasible(request: Request, *, nodes: Sequence[Mapping[str, float]]) -> None:
    """Refuse what the cluster could never place; Ray would wait for it for ever and say nothing.

    Raises:
        ConfigError: They do not fit.
    """
    fit = slots(nodes, [request.bundle()])
    if fit < request.places:
        raise ConfigError(f"{request} cannot be placed: there is room for {fit} on {in_words(total(nodes))}.", path="resources.workers")


def total(nodes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the CPUs and GPUs of all nodes together."""
    sums = {name: sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU")}
    return {name: amount for name, amount in sums.items() if amount or name == "CPU"}


def in_words(amounts: Mapping[str, float]) -> str:
    """Return CPUs and GPUs as people read them."""
    return " and ".join(counted(amount, name) for name, amount in amounts.items())
