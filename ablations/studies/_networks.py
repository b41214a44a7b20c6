"""The trained networks that the evaluation-only studies look into.

They are the same trainings as three variants of *temperature*, so the studies share them.
"""

from __future__ import annotations

from ablations.study import InspectedNetwork

ANNEALED = InspectedNetwork(
    name="annealed",
    label="τ = 30 → 1",
    changes={"train.temperature.schedule": "linear", "train.temperature.start": 30.0, "train.temperature.end": 1.0},
)
TAU_1 = InspectedNetwork(
    name="tau_1",
    label="τ = 1",
    changes={"train.temperature.schedule": "constant", "train.temperature.start": 1.0},
)
TAU_30 = InspectedNetwork(
    name="tau_30",
    label="τ = 30",
    changes={"train.temperature.schedule": "constant", "train.temperature.start": 30.0},
)

NETWORKS = (ANNEALED, TAU_1, TAU_30)
INSPECT = ("annealed", "tau_1")
"""A short training shows the pattern far more clearly at τ = 1; the paper's own choice is `--set inspect=tau_30`."""
