"""Temperature: does near-uniform attention early in training help?

Published table: `temperature` (DY-MobileNetV2 ×0.5, K = 4, ImageNet): static 65.4, τ = 1 64.8, 5 65.7, 10 67.5,
20 69.4, 30 69.4, 40 69.2, 30 → 1 over the first 10 epochs 69.9. Each row is a training. Command:
`python run_ablation.py run temperature --preset quick`. Expected time: quick, about 6 minutes on two cores; small,
about 5 hours. Expected result: at a small scale the differences are within the noise of a few seeds.
"""

from __future__ import annotations

from ablations.claims import Claim, at_least_as_good_as, better_than
from ablations.studies._networks import ANNEALING, STATIC, constant
from ablations.study import Scale, Study, Variant

_FEWER_ROWS = ("static", "tau_1", "tau_5", "tau_10", "tau_30", "annealed")

STUDY = Study(
    name="temperature",
    title="Softmax temperature",
    question="Does near-uniform attention early in training help, and should the temperature be annealed?",
    reference="tau_30",
    published="temperature",
    finding=(
        "τ = 1 is worse than a static network, τ = 30 is about best among constant temperatures, and annealing from "
        "30 to 1 in the early epochs is better still."
    ),
    scales={
        # Without two rows that no claim needs the paper's core takes minutes; five seeds decide twice as much as three.
        "quick": Scale(variants=_FEWER_ROWS, seeds=5),
        "evening": Scale(variants=_FEWER_ROWS),
    },
    variants=(
        Variant(name="static", changes=STATIC),
        *(Variant(name=f"tau_{tau}", label=f"τ = {tau}", changes=constant(tau)) for tau in (1, 5, 10, 20, 30, 40)),
        Variant(name="annealed", label="τ = 30 → 1", changes=ANNEALING),
    ),
    claims=(
        # The question of the table: everything else in it presupposes that the temperature matters.
        Claim(
            name="τ = 1 is worse than τ = 30",
            statement="Plain softmax attention (τ = 1) trains worse than nearly uniform attention (τ = 30).",
            primary=True,
            contrasts=better_than("tau_30", "tau_1"),
        ),
        Claim(
            name="τ = 30 is at least as good as a smaller τ",
            statement="Accuracy rises with τ up to about 20 to 30.",
            contrasts=at_least_as_good_as("tau_30", "tau_5", "tau_10"),
        ),
        Claim(
            name="annealing is at least as good as τ = 30",
            statement="Annealing τ from 30 to 1 early in training is at least as good as keeping it at 30.",
            contrasts=at_least_as_good_as("annealed", "tau_30"),
        ),
        Claim(
            name="annealed dynamic beats static",
            statement="A dynamic network whose τ is annealed is more accurate than the static one.",
            contrasts=better_than("annealed", "static"),
        ),
    ),
)
