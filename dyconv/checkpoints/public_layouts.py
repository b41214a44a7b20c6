"""This module registers the layouts of this package, of torchvision and timm, and of public dynamic convolutions.

Layouts are tried from the last to the first, so that the more special ones stand below.
"""

from dyconv.checkpoints.layouts import KeyRule, Layout, register_layout

_BRANCH = "{layer}.attention_branch"
_SQUEEZE_BIAS, _EXCITE_BIAS = f"{_BRANCH}.squeeze.bias", f"{_BRANCH}.excite.bias"

SAME_NAMES = register_layout(
    Layout(
        name="same_names",
        title="a network without dynamic layers, under the names of the network itself",
        # Recognised by the keys that it shares with the network.
        recognised_by=(),
        is_dynamic=False,
    )
)

register_layout(
    Layout(
        name="timm",
        title="a network of timm without dynamic layers",
        recognised_by=("conv_stem.weight|stem.{rest}|stem_{rest}|stages.{rest}|blocks.{rest}",),
        is_dynamic=False,
    )
)

register_layout(
    Layout(
        name="torchvision",
        title="a network of torchvision (or timm's of the same names) without dynamic layers",
        recognised_by=("features.0.0.weight|layer1.0.conv1.weight", "classifier.{index}.weight|fc.weight"),
        is_dynamic=False,
    )
)

OURS = register_layout(
    Layout(
        name="ours",
        title="dynamic layers of this package",
        recognised_by=(f"{_BRANCH}.squeeze.weight|{_BRANCH}.fc.weight|{{layer}}.routing.weight",),
        saves_temperature=True,
    )
)

register_layout(
    Layout(
        name="timm_condconv",
        title="a CondConv network of timm, with one routing_fn per block and flat kernels (K, O C h w)",
        recognised_by=("{layer}.routing_fn.weight",),
        # Its weights are sigmoids, which have no temperature.
        reads_temperature=False,
    )
)

register_layout(
    Layout(
        name="attention_convolutions",
        title="attention.fc1 (no bias) and attention.fc2 as 1 x 1 convolutions, weight (K, O, C, h, w), bias (K, O)",
        recognised_by=("{layer}.attention.fc1.weight", "{layer}.attention.fc2.weight"),
        keys=(
            KeyRule("{layer}.attention.fc1.{value}", f"{_BRANCH}.squeeze.{{value}}", "matrix"),
            KeyRule("{layer}.attention.fc2.{value}", f"{_BRANCH}.excite.{{value}}", "matrix"),
        ),
        may_lack=(_SQUEEZE_BIAS, _EXCITE_BIAS),
        adapts=True,
    )
)

register_layout(
    Layout(
        name="attention_scores",
        title="attention.to_scores of two Linear layers, kernels_weights (K, O, C, h, w), kernels_bias (K, O)",
        recognised_by=("{layer}.attention.to_scores.0.weight", "{layer}.kernels_weights"),
        keys=(
            KeyRule("{layer}.attention.to_scores.0.{value}", f"{_BRANCH}.squeeze.{{value}}"),
            KeyRule("{layer}.attention.to_scores.2.{value}", f"{_BRANCH}.excite.{{value}}"),
            KeyRule("{layer}.kernels_weights", "{layer}.weight"),
            KeyRule("{layer}.kernels_bias", "{layer}.bias"),
        ),
        adapts=True,
    )
)

register_layout(
    Layout(
        name="odconv",
        title="ODConv's attention.fc, .bn, .channel_fc, .filter_fc, .spatial_fc, .kernel_fc, weight (K, O, C, h, w)",
        recognised_by=("{layer}.attention.channel_fc.weight", "{layer}.attention.bn.running_mean"),
        keys=(KeyRule("{layer}.attention.{part}.{value}", f"{_BRANCH}.{{part}}.{{value}}"),),
    )
)
