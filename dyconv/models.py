"""Named backbones, static or dynamic: torchvision's own classes, with width, depth and stem for small images.

A builder returns the static network; `build_model` makes it dynamic where asked, so both are one definition.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torchvision.models.mobilenetv2 import MobileNetV2

from dyconv.conversion import kaiming_fan_out, make_dynamic
from dyconv.errors import ModelError, unknown_name
from dyconv.placement import Placement
from dyconv.randomness import seeded


@dataclass(frozen=True)
class BackboneSpec:
    """What a builder is asked for; the defaults are the published network on 3-channel images."""

    num_classes: int
    width: float = 1.0
    depth: float = 1.0
    in_channels: int = 3
    stem_stride: int = 2
    dropout: float = 0.2

    def __post_init__(self) -> None:
        for name, value in (("num_classes", self.num_classes), ("in_channels", self.in_channels)):
            if value < 1:
                raise ModelError(f"{name} must be at least 1, got {value!r}")
        for name, multiplier in (("width", self.width), ("depth", self.depth)):
            if not 0 < multiplier < math.inf:
                raise ModelError(f"{name} must be a positive multiplier, got {multiplier!r}")
        if self.stem_stride not in (1, 2):
            raise ModelError(f"stem_stride must be 1 or 2, got {self.stem_stride!r}")
        if not 0 <= self.dropout < 1:
            raise ModelError(f"dropout must be in [0, 1), got {self.dropout!r}")


Builder = Callable[[BackboneSpec], nn.Module]

_OPTIONAL = ("width", "depth", "dropout")
_BUILDERS: dict[str, tuple[Builder, frozenset[str]]] = {}


def register_model(name: str, *, options: Iterable[str] = ()) -> Callable[[Builder], Builder]:
    """Return a decorator that makes a builder of static networks available as `name`.

    `options` says which of width, depth and dropout the builder heeds; asking for another is an error.

    Raises:
        ModelError: `name` is taken, or an option is unknown.
    """
    for option in options:
        if option not in _OPTIONAL:
            raise ModelError(unknown_name("model option", option, _OPTIONAL))

    def register(builder: Builder) -> Builder:
        if name in _BUILDERS:
            raise ModelError(f"model {name!r} is registered already: choose another name")
        _BUILDERS[name] = (builder, frozenset(options))
        return builder

    return register


def available_models() -> list[str]:
    """Return the names of all registered backbones."""
    return sorted(_BUILDERS)


def build_model(
    name: str,
    num_classes: int,
    *,
    width: float = 1.0,
    depth: float = 1.0,
    in_channels: int = 3,
    stem_stride: int = 2,
    dropout: float = 0.2,
    num_kernels: int | None = None,
    reduction: int = 4,
    temperature: float = 30.0,
    aggregation: str = "attention",
    where: Placement | Mapping[str, Any] | None = None,
    input_size: tuple[int, int, int] | None = None,
    seed: int | None = None,
) -> nn.Module:
    """Return a new network called `name`: static if `num_kernels` is None, else dynamic with K kernels per layer.

    `width` multiplies channels and `depth` the number of blocks per stage; `stem_stride` 1 or 2 is the stride of
    the first convolution. The settings from `reduction` on are `make_dynamic`'s. With `seed` the initialisation
    leaves the global generator alone, and the static parts of a dynamic network are those of the static one.

    Raises:
        ModelError: an unknown name (the message names the nearest), a value that cannot work, or an option that
            this backbone cannot use.
        PlacementError, ArgumentError, AggregationError: as from `make_dynamic`.
    """
    if name not in _BUILDERS:
        raise ModelError(unknown_name("model", name, _BUILDERS))
    builder, options = _BUILDERS[name]
    spec = BackboneSpec(num_classes, width, depth, in_channels, stem_stride, dropout)
    _check_options(name, spec, options)
    with seeded(seed, "network"):
        model = builder(spec)
    if num_kernels is None:
        return model
    return make_dynamic(
        model,
        num_kernels=num_kernels,
        where=where,
        reduction=reduction,
        temperature=temperature,
        aggregation=aggregation,
        input_size=input_size,
        seed=seed,
    )


def _check_options(name: str, spec: BackboneSpec, options: frozenset[str]) -> None:
    default = BackboneSpec(spec.num_classes)
    for option in _OPTIONAL:
        value = getattr(spec, option)
        if option not in options and value != getattr(default, option):
            able = [n for n, (_, known) in _BUILDERS.items() if option in known]
            raise ModelError(
                f"model {name!r} has no {option}, got {option}={value!r}: leave it out, or use {', '.join(able)}"
            )


def replace_stem(stem: nn.Conv2d, in_channels: int, stride: int) -> nn.Conv2d:
    """Return a first convolution like `stem` for other input channels and stride, initialised like torchvision's."""
    bias = stem.bias is not None
    new = nn.Conv2d(in_channels, stem.out_channels, stem.kernel_size, stride, stem.padding, bias=bias)  # type: ignore[arg-type]
    kaiming_fan_out(new.weight, new.bias)
    return new


def scaled_blocks(blocks: int, depth: float) -> int:
    """Return the number of blocks of a stage under the depth multiplier: rounded half up, at least one."""
    return max(1, math.floor(blocks * depth + 0.5))


# Expansion, channels, blocks, stride per stage: Sandler et al. 2018, table 2.
_MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@register_model("mobilenet_v2", options=("width", "depth", "dropout"))
def mobilenet_v2(spec: BackboneSpec) -> nn.Module:
    """torchvision's MobileNetV2."""
    stages = [[t, c, scaled_blocks(n, spec.depth), s] for t, c, n, s in _MOBILENET_V2]
    model: nn.Module = MobileNetV2(spec.num_classes, spec.width, stages, dropout=spec.dropout)
    stem: Any = model.get_submodule("features.0")
    stem[0] = replace_stem(stem[0], spec.in_channels, spec.stem_stride)
    return model
