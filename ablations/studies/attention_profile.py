"""Attention profile: where in the network is attention flat, and where is it sparse?

Published observation (no table): attention is flat at low levels, where the resolution is high, and sparse at high
levels. Measured here on the test split: the entropy of the attention per layer and per class, and the mean over the
shallow half of the layers minus that over the deep half. Its trainings are three variants of *temperature*.
Command: `python run_ablation.py run attention_profile --preset quick`. Expected time: none beyond *temperature*.
Expected result: a positive gap at τ = 1; at τ = 30 a short training leaves attention uniform everywhere.
"""

from __future__ import annotations

from ablations.claims import Claim, Contrast
from ablations.studies._networks import ANNEALING, constant
from ablations.study import Study, Variant
from ablations.vocabulary import ATTENTION_GAP

_TITLE = "Where attention is flat and where it is sparse"
_QUESTION = "Is attention flat at low levels and sparse at high levels of the trained network?"
_FINDING = "Attention is flat at low levels (high resolution) and sparse at high levels (low resolution)."

# A network that was trained elsewhere is looked into as it is: it has the temperature that it has.
ELSEWHERE = Study(
    name="attention_profile",
    title=_TITLE,
    question=_QUESTION,
    reference="as_trained",
    metric=ATTENTION_GAP,
    finding=_FINDING,
    variants=(Variant(name="as_trained", label="as trained"),),
    claims=(
        Claim(
            name="attention is flatter at low levels",
            statement="Entropy is higher in the shallow half of the layers than in the deep half.",
            primary=True,
            contrasts=(Contrast(better=("as_trained",)),),
        ),
    ),
)

STUDY = Study(
    name="attention_profile",
    title=_TITLE,
    question=_QUESTION,
    reference="tau_30",
    metric=ATTENTION_GAP,
    finding=_FINDING,
    variants=(
        Variant(name="tau_30", label="τ = 30", changes=constant(30)),
        Variant(name="annealed", label="τ = 30 → 1", changes=ANNEALING),
        Variant(name="tau_1", label="τ = 1", changes=constant(1)),
    ),
    claims=(
        # Annealing is what the paper trains its networks with.
        Claim(
            name="attention is flatter at low levels (annealed)",
            statement="On the annealed network, entropy is higher in the shallow half of the layers than in the deep.",
            primary=True,
            contrasts=(Contrast(better=("annealed",)),),
        ),
        Claim(
            name="attention is flatter at low levels (τ = 1)",
            statement="At τ = 1, entropy is higher in the shallow half of the layers than in the deep half.",
            contrasts=(Contrast(better=("tau_1",)),),
        ),
    ),
)
