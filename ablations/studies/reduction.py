"""Reduction: how wide must the hidden layer of the attention branch be?

No published table: the paper uses a quarter of the channels throughout. Command: `python run_ablation.py run
reduction --preset quick`. Expected time: quick (2 seeds), about 1 minute on two cores after *temperature*; small,
about 4 hours. Expected result: no difference that a few seeds could show.
"""

from __future__ import annotations

from ablations.claims import Claim, same_as
from ablations.studies._networks import ANNEALING
from ablations.study import Scale, Study, Variant

_RATIOS = (1, 2, 4, 8, 16)
_SMALL = 0.5
"""Points of accuracy; a smaller difference is not worth its parameters."""

STUDY = Study(
    name="reduction",
    title="Reduction in the attention branch",
    question="How wide must the hidden layer of the attention branch be?",
    # A reduction of 4 is the default, so that the reference shares its training with other studies.
    reference="ratio_4",
    size_of_interest=_SMALL,
    finding="The paper uses a reduction of 4 without an ablation.",
    variants=tuple(
        Variant(name=f"ratio_{ratio}", label=f"C → C/{ratio}", changes={**ANNEALING, "model.reduction": ratio})
        for ratio in _RATIOS
    ),
    claims=(
        Claim(
            name="the reduction hardly matters",
            statement=f"A reduction of 4 differs by less than {_SMALL} points from none (1) and from 16.",
            primary=True,
            contrasts=same_as("ratio_4", "ratio_1", "ratio_16"),
        ),
    ),
    scales={
        "quick": Scale(variants=("ratio_1", "ratio_4", "ratio_16"), seeds=2),
        "evening": Scale(variants=("ratio_1", "ratio_4", "ratio_16"), seeds=5),
    },
)
