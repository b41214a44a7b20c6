"""What can be known to go wrong before anything is trained: data sets, networks, placements. Imports torch."""

from __future__ import annotations

from collections.abc import Iterator

from ablations.errors import AblationError, SpecError
from ablations.planning import EvaluationNode, Plan
from ablations.spec import Intervention, TrialSpec


def check(plan: Plan) -> None:
    """Opens every data set and builds every distinct network of what is missing, under its interventions.

    Raises:
        AblationError: With what is wrong and where, for example a placement that selects no layer.
    """
    import torch

    from dyconv.errors import DyconvError
    from runners.network import build_network, intervened, open_source

    for title, spec, interventions in _distinct(plan):
        try:
            source = open_source(spec, torch.device("cpu"), torch.contiguous_format)
            model = build_network(spec.model, source.facts, spec.seed)
            for intervention in interventions:
                with intervened(model, intervention, source.facts, spec.seed):
                    pass
        except DyconvError as error:
            raise SpecError(f"{title}: {error}") from None
        except AblationError as error:
            raise type(error)(f"{title}: {error}") if type(error) is SpecError else error from None


def _distinct(plan: Plan) -> Iterator[tuple[str, TrialSpec, list[Intervention]]]:
    """Yields one trial per distinct network and data, with the distinct interventions on it."""
    grouped: dict[str, tuple[str, TrialSpec, dict[str, Intervention]]] = {}
    for node in plan.missing:
        spec = node.spec
        key = spec.model.model_dump_json() + spec.data.model_dump_json()
        _, _, interventions = grouped.setdefault(key, (node.title, spec, {}))
        if isinstance(node, EvaluationNode):
            interventions[node.intervention.model_dump_json()] = node.intervention
    for title, first, interventions in grouped.values():
        yield title, first, list(interventions.values())
