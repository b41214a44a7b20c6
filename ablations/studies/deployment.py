"""Deployment: does attention survive lower precision, bfloat16 and int8?

No published table: the paper measures in float32. The static and the dynamic network are deployed with constant weights
(`dyconv.deployable`) and measured in bfloat16 and in int8, as docs/deploy.md says; each row is compared with the same
network in float32, so that the loss of the dynamic network stands beside that of the static one. Evaluation only: its
trainings are two variants of *temperature*. Command: `python run_ablation.py run deployment --preset quick`. Expected
time: quick, about 3 minutes on two cores, by calculation; small, about 1 hour likewise, nearly all of it the trainings
of *temperature*. Expected result: int8 costs either network a few tenths of a point, as one short training of each did
(docs/deploy.md), and bfloat16 less, which these intervals can hardly tell from none.
"""

from __future__ import annotations

from ablations.claims import Claim, at_least_as_good_as
from ablations.spec.parts import Intervention
from ablations.studies._networks import ANNEALED, STATIC
from ablations.study import InspectedNetwork, Scale, Study, Variant

STUDY = Study(
    name="deployment",
    title="Deployment",
    question="Does attention survive lower precision, and does a dynamic network lose more by it than a static one?",
    networks=(InspectedNetwork(name="static", label="static", changes=STATIC), ANNEALED),
    inspect=("static", "annealed"),
    # As many as *temperature* trains of both networks.
    scales={"quick": Scale(seeds=5)},
    reference="float32",
    finding="Attention, kernels and activations of eight bits keep the accuracy of the network.",
    variants=(
        Variant(name="float32"),
        Variant(name="bfloat16", intervention=Intervention(precision="bfloat16")),
        Variant(name="int8", intervention=Intervention(precision="int8")),
    ),
    claims=(
        Claim(
            name="int8 keeps the accuracy",
            statement="Weights and activations of eight bits lose less than the size of interest.",
            primary=True,
            contrasts=at_least_as_good_as("int8", "float32"),
        ),
        Claim(
            name="bfloat16 keeps the accuracy",
            statement="Weights and activations in bfloat16 lose less than the size of interest.",
            contrasts=at_least_as_good_as("bfloat16", "float32"),
        ),
    ),
)
