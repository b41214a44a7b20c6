"""Placement: which convolutions of the bottleneck should be dynamic?

Published table: `placement` (DY-MobileNetV2 ×0.5, K = 4, ImageNet): none 65.4, expansion (C1) 67.4, depthwise (C2)
67.4, projection (C3) 68.2, two of the three 68.4 to 68.7, all 69.4. Each row is a training; none and all are shared
with *temperature*. Command: `python run_ablation.py run placement --preset quick`. Expected time: quick (the single
placements, all and none, 2 seeds), about 1 minute on two cores; small, about 4 hours. Expected result: within the
noise.
"""

from __future__ import annotations

from ablations.claims import Claim, better_than, worse_than
from ablations.spec.parts import RoleName
from ablations.studies._networks import ANNEALING, STATIC
from ablations.study import Scale, Study, Variant

_ROLES: dict[str, RoleName] = {"c1": "expansion", "c2": "depthwise", "c3": "projection"}
_PUBLISHED_ROWS = (("c1",), ("c2",), ("c3",), ("c1", "c3"), ("c2", "c3"), ("c1", "c2"), ("c1", "c2", "c3"))


def _row(keys: tuple[str, ...]) -> Variant:
    cells = dict.fromkeys(_ROLES, "–") | dict.fromkeys(keys, "✓")
    changes = dict(ANNEALING)
    # All three are every convolution of the blocks: said as the preset says it, so that the training is shared.
    if len(keys) < len(_ROLES):
        changes["model.where"] = {"role": [_ROLES[key] for key in keys]}
    label = " + ".join(keys).upper()
    return Variant(name="_".join(keys), label=label, cells=tuple(cells.values()), changes=changes)


_DYNAMIC_ROWS = tuple(map(_row, _PUBLISHED_ROWS))
_DYNAMIC_NAMES = [row.name for row in _DYNAMIC_ROWS]
_SINGLE_AND_ALL = ("none", "c1", "c2", "c3", "c1_c2_c3")


STUDY = Study(
    name="placement",
    title="Which convolutions are dynamic",
    question="Which convolutions of the bottleneck (C1 expansion, C2 depthwise, C3 projection) should be dynamic?",
    reference="none",
    published="placement",
    columns=("C1", "C2", "C3"),
    finding="Every placement is better than the static network, C3 is the best single one, and all three are best.",
    variants=(
        Variant(name="none", label="static", cells=("–", "–", "–"), changes=STATIC),
        *_DYNAMIC_ROWS,
    ),
    claims=(
        # What the table is there to show; which placement is best is a matter of one point.
        Claim(
            name="every placement is better than static",
            statement="Making any of the three convolutions dynamic improves on the static network.",
            primary=True,
            contrasts=worse_than("none", *_DYNAMIC_NAMES),
        ),
        Claim(
            name="all three are best",
            statement="Making all three convolutions dynamic is better than making one or two dynamic.",
            contrasts=better_than("c1_c2_c3", *_DYNAMIC_NAMES[:-1]),
        ),
        Claim(
            name="the projection is the best single placement",
            statement="If only one convolution is dynamic, it should be the 1×1 projection.",
            contrasts=better_than("c3", "c1", "c2"),
        ),
    ),
    scales={
        "smoke": Scale(variants=_SINGLE_AND_ALL),
        "quick": Scale(variants=_SINGLE_AND_ALL, seeds=2),
        "evening": Scale(variants=_SINGLE_AND_ALL),
    },
)
