"""Has a worker time a network, from which `forecast` estimates its trainings and evaluations, or count its parameters.

Nothing is written but the time. A launcher imports this module, so torch is imported only in the worker, with `timing`.
"""

from __future__ import annotations

from ablations.planning.nodes import Node
from ablations.spec.trial import TrialSpec
from runners.estimates.estimate import Speed
from runners.plugins import load_plugins


def calibrate(node: Node, device: str, threads: int, plugins: tuple[str, ...]) -> tuple[str, Speed] | str:
    """Return the device, `cpu` or a model of GPU, and the speed of a node's network on it; or why it was not timed."""
    load_plugins(plugins)
    try:
        from runners.estimates import timing

        if node.kind == "cost":
            return timing.time_count(node.spec)
        if node.file is not None:
            return timing.time_measurement(node.spec, device, threads)
        return timing.time_training(node.spec, device, threads)
    except Exception as error:
        # A network of a plug-in may raise anything, and its exception need not be picklable.
        return f"{type(error).__name__}: {error}"


def count_parameters(spec: TrialSpec, plugins: tuple[str, ...]) -> int:
    """Return the number of parameters of a network, or 0 if it cannot be built."""
    load_plugins(plugins)
    from runners.training.network import build_network

    try:
        return sum(p.numel() for p in build_network(spec.model, spec.data.facts, spec.seed).parameters())
    except Exception:
        return 0
