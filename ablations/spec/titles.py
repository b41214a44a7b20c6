"""This module writes titles for runs, logs and tables: `DY-MobileNetV2 ×0.35 K=4 τ=30 · seed 0`."""

from __future__ import annotations

from collections.abc import Collection

from ablations.spec.layers import LAYERS
from ablations.spec.names import AGGREGATIONS, NETWORKS
from ablations.spec.parts import BLOCKS, Intervention, ModelSpec, Placement, TemperatureSpec
from ablations.spec.trial import TrialSpec

_DEPENDENTS = {
    "model.name": {"model.width", "model.depth"},
    "model.layer": {"model.num_kernels", "model.normalization", "model.aggregation", "model.options"},
}
"""Settings that have no meaning under some values of another one: a static network has no K, a ResNet no width."""


def model_title(model: ModelSpec, *, without: Collection[str] = ()) -> str:
    """Return the name of a network, with `DY-` in front if it is dynamic and `SE-` if it rescales its channels.

    Args:
        without: Settings that are not known yet. They and the settings that depend on them are left out.
    """
    unknown = _unknown(without)
    prefix = ""
    if "model.layer" not in unknown:
        prefix = LAYERS[model.layer].title
    if model.squeeze_excitation and "model.squeeze_excitation" not in unknown:
        prefix += "SE-"
    name = model.name
    if "model.name" in unknown:
        name = "network"
    elif name in NETWORKS:
        name = NETWORKS[name].title
    terms = [prefix + name]
    if model.width is not None and "model.width" not in unknown:
        terms.append(f"×{model.width:g}")
    # From here on the usual values are left out, so that a title names only what is special.
    if model.depth not in (None, 1.0) and "model.depth" not in unknown:
        terms.append(f"depth {model.depth:g}")
    if model.num_kernels is not None and "model.num_kernels" not in unknown:
        terms.append(f"K={model.num_kernels}")
    if model.normalization not in (None, "softmax") and "model.normalization" not in unknown:
        terms.append(str(model.normalization).replace("_", " "))
    if model.aggregation not in (None, "attention") and "model.aggregation" not in unknown:
        terms.append(AGGREGATIONS.get(str(model.aggregation), str(model.aggregation)))
    if model.options is not None and "model.options" not in unknown:
        terms += _option_titles(model)
    return " ".join(terms)


def _option_titles(model: ModelSpec) -> list[str]:
    """Return the options of a network's layers that differ from their defaults: `share=0.25`."""
    titles = []
    for option in LAYERS[model.layer].options:
        value = getattr(model.options, option.name, option.default)
        if value != option.default:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            titles.append(f"{option.name}={text}")
    return titles


def _unknown(without: Collection[str]) -> set[str]:
    """Return the unknown settings, with those that nothing may read once an unknown one has its value."""
    unknown = set(without)
    for setting, dependents in _DEPENDENTS.items():
        if setting in unknown:
            unknown |= dependents
    return unknown


def temperature_title(temperature: TemperatureSpec) -> str:
    """Return `τ=30` or `τ=30→1`."""
    if temperature.schedule == "linear":
        return f"τ={temperature.start:g}→{temperature.end:g}"
    return f"τ={temperature.start:g}"


def trial_title(spec: TrialSpec) -> str:
    """Return the name of a trial's run."""
    return f"{training_title(spec)} · seed {spec.seed}"


def training_title(spec: TrialSpec) -> str:
    """Return the name of a training whatever its seed."""
    terms = [model_title(spec.model), *_placing_terms(spec.model)]
    if spec.train.temperature is not None:
        terms.append(temperature_title(spec.train.temperature))
    return " · ".join([" ".join(terms), *_seed_terms(spec)])


def _seed_terms(spec: TrialSpec) -> list[str]:
    """Return the sources of randomness that have a seed of their own: `weights 7, split by seed`."""
    seeds = {"weights": spec.train.weights_seed, "order": spec.train.order_seed, "split": spec.data.split_seed}
    terms = []
    for source, seed in seeds.items():
        if seed == "trial":
            terms.append(f"{source} by seed")
        elif seed is not None:
            terms.append(f"{source} {seed}")
    return [", ".join(terms)] if terms else []


def network_title(spec: TrialSpec, file: str) -> str:
    """Return the name of a network that was trained elsewhere: its architecture, and the name of its file."""
    # Its temperature is in the file, and the one in the spec is none that it was trained with.
    terms = [model_title(spec.model), *_placing_terms(spec.model)]
    return f"{' '.join(terms)} · {file}"


def _placing_terms(model: ModelSpec) -> list[str]:
    terms = []
    # A reduction of 4 and dynamic layers in all blocks are the paper's choice.
    if model.reduction not in (None, 4):
        terms.append(f"C/{model.reduction}")
    if model.where is not None and model.where != BLOCKS:
        terms.append(f"at {placement_title(model.where)}")
    return terms


def intervention_title(intervention: Intervention) -> str:
    """Return an intervention in words, for example `average at 14, 7 px`."""
    terms = []
    if intervention.aggregation is not None:
        title = AGGREGATIONS.get(intervention.aggregation, intervention.aggregation)
        terms.append(title if intervention.attention is None else f"{title} of {intervention.attention} attention")
    if intervention.temperature is not None:
        terms.append(f"τ={intervention.temperature:g}")
    if intervention.precision is not None:
        terms.append(intervention.precision)
    if intervention.where is not None:
        terms.append(f"at {placement_title(intervention.where)}")
    return " ".join(terms) or "as trained"


def placement_title(where: Placement) -> str:
    """Return a placement in words."""
    conditions = []
    if where.role is not None:
        conditions.append(", ".join(where.role))
    if where.resolution is not None:
        conditions.append(", ".join(map(str, where.resolution)) + " px")
    if where.name is not None:
        conditions.append(", ".join(where.name))
    if where.depth is not None:
        conditions.append(f"depth {where.depth[0]:g} to {where.depth[1]:g}")
    if where.any_of is not None:
        conditions.append(" or ".join(f"({placement_title(inner)})" for inner in where.any_of))
    if where.all_of is not None:
        conditions.append(" and ".join(f"({placement_title(inner)})" for inner in where.all_of))
    if where.exclude is not None:
        conditions.append(f"not ({placement_title(where.exclude)})")
    # All keys of a placement must hold.
    return " and ".join(conditions) or "every layer"
