"""This module lists the names that a spec may mention, without the code behind them.

`ablations` imports no torch, so it cannot ask `dyconv` which networks and strategies exist. It keeps their names and
the few facts that planning needs. A test compares them with the registries of `dyconv`; a plug-in adds its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ablations.errors import StudyError


@dataclass(frozen=True)
class Network:
    """The facts of a network that planning needs.

    Attributes:
        title: The name that a table prints.
        options: The settings of `model.` that the network reads beside those of its layers.
        strides: The stride of the first block of each stage after the stem, in order; empty when unknown.
        blocks: Blocks per stage, before `model.depth` multiplies them.
        gated_blocks: Blocks that have a squeeze-and-excitation gate of their own, whatever the settings.
        has_head: Whether a 1 x 1 convolution follows the last block.
    """

    title: str
    options: frozenset[str] = frozenset()
    strides: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()
    gated_blocks: int = 0
    has_head: bool = False


_RESNET = frozenset({"stem_stride", "stem_kernel", "stem_pool", "squeeze_excitation"})
_V3 = frozenset({"width", "stem_stride", "dropout"})

NETWORKS: dict[str, Network] = {
    "mobilenet_v2": Network(
        title="MobileNetV2",
        options=frozenset({"width", "depth", "stem_stride", "dropout", "squeeze_excitation"}),
        strides=(1, 2, 2, 2, 1, 2, 1),
        blocks=(1, 2, 3, 4, 3, 3, 1),
        has_head=True,
    ),
    "mobilenet_v3_small": Network(
        title="MobileNetV3-Small", options=_V3, strides=(2, 2, 2, 2), gated_blocks=9, has_head=True
    ),
    "mobilenet_v3_large": Network(
        title="MobileNetV3-Large", options=_V3, strides=(1, 2, 2, 2, 2), gated_blocks=8, has_head=True
    ),
    "resnet10": Network(title="ResNet-10", options=_RESNET, strides=(1, 2, 2, 2), blocks=(1, 1, 1, 1)),
    "resnet18": Network(title="ResNet-18", options=_RESNET, strides=(1, 2, 2, 2), blocks=(2, 2, 2, 2)),
    "resnet50": Network(title="ResNet-50", options=_RESNET, strides=(1, 2, 2, 2), blocks=(3, 4, 6, 3)),
}

AGGREGATIONS: dict[str, str] = {
    "attention": "attention",
    "average": "average",
    "max": "max",
    "shuffle_per_image": "shuffle per image",
    "shuffle_across_images": "shuffle across images",
}
"""Aggregation strategies and how a table prints them."""

BUILT_IN_NETWORKS, BUILT_IN_AGGREGATIONS = frozenset(NETWORKS), frozenset(AGGREGATIONS)
"""The names that are the project's own, whatever plug-ins add."""

ROLES = (
    "stem",
    "head",
    "expansion",
    "depthwise",
    "projection",
    "conv1",
    "conv2",
    "conv3",
    "downsample",
    "squeeze_excitation",
    "other",
)
"""The roles of a convolution inside its block."""


LINTS: dict[str, str] = {
    "several-factors": "a variant differs from the reference in more factors than it says",
    "no-difference": "two variants are one and the same training or evaluation",
    "unread-setting": "no variant reads a setting of the study's baseline",
    "late-annealing": "the temperature reaches its end only with the end of the training",
    "unequal-size": "networks that are compared as equally large are not",
    "aliased-effects": "main effects of a fraction cannot be told from interactions of two factors",
    "few-seeds": "there are too few seeds for any difference to be significant",
    "repeated-images": "images of the test split are among those that are trained on",
    "selects-on-test": "what is to be selected is judged by the test split",
}
"""The objections of `ablations.planning.lint` to a study, by the code under which a study may allow each;
see `docs/lint.md`."""


def add_aggregation(name: str, title: str | None = None) -> None:
    """Make a plug-in's strategy known to specs; adding a name again changes nothing."""
    AGGREGATIONS.setdefault(name, title or name.replace("_", " "))


def add_network(name: str, network: Network | None = None) -> None:
    """Make a plug-in's network known to specs; adding a name again changes nothing."""
    NETWORKS.setdefault(name, network or Network(title=name))


def input_resolutions(name: str, options: Mapping[str, object], image_size: int) -> tuple[int, ...]:
    """Return the distinct input resolutions of a network's blocks in px, from the highest to the lowest.

    Args:
        options: Its settings; only `stem_stride` and `stem_pool` are read.

    Raises:
        StudyError: If the strides of the network are not known here.
    """
    # A network of timm may exist without being listed here.
    network = NETWORKS.get(name)
    if network is None or not network.strides:
        raise StudyError(
            f"the resolutions of network {name!r} are not known, so rows per resolution cannot be planned. "
            "Give its strides with ablations.spec.names.add_network(name, Network(title, strides=...))."
        )
    stride = options.get("stem_stride")
    # A stem has a stride of 2 unless it is set.
    stem = (stride if isinstance(stride, int) else 2) * (2 if options.get("stem_pool") else 1)
    return tuple(dict.fromkeys(_sizes(image_size, stem, network)))


def static_convolutions(name: str, depth: float | None, squeeze_excitation: bool | None) -> dict[str, int]:
    """Return the number of convolutions of a built-in network that the paper's rule leaves static, by role.

    Args:
        depth: Its `model.depth`; None where it has none.
    """
    network = NETWORKS[name]
    gates = network.gated_blocks
    if squeeze_excitation:
        # Rounded as in `dyconv.networks.backbones`: half up, and no stage is left without a block.
        gates += sum(max(1, math.floor(blocks * (depth or 1.0) + 0.5)) for blocks in network.blocks)
    # A gate is two 1 x 1 convolutions.
    counts = {"stem": 1, "head": int(network.has_head), "squeeze_excitation": 2 * gates}
    return {role: count for role, count in counts.items() if count}


def _sizes(image_size: int, stem_stride: int, network: Network) -> Iterator[int]:
    # Division that rounds up, as a convolution with padding does.
    size = -(-image_size // stem_stride)
    yield size
    for stride in network.strides:
        size = -(-size // stride)
        yield size
