"""What can be known to go wrong before anything is trained: data sets, networks, placements. Imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ablations.datasets.facts import DatasetFacts
from ablations.errors import AblationError, SpecError
from ablations.planning.nodes import EvaluationNode, Node, ProposedNode, TrialNode
from ablations.planning.plan import Plan
from ablations.spec.parts import Intervention
from ablations.spec.trial import TrialSpec
from runners.plugins import load_plugins


def find_problem(plan: Plan, plugins: tuple[str, ...]) -> str | None:
    """Returns what `check` raises as a sentence, or `None`: an answer that a worker can send."""
    load_plugins(plugins)
    try:
        check(plan)
    except AblationError as error:
        return str(error)
    return None


def check(plan: Plan) -> None:
    """Opens every data set and builds every distinct network of what is missing, under its interventions.

    Raises:
        AblationError: With what is wrong and where, for example a placement that selects no layer.
    """
    from dyconv.errors import DyconvError
    from runners.training.network import build_network, intervened

    for node, interventions in _distinct(plan):
        try:
            facts = node.spec.data.facts if node.kind == "cost" else _open(node.spec)
            model = build_network(node.spec.model, facts, node.spec.seed)
            for intervention in interventions:
                with intervened(model, intervention, facts, node.spec.seed):
                    pass
        except DyconvError as error:
            raise SpecError(f"{node.title}: {error}") from None


def _open(spec: TrialSpec) -> DatasetFacts:
    import torch

    from runners.training.network import open_source

    return open_source(spec, torch.device("cpu"), torch.contiguous_format).facts


def _settled(nodes: Iterable[Node]) -> Iterator[Node]:
    """Yields nodes, in place of those whose settings are proposed a training for each choice, once per group."""
    groups: set[str] = set()
    for node in nodes:
        if not isinstance(node, ProposedNode):
            yield node
        elif node.group not in groups:
            groups.add(node.group)
            yield TrialNode(node.fingerprint, node.spec)
            for name, factor in node.factors.items():
                for value in factor.ends:
                    yield TrialNode(node.fingerprint, node.with_values({name: value}))


def _distinct(plan: Plan) -> Iterator[tuple[Node, list[Intervention]]]:
    """Yields one node per distinct network and data, with the distinct interventions on it."""
    grouped: dict[str, tuple[Node, dict[str, Intervention]]] = {}
    for node in _settled(plan.missing):
        key = "\n".join([str(node.kind == "cost"), node.spec.model.model_dump_json(), node.spec.data.model_dump_json()])
        _, interventions = grouped.setdefault(key, (node, {}))
        if isinstance(node, EvaluationNode):
            interventions[node.intervention.model_dump_json()] = node.intervention
    for node, found in grouped.values():
        yield node, list(found.values())
