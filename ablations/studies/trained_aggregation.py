"""Trained aggregation: what if a strategy is used in training as well, not only on the trained network?

No published table: the paper changes the aggregation of a trained network only. Each strategy is compared with
itself as an intervention on a network trained with attention. Command: `python run_ablation.py run
trained_aggregation --preset quick`. Expected time: quick (2 seeds), about 1 minute on two cores after
*temperature*; small, about 5 hours. Expected result: a network trained with a strategy loses far less by it than
one that meets it only in the evaluation.
"""

from __future__ import annotations

from itertools import chain

from ablations.claims import Claim, better_than
from ablations.spec.names import AGGREGATIONS
from ablations.spec.parts import Intervention
from ablations.studies._networks import constant
from ablations.study import Scale, Study, Variant

_OTHERS = ("average", "max", "shuffle_per_image", "shuffle_across_images")
_AT = constant(1)
"""At τ = 1, where a short training shows what an intervention does."""


def _pair(strategy: str) -> tuple[Variant, Variant]:
    title = AGGREGATIONS[strategy]
    return (
        Variant(
            name=f"evaluated_{strategy}",
            label=f"{title} in evaluation only",
            cells=(title, "–", "✓"),
            # Trained with attention, so that these rows share one training with the reference.
            changes=_AT,
            intervention=Intervention(aggregation=strategy),
        ),
        Variant(
            name=f"trained_{strategy}",
            label=f"{title} in training too",
            cells=(title, "✓", "✓"),
            changes={**_AT, "model.aggregation": strategy},
        ),
    )


_QUICK = (
    "attention",
    "evaluated_average",
    "trained_average",
    "evaluated_shuffle_per_image",
    "trained_shuffle_per_image",
)

STUDY = Study(
    name="trained_aggregation",
    title="Aggregation in training and in evaluation",
    question="Does a network that is trained with another aggregation get used to it?",
    reference="attention",
    columns=("aggregation", "in training", "in evaluation"),
    finding="The paper changes the aggregation of a trained network only.",
    variants=(
        Variant(name="attention", cells=("attention", "✓", "✓"), changes=_AT),
        *chain.from_iterable(map(_pair, _OTHERS)),
    ),
    claims=(
        Claim(
            name="training with a strategy makes up for some of it",
            statement="A network trained with a strategy is better under it than one that meets it only afterwards.",
            primary=True,
            contrasts=tuple(c for name in _OTHERS for c in better_than(f"trained_{name}", f"evaluated_{name}")),
        ),
        Claim(
            name="attention is the best to train with",
            statement="Training with attention is better than training with any other aggregation.",
            contrasts=better_than("attention", *(f"trained_{name}" for name in _OTHERS)),
        ),
    ),
    scales={"quick": Scale(variants=_QUICK, seeds=2), "evening": Scale(variants=_QUICK, seeds=5)},
)
