"""Methods: which way to make a convolution depend on its input gains most, for its parameters and multiply-adds?

Published table: `methods`, put together of the paper's and of ODConv's (MobileNetV2, ImageNet): ×0.5 static 65.4,
CondConv 68.4, dynamic 69.9; by ODConv's authors static 64.30, ODConv 1× 68.06, 4× 70.23. Published differences are
gains over the static network of the same authors. Squeeze-and-excitation, DCD, signed weights and partly dynamic layers
have no published row for this network. Of every method the same convolutions are dynamic, those of the blocks, but DCD
leaves the depthwise ones static; ODConv's authors make the last 1×1 convolution dynamic too. ODConv's τ ends at 10
below the paper's scale, where it diverges at 1. Command: `python run_ablation.py run methods --preset quick`. Expected
time: quick (2 seeds), about 5 minutes on two cores after *temperature*; small, about 7 hours; paper has the widths ×0.5
and ×1.0. Expected result: within the noise of a few seeds.
"""

from __future__ import annotations

from typing import Any

from ablations.claims import Claim, at_least_as_good_as, better_than, worse_than
from ablations.spec.trial import TrialSpec
from ablations.studies._networks import ANNEALING, STATIC
from ablations.study import Scale, Study, Variant

_WIDTHS = (0.5, 1.0)
"""The widths at the paper's scale."""

_PUBLISHED_WIDTHS = (0.5, 0.75, 1.0)
_OTHER_WIDTH = 0.5
"""Networks of other widths stand beside the published ones of this width."""

_ODCONV: dict[str, Any] = {
    "model.layer": "odconv",
    "train.temperature.schedule": "linear",
    "train.temperature.start": 30.0,
}
"""τ from 30 to 1, as the end is 1 unless a preset has another one."""

# Measured: at τ = 1 its gradients grew from 50 to 1e13 within the second epoch of smoke, and at quick the loss of K = 4
# was NaN there; with an end of 10 (and of 5) they stay as they are in a static network.
_GENTLE = {"train.temperature.end": 10.0}

_METHODS: dict[str, tuple[str, dict[str, Any], str]] = {
    "static": ("static", STATIC, ""),
    "squeeze_excitation": ("SE", {**STATIC, "model.squeeze_excitation": True}, "model.squeeze_excitation"),
    "condconv": ("CondConv, K = 8", {"model.layer": "condconv", "model.num_kernels": 8}, "model.layer"),
    "dynamic": ("dynamic, K = 4", {"model.layer": "dynamic", "model.num_kernels": 4, **ANNEALING}, "model.layer"),
    "odconv_1": ("ODConv, K = 1", {**_ODCONV, "model.num_kernels": 1}, "model.layer"),
    "odconv_4": ("ODConv, K = 4", {**_ODCONV, "model.num_kernels": 4}, "model.layer"),
    "dcd": ("DCD", {"model.layer": "dcd"}, "model.layer"),
    "signed": (
        "dynamic, K = 4, signed weights",
        # Only a softmax has a temperature, so this row sets none.
        {"model.layer": "dynamic", "model.num_kernels": 4, "model.normalization": "signed"},
        "model.layer",
    ),
    "partly_dynamic": (
        "half of the channels dynamic, K = 4",
        {
            "model.layer": "partly_dynamic",
            "model.num_kernels": 4,
            # Also the default: the title says it, so that no override may change it.
            "model.options.share": 0.5,
            **ANNEALING,
        },
        "model.layer",
    ),
}
"""By the name of a method: its title, its settings and the factor in which it differs from the static network."""


def build(base: TrialSpec) -> Study:
    """Return the study for the width of `base`, and at the paper's scale for both published widths."""
    base_width = base.model.width or 1.0
    widths: tuple[float, ...] = (base_width,)
    # A network without a width has no other one.
    if base.model.width in _WIDTHS:
        widths = _WIDTHS
    variants: list[Variant] = []
    for width in widths:
        variants += _rows(width, base_width)
    prefix = _prefix(base_width)
    base_names = tuple(variant.name for variant in variants if variant.name.startswith(prefix))
    gentle = dict.fromkeys((f"{prefix}odconv_1", f"{prefix}odconv_4"), _GENTLE)
    return Study(
        name="methods",
        title="Ways to make a convolution dynamic",
        question="Which way to make a convolution depend on its input gains most, and at what cost?",
        reference=f"{prefix}static",
        published="methods",
        columns=("width", "method"),
        finding=(
            "Every method beats the static network. Four kernels that sum to one beat eight that do not; ODConv gains "
            "more than dynamic convolution with as many kernels, and with one kernel nearly as much."
        ),
        variants=tuple(variants),
        claims=tuple(_claims(prefix)),
        scales={
            "smoke": Scale(variants=base_names, rows=gentle),
            "quick": Scale(variants=base_names, rows=gentle, seeds=2),
            "evening": Scale(variants=base_names, rows=gentle, seeds=6),
            "small": Scale(variants=base_names, rows=gentle),
        },
        with_cost=True,
    )


def _prefix(width: float) -> str:
    return f"width_{width}_"


def _rows(width: float, base_width: float) -> list[Variant]:
    published_width, width_title = width, f"×{width:g}"
    if width not in _PUBLISHED_WIDTHS:
        published_width = _OTHER_WIDTH
        width_title += f"; published ×{_OTHER_WIDTH:g}"
    network: dict[str, Any] = {}
    # The network of the preset is said as the preset says it, so that its trainings are shared.
    if width != base_width:
        network = {"model.width": width}
    rows: list[Variant] = []
    for name, (title, changes, factor) in _METHODS.items():
        row = Variant(
            name=f"{_prefix(width)}{name}",
            label=f"×{width:g} {title}",
            cells=(width_title, title),
            changes={**network, **changes},
            differs_in=tuple(filter(None, (*network, factor))),
            published=f"mobilenet_v2_{published_width}_{name}",
        )
        rows.append(row)
    return rows


def _claims(prefix: str) -> list[Claim]:
    # Methods of which nobody published a number for this network are in the table, and in no claim.
    published = [f"{prefix}{name}" for name in ("dynamic", "condconv", "odconv_1", "odconv_4")]
    return [
        Claim(
            name="every published method beats static",
            statement="CondConv, dynamic convolution and ODConv are each more accurate than the static network.",
            primary=True,
            contrasts=worse_than(f"{prefix}static", *published),
        ),
        Claim(
            name="dynamic convolution beats CondConv",
            statement="Dynamic convolution with K = 4 is more accurate than CondConv with K = 8.",
            contrasts=better_than(f"{prefix}dynamic", f"{prefix}condconv"),
        ),
        Claim(
            name="four kernels of ODConv beat one",
            statement="ODConv with K = 4 is more accurate than with K = 1.",
            contrasts=better_than(f"{prefix}odconv_4", f"{prefix}odconv_1"),
        ),
        Claim(
            name="ODConv is at least as good as dynamic convolution",
            statement="With K = 4 each, ODConv is at least as good as dynamic convolution.",
            contrasts=at_least_as_good_as(f"{prefix}odconv_4", f"{prefix}dynamic"),
        ),
        Claim(
            name="one kernel of ODConv is about as good as four dynamic ones",
            statement="ODConv with K = 1 falls short of dynamic convolution with K = 4 by less than a point.",
            contrasts=at_least_as_good_as(f"{prefix}odconv_1", f"{prefix}dynamic"),
        ),
    ]
