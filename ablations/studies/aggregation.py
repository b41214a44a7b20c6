"""Aggregation: does it matter how the K kernels are mixed, once the network is trained?

Published table: `aggregation` (DY-MobileNetV2 ×0.5, K = 4, ImageNet): attention 69.4, average 36.0, shuffle across
images 27.3, shuffle per image 14.8, max 0.1. Evaluation only: its trainings are two variants of *temperature*.
Command: `python run_ablation.py run aggregation --preset quick`. Expected time: quick, about 5 minutes on two
cores; small, about 1 hour. Expected result: attention first, max last; the order between is clear on the τ = 1
network and faint on the annealed one, whose attention a short training leaves almost uniform.
"""

from __future__ import annotations

from ablations.claims import Claim, better_than, worse_than
from ablations.spec.parts import Intervention
from ablations.studies._networks import INSPECT, INSPECTED_SCALES, NETWORKS
from ablations.study import Study, Variant

STUDY = Study(
    name="aggregation",
    title="Kernel aggregation",
    question="Does a trained network need its kernels mixed by attention fitted to each image?",
    networks=NETWORKS,
    inspect=INSPECT,
    scales=INSPECTED_SCALES,
    reference="attention",
    published="aggregation",
    finding=(
        "Every other way to aggregate the kernels loses accuracy: input dependence matters (average), several kernels "
        "are needed for one input (max), which kernel gets which weight is learned (shuffle per image), and the "
        "attention fits its own image (shuffle across images)."
    ),
    variants=(
        Variant(name="attention"),
        Variant(name="average", intervention=Intervention(aggregation="average")),
        Variant(name="max", intervention=Intervention(aggregation="max")),
        Variant(
            name="shuffle_per_image",
            label="shuffle per image",
            intervention=Intervention(aggregation="shuffle_per_image"),
        ),
        Variant(
            name="shuffle_across_images",
            label="shuffle across images",
            intervention=Intervention(aggregation="shuffle_across_images"),
        ),
    ),
    claims=(
        Claim(
            name="attention is better than every other aggregation",
            statement="Mixing the kernels by attention beats average, max and both shuffles on the trained network.",
            primary=True,
            contrasts=better_than("attention", "average", "max", "shuffle_per_image", "shuffle_across_images"),
        ),
        Claim(
            name="max is the worst",
            statement="Keeping only the kernel with the largest weight is worse than every other aggregation.",
            contrasts=worse_than("max", "attention", "average", "shuffle_per_image", "shuffle_across_images"),
        ),
        Claim(
            name="attention fits its own image",
            statement="The attention of another image of the batch is worse than the image's own.",
            contrasts=better_than("attention", "shuffle_across_images"),
        ),
        Claim(
            name="which kernel gets which weight matters",
            statement="Permuting an image's weights among the kernels is worse than averaging them.",
            contrasts=better_than("average", "shuffle_per_image"),
        ),
    ),
)
