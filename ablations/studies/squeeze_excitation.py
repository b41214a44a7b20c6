"""Squeeze-and-excitation: does attention over kernels do more than attention over channels?

Published beside it: an independent re-implementation of ResNet-18 (`reimplementation`): static 70.25, SE 70.98,
dynamic 72.76. Compared here on the preset's own network. Command: `python run_ablation.py run squeeze_excitation
--preset quick`. Expected time: quick (2 seeds), about 1 minute on two cores after *temperature*; small, about 3
hours. Expected result: within the noise of a few seeds.
"""

from __future__ import annotations

from ablations.claims import Claim, better_than
from ablations.studies._networks import ANNEALING, STATIC
from ablations.study import Scale, Study, Variant

_SE = {"model.squeeze_excitation": True}

STUDY = Study(
    name="squeeze_excitation",
    title="Attention over kernels or over channels",
    question="Does attention over kernels do more than squeeze-and-excitation, and do the two add up?",
    reference="static",
    published="reimplementation",
    finding="Dynamic convolution gains more than squeeze-and-excitation does.",
    variants=(
        Variant(name="static", changes=STATIC),
        Variant(name="squeeze_excitation", label="SE", changes={**STATIC, **_SE}),
        Variant(name="dynamic", changes=ANNEALING),
        Variant(
            name="both",
            label="dynamic + SE",
            changes={**ANNEALING, **_SE},
            # It has to differ in both to ask whether they add up.
            differs_in=("model.layer", "model.squeeze_excitation"),
        ),
    ),
    claims=(
        Claim(
            name="dynamic beats squeeze-and-excitation",
            statement="Dynamic convolution is more accurate than squeeze-and-excitation on the same network.",
            primary=True,
            contrasts=better_than("dynamic", "squeeze_excitation"),
        ),
        Claim(
            name="squeeze-and-excitation beats static",
            statement="Squeeze-and-excitation is more accurate than the static network.",
            contrasts=better_than("squeeze_excitation", "static"),
        ),
    ),
    scales={"quick": Scale(seeds=2), "evening": Scale(seeds=5)},
)
