"""Resolution: at which input resolutions of the network does attention matter?

Published table: `resolution` (DY-MobileNetV2 ×0.5, K = 4, ImageNet, 112 to 7 px): attention only at 7 px 57.3,
everywhere 69.4, everywhere but at 7 px 50.9, nowhere 36.0. The rows are the paper's, mapped to however many
resolutions the network at hand has: attention on from the deepest resolution upwards, everywhere, from the
shallowest downwards, nowhere; where it is off, kernels are averaged. Evaluation only: its trainings are two
variants of *temperature*. Command: `python run_ablation.py run resolution --preset quick`. Expected time: quick,
about 5 minutes on two cores; small, about 1 hour. Expected result: the paper's finding that the deep half matters
more; at quick it came out the other way (docs/presets.md).
"""

from __future__ import annotations

from ablations.claims import Claim, at_least_as_good_as, better_than
from ablations.spec.names import input_resolutions
from ablations.spec.parts import Intervention, Placement
from ablations.spec.trial import TrialSpec
from ablations.studies._networks import INSPECT, INSPECTED_SCALES, NETWORKS
from ablations.study import Study, Variant

_PUBLISHED_LEVELS = 5


def build(base: TrialSpec) -> Study:
    """Return the study for the network and image size of `base`.

    Raises:
        StudyError: If the resolutions of the network cannot be known without building it.
    """
    image_size = base.data.facts.image_size
    sizes = input_resolutions(base.model.name, base.model.model_dump(), image_size)
    return Study(
        name="resolution",
        title="Attention per input resolution",
        question="At which input resolutions of the network does attention matter?",
        networks=NETWORKS,
        inspect=INSPECT,
        scales=INSPECTED_SCALES,
        reference="all",
        published="resolution",
        finding="Attention matters most at the deep, low-resolution layers; at the shallow ones it adds little.",
        columns=tuple(f"{size}²" for size in sizes),
        variants=tuple(_rows(sizes)),
        claims=tuple(_claims(len(sizes))),
    )


def _rows(sizes: tuple[int, ...]) -> list[Variant]:
    levels = len(sizes)
    rows: list[Variant] = []
    for n in range(1, levels):
        rows.append(_row(f"deepest_{n}", sizes, sizes[-n:]))
    rows.append(_row("all", sizes, sizes))
    for n in range(levels - 1, 0, -1):
        rows.append(_row(f"shallowest_{n}", sizes, sizes[:n]))
    rows.append(_row("none", sizes, ()))
    return rows


def _claims(levels: int) -> list[Claim]:
    claims = [
        Claim(
            name="attention everywhere is better than nowhere",
            statement="The trained network needs its attention: averaging the kernels everywhere is worse.",
            primary=True,
            contrasts=better_than("all", "none"),
        )
    ]
    half = levels // 2
    if half:
        claims.append(
            Claim(
                name="the deep half matters more than the shallow half",
                statement="Attention at the low resolutions alone is better than at the high resolutions alone.",
                contrasts=better_than(f"deepest_{half}", f"shallowest_{half}"),
            )
        )
        claims.append(
            Claim(
                name="attention at the highest resolution adds little",
                statement="Averaging the kernels at the highest resolution alone loses less than the size of interest.",
                contrasts=at_least_as_good_as(f"deepest_{levels - 1}", "all"),
            )
        )
    return claims


def _row(name: str, sizes: tuple[int, ...], enabled: tuple[int, ...]) -> Variant:
    cells = dict.fromkeys(sizes, "–") | dict.fromkeys(enabled, "✓")
    off = tuple(size for size in sizes if size not in enabled)
    label = f"at {', '.join(map(str, enabled))} px"
    intervention = None
    if not enabled:
        label = "nowhere"
        # Without a placement it is the same evaluation as the row "average" of the study *aggregation*, and is shared.
        intervention = Intervention(aggregation="average")
    elif off:
        intervention = Intervention(aggregation="average", where=Placement(resolution=off))
    published = name
    # A published row only means the same if the network has the paper's five resolutions.
    if len(sizes) != _PUBLISHED_LEVELS and name not in ("all", "none"):
        published = f"{name} of {len(sizes)}"
    return Variant(name=name, label=label, cells=tuple(cells.values()), intervention=intervention, published=published)
