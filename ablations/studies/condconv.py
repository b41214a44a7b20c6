"""CondConv: is attention that sums to one, with K = 4, better than sigmoid routing with K = 8?

Published table: `condconv` (MobileNetV2, ImageNet): ×0.5 CondConv 68.4 with 15.5 M parameters, dynamic 69.9 with
4.0 M. Both are trained here. Command: `python run_ablation.py run condconv --preset quick`. Expected time: quick (2
seeds), about 1 minute on two cores after *temperature*; small, about 2 hours. Expected result: within the noise of
a few seeds.
"""

from __future__ import annotations

from ablations.claims import Claim, better_than
from ablations.studies._networks import ANNEALING, STATIC
from ablations.study import Scale, Study, Variant

STUDY = Study(
    name="condconv",
    title="Against CondConv",
    question="Is dynamic convolution with 4 kernels better than CondConv with 8?",
    reference="condconv",
    published="condconv",
    finding="Dynamic convolution is more accurate with half the kernels and 26 to 40 % of the parameters.",
    variants=(
        Variant(name="static", changes=STATIC),
        Variant(
            name="condconv",
            label="CondConv, K = 8",
            changes={"model.layer": "condconv", "model.num_kernels": 8},
            published="condconv_0.5",
        ),
        Variant(
            name="dynamic",
            label="dynamic, K = 4",
            # Also what the preset has: the label says it, so that no override may change it.
            changes={**ANNEALING, "model.num_kernels": 4},
            published="dynamic_0.5",
            differs_in=("model.layer", "model.num_kernels"),
        ),
    ),
    claims=(
        Claim(
            name="dynamic convolution beats CondConv",
            statement="Dynamic convolution with K = 4 is more accurate than CondConv with K = 8.",
            primary=True,
            contrasts=better_than("dynamic", "condconv"),
        ),
    ),
    scales={"quick": Scale(seeds=2)},
)
