"""Titles that a person can read, for runs, logs and tables: `DY-MobileNetV2 ×0.35 K=4 τ=30 · seed 0`."""

from __future__ import annotations

from ablations.names import AGGREGATIONS, NETWORKS
from ablations.spec import BLOCKS, Intervention, ModelSpec, Placement, TemperatureSpec, TrialSpec

_PREFIXES = {"static": "", "dynamic": "DY-", "condconv": "CondConv-"}


def model_title(model: ModelSpec) -> str:
    """Returns the name of a network, with `DY-` in front if it is dynamic and `SE-` if it rescales its channels."""
    network = NETWORKS.get(model.name)
    prefix = _PREFIXES[model.layer] + ("SE-" if model.squeeze_excitation else "")
    words = [prefix + (network.title if network else model.name)]
    if model.width is not None:
        words.append(f"×{model.width:g}")
    if model.depth not in (None, 1.0):
        words.append(f"depth {model.depth:g}")
    if model.num_kernels is not None:
        words.append(f"K={model.num_kernels}")
    if model.normalization not in (None, "softmax"):
        words.append(str(model.normalization).replace("_", " "))
    if model.aggregation not in (None, "attention"):
        words.append(AGGREGATIONS.get(str(model.aggregation), str(model.aggregation)))
    return " ".join(words)


def temperature_title(temperature: TemperatureSpec) -> str:
    """Returns `τ=30` or `τ=30→1`."""
    if temperature.schedule == "linear":
        return f"τ={temperature.start:g}→{temperature.end:g}"
    return f"τ={temperature.start:g}"


def trial_title(spec: TrialSpec) -> str:
    """Returns the name of a trial's run."""
    words = [model_title(spec.model), *_layer_words(spec.model)]
    if spec.train.temperature is not None:
        words.append(temperature_title(spec.train.temperature))
    return f"{' '.join(words)} · seed {spec.seed}"


def _layer_words(model: ModelSpec) -> list[str]:
    """Returns what else tells the trainings of one network apart."""
    reduction = [f"C/{model.reduction}"] if model.reduction not in (None, 4) else []
    where = [f"at {placement_title(model.where)}"] if model.where not in (None, BLOCKS) else []
    return [*reduction, *where]


def intervention_title(intervention: Intervention) -> str:
    """Returns what an intervention does, for example `average at 14, 7 px`."""
    words = []
    if intervention.aggregation is not None:
        words.append(AGGREGATIONS.get(intervention.aggregation, intervention.aggregation))
    if intervention.temperature is not None:
        words.append(f"τ={intervention.temperature:g}")
    if intervention.where is not None:
        words.append(f"at {placement_title(intervention.where)}")
    return " ".join(words) or "as trained"


def placement_title(where: Placement) -> str:
    """Returns a placement in words."""
    words = []
    if where.role is not None:
        words.append(", ".join(where.role))
    if where.resolution is not None:
        words.append(", ".join(map(str, where.resolution)) + " px")
    if where.name is not None:
        words.append(", ".join(where.name))
    if where.depth is not None:
        words.append(f"depth {where.depth[0]:g} to {where.depth[1]:g}")
    if where.any_of is not None:
        words.append(" or ".join(f"({placement_title(part)})" for part in where.any_of))
    if where.all_of is not None:
        words.append(" and ".join(f"({placement_title(part)})" for part in where.all_of))
    if where.exclude is not None:
        words.append(f"not ({placement_title(where.exclude)})")
    return " and ".join(words) or "every layer"
