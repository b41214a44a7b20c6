"""Kernels: how many kernels per layer does a dynamic network need?

Published table: `kernels` (MobileNetV2, 3 depths × 4 widths × static, K = 2, 4, 6, 8, ImageNet): K = 2 already
helps by 2.7 points on average, K = 4 by 3.8, K = 8 by 4.1. Command: `python run_ablation.py run kernels
--preset quick`. Expected time: quick (one network, static and K = 2, 4, 8), about 1 minute on two cores after
*temperature*, with which it shares two rows; small (K = 1, 2, 4, 6, 8), about 8 hours; paper, the whole grid.
Expected result: at a small scale the gain over the static network is within the noise of a few seeds.
"""

from __future__ import annotations

import itertools
from typing import Any

from ablations.claims import Claim, Contrast, better_than, worse_than
from ablations.spec.trial import TrialSpec
from ablations.studies._networks import ANNEALING, STATIC
from ablations.study import Scale, Study, Variant

_WIDTHS = (0.35, 0.5, 0.75, 1.0)
_DEPTHS = (1.0, 0.7, 0.5)
_KERNELS = (1, 2, 4, 6, 8)


def build(base: TrialSpec) -> Study:
    """Return the grid, and at the small presets the part of it that is the network of `base`."""
    base_size = (base.model.depth or 1.0, base.model.width or 1.0)
    networks = list(itertools.product(_DEPTHS, _WIDTHS))
    # A preset may have a network that is not in the published grid; its rows come last.
    if base_size not in networks:
        networks.append(base_size)
    rows: list[Variant] = []
    base_names: list[str] = []
    for size in networks:
        if size == base_size:
            base_rows = _rows(*size, {})
            base_names = [row.name for row in base_rows]
            rows += base_rows
        else:
            depth, width = size
            rows += _rows(depth, width, {"model.depth": depth, "model.width": width})
    few_names = [name for name in base_names if not name.endswith(("_k1", "_k6"))]
    return Study(
        name="kernels",
        title="Number of kernels",
        question="How many kernels per layer does a dynamic network need?",
        reference=f"{_prefix(*base_size)}static",
        published="kernels",
        columns=("depth", "width", "K"),
        finding="More kernels help, little beyond K = 4.",
        variants=tuple(rows),
        claims=tuple(_claims(_prefix(*base_size))),
        scales={
            "smoke": Scale(variants=tuple(few_names)),
            "quick": Scale(variants=tuple(few_names), seeds=2),
            "evening": Scale(variants=tuple(few_names)),
            "small": Scale(variants=tuple(base_names)),
        },
        with_cost=True,
    )


def _prefix(depth: float, width: float) -> str:
    return f"depth_{depth}_width_{width}_"


def _rows(depth: float, width: float, changes: dict[str, Any]) -> list[Variant]:
    """Return the rows of one network; `changes` make it out of the preset's network, and are empty for that itself."""
    # Beyond the network of the preset, a row differs from the reference in its size as well as in its layers.
    differs = (*changes, "model.layer") if changes else ()
    static = Variant(
        name=f"{_prefix(depth, width)}static",
        label=f"depth {depth:g} ×{width:g} static",
        cells=(f"{depth:g}", f"×{width:g}", "static"),
        changes={**changes, **STATIC},
        differs_in=differs,
    )
    rows = [static]
    for kernels in _KERNELS:
        dynamic = Variant(
            name=f"{_prefix(depth, width)}k{kernels}",
            label=f"depth {depth:g} ×{width:g} K={kernels}",
            cells=(f"{depth:g}", f"×{width:g}", str(kernels)),
            changes={**changes, "model.num_kernels": kernels, **ANNEALING},
            differs_in=differs,
        )
        rows.append(dynamic)
    return rows


def _claims(prefix: str) -> list[Claim]:
    return [
        Claim(
            name="more kernels than one help",
            statement="Two, four and eight kernels are each more accurate than the static network.",
            primary=True,
            contrasts=worse_than(f"{prefix}static", f"{prefix}k2", f"{prefix}k4", f"{prefix}k8"),
        ),
        Claim(
            name="four kernels are better than two",
            statement="K = 4 is more accurate than K = 2.",
            contrasts=better_than(f"{prefix}k4", f"{prefix}k2"),
        ),
        Claim(
            name="K from 4 to 8 adds less than K from 2 to 4",
            statement="Going from K = 4 to K = 8 adds less than going from K = 2 to K = 4 does.",
            # k4 − k2 > k8 − k4. So it is for all twelve published networks, of which one gains 1.1 points beyond K = 4.
            contrasts=(Contrast(better=(f"{prefix}k4",), worse=(f"{prefix}k2", f"{prefix}k8")),),
        ),
    ]
