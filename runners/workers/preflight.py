"""This module finds errors before anything is trained: in data sets, networks and placements. Imports torch.

`run` calls `find_problem` in a worker, so that the launcher need not import torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ablations.datasets.facts import DatasetFacts
from ablations.errors import AblationError, SpecError
from ablations.planning.nodes import Node, TrialNode
from ablations.planning.plan import Plan
from ablations.spec.parts import Intervention
from ablations.spec.trial import TrialSpec
from runners.plugins import load_plugins


def find_problem(plan: Plan, plugins: tuple[str, ...]) -> str | None:
    """Return the message of the error that `check` raises, or `None`: an answer that a worker can send."""
    load_plugins(plugins)
    try:
        check(plan)
    except AblationError as error:
        return str(error)
    return None


def check(plan: Plan) -> None:
    """Open every data set and build every distinct network of the missing nodes, under its interventions.

    Raises:
        AblationError: With the problem and its node, for example a placement that selects no layer.
    """
    import torch

    from dyconv.errors import DyconvError
    from runners.training.inspected import load_inspected
    from runners.training.network import build_network, input_size, intervened

    for node, interventions in _distinct(plan):
        try:
            facts = node.spec.data.facts if node.kind == "cost" else _open(node.spec)
            model = build_network(node.spec.model, facts, node.spec.seed)
            if node.kind == "network" and node.file is not None:
                load_inspected(node.file, model)
            for intervention in interventions:
                # No images yet: the ranges that are read off these are not used.
                images = torch.zeros(2, *input_size(facts))
                with intervened(model, intervention, facts, node.spec.seed, [images]):
                    pass
        except DyconvError as error:
            raise SpecError(f"{node.title}: {error}") from None


def _open(spec: TrialSpec) -> DatasetFacts:
    import torch

    from runners.training.network import open_source

    return open_source(spec, torch.device("cpu"), torch.contiguous_format).facts


def _with_values(nodes: Iterable[Node]) -> Iterator[Node]:
    """Yield the nodes, but one training per end of each factor in place of a group whose settings are proposed."""
    groups: set[str] = set()
    for node in nodes:
        if node.optimisation is None:
            yield node
        elif node.optimisation.fingerprint not in groups:
            groups.add(node.optimisation.fingerprint)
            # These trainings are never run, so it does no harm that the fingerprint is not theirs.
            yield TrialNode(node.fingerprint, node.spec)
            for specs in node.optimisation.ends().values():
                yield from (TrialNode(node.fingerprint, spec) for spec in specs)


def _distinct(plan: Plan) -> Iterator[tuple[Node, list[Intervention]]]:
    """Yield one node per distinct network and data, with the distinct interventions on it."""
    grouped: dict[str, tuple[Node, dict[str, Intervention]]] = {}
    for node in _with_values(plan.missing):
        # Nodes of cost are kept apart, as they need no images on the disk.
        parts = [str(node.kind == "cost"), node.spec.model.model_dump_json(), node.spec.data.model_dump_json()]
        if node.file is not None:
            parts.append(node.file.model_dump_json())
        key = "\n".join(parts)
        _, interventions = grouped.setdefault(key, (node, {}))
        if node.intervention is not None:
            interventions[node.intervention.model_dump_json()] = node.intervention
    for node, interventions_by_json in grouped.values():
        yield node, list(interventions_by_json.values())
