"""This module spells the settings that several studies share, so that their trainings are the same and shared too."""

from __future__ import annotations

from typing import Any

from ablations.study import InspectedNetwork, Scale

STATIC: dict[str, Any] = {"model.layer": "static"}

ANNEALING: dict[str, Any] = {
    "train.temperature.schedule": "linear",
    "train.temperature.start": 30.0,
    "train.temperature.end": 1.0,
}
"""τ from 30 to 1, the paper's best; the preset says over how many epochs."""


def constant(tau: float) -> dict[str, Any]:
    """Return the settings of a constant temperature."""
    return {"train.temperature.schedule": "constant", "train.temperature.start": float(tau)}


ANNEALED = InspectedNetwork(name="annealed", label="τ = 30 → 1", changes=ANNEALING)
TAU_1 = InspectedNetwork(name="tau_1", label="τ = 1", changes=constant(1))
TAU_30 = InspectedNetwork(name="tau_30", label="τ = 30", changes=constant(30))

NETWORKS = (ANNEALED, TAU_1, TAU_30)
INSPECT = ("annealed", "tau_1")
"""A short training shows the pattern far more clearly at τ = 1; the paper's own choice is `--set inspect=tau_30`."""

INSPECTED_SCALES = {"quick": Scale(seeds=9)}
"""Interventions spread more from one network to the next than trainings do, and there are only two to train."""
