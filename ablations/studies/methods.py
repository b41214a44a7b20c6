"""Methods: which way to make a convolution depend on its input gains most, for its parameters and multiply-adds?

Published table: `methods`, put together of the paper's and of ODConv's (MobileNetV2, ImageNet): ×0.5 static 65.4,
CondConv 68.4, dynamic 69.9; by ODConv's authors static 64.30, ODConv 1× 68.06, 4× 70.23. Published differences are
gains over the static network of the same authors. Squeeze-and-excitation and signed weights have no published row for
this network. Command: `python run_ablation.py run methods --preset quick`. Expected time: quick (2 seeds), about 3
minutes on two cores after *temperature*; small, about 4 hours; paper has the widths ×0.5 and ×1.0. Expected result:
within the noise of a few seeds.
"""

from __future__ import annotations

from typing import Any

from ablations.claims import Claim, better_than
from ablations.spec.trial import TrialSpec
from ablations.studies._networks import ANNEALING, STATIC
from ablations.study import Scale, Study, Variant

_WIDTHS = (0.5, 1.0)
"""The widths at the paper's scale, and those of which all methods but the two below have published numbers."""

_PUBLISHED_WIDTHS = (0.5, 0.75, 1.0)
_OTHER_WIDTH = 0.5
"""Networks of other widths stand beside the published ones of this width."""

_METHODS: dict[str, tuple[str, dict[str, Any], str]] = {
    "static": ("static", STATIC, ""),
    "squeeze_excitation": ("SE", {**STATIC, "model.squeeze_excitation": True}, "model.squeeze_excitation"),
    "condconv": ("CondConv, K = 8", {"model.layer": "condconv", "model.num_kernels": 8}, "model.layer"),
    "dynamic": ("dynamic, K = 4", {"model.layer": "dynamic", "model.num_kernels": 4, **ANNEALING}, "model.layer"),
    "signed": (
        "dynamic, K = 4, signed weights",
        # Only a softmax has a temperature, so this row sets none.
        {"model.layer": "dynamic", "model.num_kernels": 4, "model.normalization": "signed"},
        "model.layer",
    ),
}
"""By the name of a method: its title, its settings and the factor in which it differs from the static network."""


def build(base: TrialSpec) -> Study:
    """Return the study for the width of `base`, and at the paper's scale for both published widths."""
    base_width = base.model.width or 1.0
    widths = (base_width,)
    # A network without a width has no other one.
    if base.model.width in _WIDTHS:
        widths = _WIDTHS
    variants: list[Variant] = []
    for width in widths:
        variants += _rows(width, base_width)
    prefix = _prefix(base_width)
    base_names = tuple(variant.name for variant in variants if variant.name.startswith(prefix))
    return Study(
        name="methods",
        title="Ways to make a convolution dynamic",
        question="Which way to make a convolution depend on its input gains most, and at what cost?",
        reference=f"{prefix}static",
        published="methods",
        columns=("width", "method"),
        finding="Every method beats the static network, and four kernels that sum to one beat eight that do not.",
        variants=tuple(variants),
        claims=tuple(_claims(prefix)),
        scales={
            "smoke": Scale(variants=base_names),
            "quick": Scale(variants=base_names, seeds=2),
            "small": Scale(variants=base_names),
        },
        with_cost=True,
    )


def _prefix(width: float) -> str:
    return f"width_{width}_"


def _rows(width: float, base_width: float) -> list[Variant]:
    published_width = _OTHER_WIDTH
    if width in _PUBLISHED_WIDTHS:
        published_width = width
    network: dict[str, Any] = {}
    # The network of the preset is said as the preset says it, so that its trainings are shared.
    if width != base_width:
        network = {"model.width": width}
    rows: list[Variant] = []
    for name, (title, changes, factor) in _METHODS.items():
        row = Variant(
            name=f"{_prefix(width)}{name}",
            label=f"×{width:g} {title}",
            cells=(f"×{width:g}", title),
            changes={**network, **changes},
            differs_in=tuple(filter(None, (*network, factor))),
            published=f"mobilenet_v2_{published_width}_{name}",
        )
        rows.append(row)
    return rows


def _claims(prefix: str) -> list[Claim]:
    return [
        Claim(
            name="every published method beats static",
            statement="CondConv and dynamic convolution are each more accurate than the static network.",
            primary=True,
            contrasts=(
                *better_than(f"{prefix}dynamic", f"{prefix}static"),
                *better_than(f"{prefix}condconv", f"{prefix}static"),
            ),
        ),
        Claim(
            name="dynamic convolution beats CondConv",
            statement="Dynamic convolution with K = 4 is more accurate than CondConv with K = 8.",
            contrasts=better_than(f"{prefix}dynamic", f"{prefix}condconv"),
        ),
    ]
