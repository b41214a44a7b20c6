"""This module builds static backbones from torchvision's classes (with width, depth, stem and gates), and from timm.

A builder takes a `BackboneSpec` and returns a new network, drawn from the global generator. `models` is its caller: it
knows the names, checks options and makes the dynamic version.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torchvision import models as torchvision_models
from torchvision.models.mobilenetv2 import InvertedResidual, MobileNetV2
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops import SqueezeExcitation
from torchvision.ops.misc import Conv2dNormActivation

from dyconv.errors import ModelError, unknown_name
from dyconv.networks.initialisation import kaiming_fan_out
from dyconv.networks.roles import convolutions

_GATE_REDUCTION = {"mobilenet": 4, "resnet": 16}


@dataclass(frozen=True)
class BackboneSpec:
    """The options of a builder; the defaults are the published network on 3-channel images.

    `stem_kernel` and `stem_pool` None mean the network's own (7 and True in a ResNet).
    """

    num_classes: int
    width: float = 1.0
    depth: float = 1.0
    in_channels: int = 3
    stem_stride: int = 2
    dropout: float = 0.2
    squeeze_excitation: bool = False
    stem_kernel: int | None = None
    stem_pool: bool | None = None

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
        if self.stem_kernel not in (None, 3, 7):
            raise ModelError(f"stem_kernel must be 3 or 7, got {self.stem_kernel!r}")


def replace_stem(stem: nn.Conv2d, in_channels: int, stride: int, kernel_size: int | None = None) -> nn.Conv2d:
    """Return a first convolution like `stem` for other input channels, stride and size, drawn like torchvision's."""
    size: Any = stem.kernel_size
    padding: Any = stem.padding
    if kernel_size is not None:
        size, padding = kernel_size, kernel_size // 2
    new = nn.Conv2d(in_channels, stem.out_channels, size, stride, padding, bias=stem.bias is not None)
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


def mobilenet_v2(spec: BackboneSpec) -> nn.Module:
    """Return torchvision's MobileNetV2; with `squeeze_excitation` a gate follows the depthwise layer of each block."""
    # Width is torchvision's own option; depth changes the blocks of each stage.
    stages = [[t, c, scaled_blocks(n, spec.depth), s] for t, c, n, s in _MOBILENET_V2]
    model: nn.Module = MobileNetV2(spec.num_classes, spec.width, stages, dropout=spec.dropout)
    _replace_mobile_stem(model, spec)
    if spec.squeeze_excitation:
        for block in _blocks(model, InvertedResidual):
            _gate_after_depthwise(block)
    return model


def mobilenet_v3_small(spec: BackboneSpec) -> nn.Module:
    """Return torchvision's MobileNetV3-Small, its tail not reduced."""
    return _mobilenet_v3(torchvision_models.mobilenet_v3_small, spec)


def mobilenet_v3_large(spec: BackboneSpec) -> nn.Module:
    """Return torchvision's MobileNetV3-Large, its tail not reduced."""
    return _mobilenet_v3(torchvision_models.mobilenet_v3_large, spec)


def _mobilenet_v3(build: Callable[..., nn.Module], spec: BackboneSpec) -> nn.Module:
    model = build(num_classes=spec.num_classes, width_mult=spec.width, dropout=spec.dropout)
    _replace_mobile_stem(model, spec)
    return model


def _replace_mobile_stem(model: nn.Module, spec: BackboneSpec) -> None:
    stem: Any = model.get_submodule("features.0")
    stem[0] = replace_stem(stem[0], spec.in_channels, spec.stem_stride)


def resnet10(spec: BackboneSpec) -> nn.Module:
    """Return torchvision's ResNet with one basic block per stage."""
    return _resnet(BasicBlock, (1, 1, 1, 1), spec)


def resnet18(spec: BackboneSpec) -> nn.Module:
    """Return torchvision's ResNet-18: two basic blocks per stage."""
    return _resnet(BasicBlock, (2, 2, 2, 2), spec)


def resnet50(spec: BackboneSpec) -> nn.Module:
    """Return torchvision's ResNet-50: 3, 4, 6 and 3 bottleneck blocks."""
    return _resnet(Bottleneck, (3, 4, 6, 3), spec)


def _resnet(block: type[nn.Module], blocks: Sequence[int], spec: BackboneSpec) -> nn.Module:
    """Return a ResNet; with `squeeze_excitation` a gate follows the last batch norm of each block, before the sum."""
    model: Any = ResNet(block, list(blocks), spec.num_classes)
    # The published stem is left as torchvision drew it, so that its random numbers stay those of torchvision.
    if (spec.in_channels, spec.stem_stride, spec.stem_kernel) != (3, 2, None):
        model.conv1 = replace_stem(model.conv1, spec.in_channels, spec.stem_stride, spec.stem_kernel)
    if spec.stem_pool is False:
        model.maxpool = nn.Identity()
    if spec.squeeze_excitation:
        last_norm = "bn2" if block is BasicBlock else "bn3"
        for unit in _blocks(model, block):
            norm: Any = getattr(unit, last_norm)
            setattr(unit, last_norm, nn.Sequential(norm, _gate(norm.num_features, "resnet")))
    return model  # type: ignore[no-any-return]


def _blocks(model: nn.Module, kind: type[nn.Module]) -> Iterator[nn.Module]:
    return (module for module in list(model.modules()) if isinstance(module, kind))


def _gate_after_depthwise(block: nn.Module) -> None:
    """Append a gate to the depthwise layer, its activation included, so that no convolution changes its name."""
    for layer in list(block.modules()):
        if isinstance(layer, Conv2dNormActivation) and layer[0].groups > 1:
            layer.append(_gate(layer[0].out_channels, "mobilenet"))


def _gate(channels: int, family: str) -> nn.Module:
    """Return torchvision's gate, drawn as its networks draw convolutions.

    The hidden width is C / 4 in a MobileNet, as in MobileNetV3, and C / 16 in a ResNet: Hu et al. 2018.
    """
    # Not below eight units, where C / 16 would leave next to nothing of a narrow layer.
    gate: nn.Module = SqueezeExcitation(channels, max(8, channels // _GATE_REDUCTION[family]))
    for conv in convolutions(gate).values():
        kaiming_fan_out(conv.weight, conv.bias)
    return gate


def timm_network(name: str, spec: BackboneSpec) -> nn.Module:
    """Return timm's network called `name`, untrained. A `stem_stride` of 2 leaves its stem as it is.

    Raises:
        ModelError: timm is not installed or has no such network, or a `stem_stride` of 1 that does not fit its stem.
    """
    try:
        import timm
    except ImportError as error:
        raise ModelError(f"model 'timm/{name}' needs timm: pip install 'dyconv-ablations[timm]'") from error
    if not timm.is_model(name):
        raise ModelError(_unknown_in_timm(name, timm.list_models()))
    model: nn.Module = timm.create_model(name, num_classes=spec.num_classes, in_chans=spec.in_channels)
    if spec.stem_stride == 1:
        _set_stem_stride(name, model)
    return model


def _unknown_in_timm(name: str, timm_names: list[str]) -> str:
    """Return the message for an unknown name, without the list of a thousand known names."""
    return unknown_name("timm model", name, timm_names).partition(" Known:")[0] + " timm.list_models() lists them."


def _set_stem_stride(name: str, model: nn.Module) -> None:
    stem = next(iter(convolutions(model).values()), None)
    if stem is None or tuple(stem.stride) != (2, 2):
        problem = "no convolution"
        if stem is not None:
            problem = f"a first convolution of stride {tuple(stem.stride)}"
        raise ModelError(
            f"stem_stride=1 needs a stem of stride 2 to change, but 'timm/{name}' has {problem}: leave it out"
        )
    # The weights do not depend on the stride, so the layer can stay.
    stem.stride = (1, 1)
