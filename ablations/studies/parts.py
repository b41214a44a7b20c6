"""Parts: which part of dynamic convolution does the work, and does one part need another?

A factorial: softmax or not, annealing of τ or not, two kernels or four, the projections alone or every convolution of
the blocks, in all sixteen combinations. No published table of its own. A plain sigmoid has no temperature, so that
without a softmax the weights are sigmoid(z/τ): every combination can then be annealed. Four combinations are trainings
of *temperature*, *kernels* and *placement*. Command: `python run_ablation.py run parts --preset quick`. Expected time:
quick (3 seeds, 48 trainings), about 15 minutes on two cores, an hour on a slow and busy machine; small, about 10 hours
by calculation. Expected result: at quick each effect is within ± 0.4 points of zero, so that no part does a point's
worth of the work.
"""

from __future__ import annotations

from ablations.claims import Claim, Contrast
from ablations.factorial.declaration import Factorial, Level, TwoLevelFactor
from ablations.factorial.design import NONE
from ablations.spec.parts import BLOCKS
from ablations.studies._networks import ANNEALING, constant
from ablations.study import Study

_FACTORIAL = Factorial(
    factors={
        "softmax": TwoLevelFactor(
            off=Level(label="sigmoid(z/τ)", changes={"model.normalization": "tempered_sigmoid"}),
            on=Level(label="softmax(z/τ)", changes={"model.normalization": "softmax"}),
        ),
        "annealing": TwoLevelFactor(
            off=Level(label="τ = 1", changes=constant(1)),
            on=Level(label="τ = 30 → 1", changes=ANNEALING),
        ),
        "kernels": TwoLevelFactor(
            off=Level(label="K = 2", changes={"model.num_kernels": 2}),
            on=Level(label="K = 4", changes={"model.num_kernels": 4}),
        ),
        "placement": TwoLevelFactor(
            off=Level(label="projections", changes={"model.where": {"role": ["projection"]}}),
            on=Level(label="all three", changes={"model.where": BLOCKS.as_mapping()}),
        ),
    },
)


def _with(on: str, off: str = "") -> tuple[str, ...]:
    """Return the combinations in which the factor `on` is on, and the factor `off` is off if it is named."""
    names = []
    for name, levels in _FACTORIAL.design.combinations.items():
        if levels[on] == 1 and (not off or levels[off] == -1):
            names.append(name)
    return tuple(names)


def _without(factor: str) -> tuple[str, ...]:
    return tuple(name for name, levels in _FACTORIAL.design.combinations.items() if levels[factor] == -1)


def _helps(factor: str) -> tuple[Contrast, ...]:
    """Return the contrast that is the main effect of a factor."""
    return (Contrast(better=_with(factor), worse=_without(factor)),)


def _does_more(factor: str, other: str) -> Contrast:
    """Return the contrast that is the difference of two main effects: combinations with both or neither cancel."""
    return Contrast(better=_with(factor, off=other), worse=_with(other, off=factor))


STUDY = Study(
    name="parts",
    title="Which part does the work",
    question=(
        "Which part of dynamic convolution does the work: weights that sum to one, annealing, the number of kernels or "
        "the placement? And does a part depend on another?"
    ),
    finding=(
        "Near-uniform attention early in training gains most; more kernels and more dynamic convolutions add about a "
        "point each, and weights that sum to one are easier to learn."
    ),
    factorial=_FACTORIAL,
    # What a file leaves out, as it follows from the factorial.
    reference=NONE,
    columns=_FACTORIAL.columns,
    variants=_FACTORIAL.variants(NONE),
    # The paper's differences between two and four kernels, and between one placement and all, are 1.2 and 1.3 points.
    size_of_interest=1.0,
    claims=(
        # Published as a difference of 5.1 points, several times that of any other part.
        Claim(
            name="annealing helps",
            statement="Annealing τ from 30 to 1 is better than τ = 1, on average over the other parts.",
            primary=True,
            contrasts=_helps("annealing"),
        ),
        Claim(
            name="annealing does more than kernels and placement",
            statement="Annealing gains more than going from two kernels to four, or from the projections to all three.",
            contrasts=(_does_more("annealing", "kernels"), _does_more("annealing", "placement")),
        ),
        Claim(
            name="a sum of one helps",
            statement="Softmax weights, which sum to one, are better than sigmoids, on average over the other parts.",
            contrasts=_helps("softmax"),
        ),
        Claim(
            name="four kernels beat two",
            statement="K = 4 is more accurate than K = 2, on average over the other parts.",
            contrasts=_helps("kernels"),
        ),
        Claim(
            name="all three beat the projections",
            statement="Making all three convolutions dynamic beats the projections alone, on average over the others.",
            contrasts=_helps("placement"),
        ),
    ),
)
