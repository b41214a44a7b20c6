"""Sum to one: does it help that the attention weights sum to one?

No published table of its own; the paper argues that Σπ = 1 shrinks the space of aggregated kernels to their convex
hull, which makes attention easier to learn (insight 1). Compared here: softmax, sigmoid (no sum to one) and sigmoid
divided by its sum. Command: `python run_ablation.py run sum_to_one --preset quick`. Expected time: quick (2 seeds),
about 1 minute on two cores after *temperature*; small, about 3 hours. Expected result: within the noise of a few
seeds.
"""

from __future__ import annotations

from ablations.claims import Claim, better_than
from ablations.studies._networks import ANNEALING, constant
from ablations.study import Scale, Study, Variant

STUDY = Study(
    name="sum_to_one",
    title="Attention that sums to one",
    question="Does it help that the attention weights of an image sum to one?",
    reference="softmax",
    finding="Weights that sum to one are easier to learn than weights between 0 and 1.",
    variants=(
        Variant(name="softmax", label="softmax, τ = 30 → 1", changes=ANNEALING),
        Variant(name="softmax_tau_1", label="softmax, τ = 1", changes=constant(1)),
        # Only a softmax has a temperature, so these two rows set none.
        Variant(name="sigmoid", changes={"model.normalization": "sigmoid"}),
        Variant(
            name="normalized_sigmoid",
            label="sigmoid over its sum",
            changes={"model.normalization": "normalized_sigmoid"},
        ),
    ),
    claims=(
        Claim(
            name="softmax beats sigmoid",
            statement="Softmax attention, which sums to one, is more accurate than sigmoid attention, which does not.",
            primary=True,
            contrasts=better_than("softmax", "sigmoid"),
        ),
        Claim(
            name="dividing by the sum helps a sigmoid",
            statement="Sigmoid weights divided by their sum are more accurate than plain sigmoid weights.",
            contrasts=better_than("normalized_sigmoid", "sigmoid"),
        ),
    ),
    scales={"quick": Scale(seeds=2)},
)
