"""Variance: how much of the spread between repeats comes from initial weights, order, and the validation split?

No published table: the question is that of Bouthillier et al. 2021, "Accounting for variance in machine learning
benchmarks". Each row trains one and the same network under several seeds and lets one source of randomness vary; the
reference lets all of them vary together. Command: `python run_ablation.py run variance --preset quick`. Expected time:
quick (9 seeds, 36 trainings), about 10 minutes on two cores, by calculation; small, about 5 hours likewise. Expected
result: each source alone spreads the accuracy about as widely as all of them together, since any small change takes a
short training elsewhere.
"""

from __future__ import annotations

from ablations.studies._networks import ANNEALING
from ablations.study import Scale, Study, Variant

_FIXED = 1000
"""No trial of a study has this seed, so that no row repeats a training of another one."""

_SAME_WEIGHTS = {"train.weights_seed": _FIXED}
_SAME_ORDER = {"train.order_seed": _FIXED}
_SAME_SPLIT = {"data.split_seed": _FIXED}
_EACH_SPLIT = {"data.split_seed": "trial"}

STUDY = Study(
    name="variance",
    title="Where the variance comes from",
    question=(
        "How much of the spread between repeats comes from the initial weights, from the order and augmentation of "
        "the images, and from the choice of the validation images?"
    ),
    reference="everything",
    compares="variances",
    baseline=ANNEALING,
    finding=(
        "In the benchmarks of Bouthillier et al. (2021) the choice of the data varies a result most, and the initial "
        "weights alone vary it less."
    ),
    # A variance takes more repeats than a mean, and there is one network to train.
    scales={"quick": Scale(seeds=9)},
    variants=(
        Variant(name="everything", label="everything varies", changes=_EACH_SPLIT),
        Variant(name="weights", label="initial weights alone", changes={**_SAME_ORDER, **_SAME_SPLIT}),
        Variant(name="order", label="order and augmentation alone", changes={**_SAME_WEIGHTS, **_SAME_SPLIT}),
        Variant(name="split", label="validation split alone", changes={**_SAME_WEIGHTS, **_SAME_ORDER, **_EACH_SPLIT}),
    ),
)
