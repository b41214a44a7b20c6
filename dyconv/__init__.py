"""Dynamic convolution: this package holds the layers, the networks, and the changes that experiments make.

It imports none of the project's other packages. Its public names are those listed here.
"""

from dyconv.aggregation import AggregationContext, available_aggregations, get_aggregation, register_aggregation
from dyconv.attention import AttentionBranch, available_normalizations
from dyconv.base import DynamicLayer, dynamic_layers, set_forward_seed, set_forward_step, set_temperature
from dyconv.checkpoints.layouts import KeyRule, Layout, available_layouts, register_layout
from dyconv.checkpoints.loading import load_checkpoint
from dyconv.checkpoints.report import LoadedTensor, LoadReport
from dyconv.cost import Cost, LayerCost, cost
from dyconv.deployment.replacement import deployable
from dyconv.errors import (
    AggregationError,
    ArgumentError,
    CheckpointError,
    ConversionError,
    DyconvError,
    ModelError,
    PlacementError,
    ShapeError,
)
from dyconv.functional import dynamic_conv2d, dynamic_linear
from dyconv.inspection import AttentionRecorder, record_attention
from dyconv.intervention import intervene
from dyconv.kernels.pooling import average_pool
from dyconv.latency import compare_latency
from dyconv.layers import (
    CondConv2d,
    ConvolutionLayer,
    DCDConv2d,
    DynamicConv2d,
    DynamicLinear,
    ODConv2d,
    PartlyDynamicConv2d,
)
from dyconv.layers.adopted import AdoptedCondConv2d
from dyconv.layers.kinds import LayerKind, LayerOption, available_layers, layer_kind, register_layer
from dyconv.networks.adoption import adopt
from dyconv.networks.backbones import BackboneSpec
from dyconv.networks.conversion import ConversionReport, conversion_report, make_dynamic
from dyconv.networks.description import LayerInfo, describe_layers
from dyconv.networks.models import available_models, build_model, model_options, register_model
from dyconv.networks.placement import Depth, Name, Placement, Resolution, Role, placement_from_dict
from dyconv.schedules import ConstantTemperature, LinearAnnealing

__all__ = [
    "AdoptedCondConv2d",
    "AggregationContext",
    "AggregationError",
    "ArgumentError",
    "AttentionBranch",
    "AttentionRecorder",
    "BackboneSpec",
    "CheckpointError",
    "CondConv2d",
    "ConstantTemperature",
    "ConversionError",
    "ConversionReport",
    "ConvolutionLayer",
    "Cost",
    "DCDConv2d",
    "Depth",
    "DyconvError",
    "DynamicConv2d",
    "DynamicLayer",
    "DynamicLinear",
    "KeyRule",
    "LayerCost",
    "LayerInfo",
    "LayerKind",
    "LayerOption",
    "Layout",
    "LinearAnnealing",
    "LoadReport",
    "LoadedTensor",
    "ModelError",
    "Name",
    "ODConv2d",
    "PartlyDynamicConv2d",
    "Placement",
    "PlacementError",
    "Resolution",
    "Role",
    "ShapeError",
    "adopt",
    "available_aggregations",
    "available_layers",
    "available_layouts",
    "available_models",
    "available_normalizations",
    "average_pool",
    "build_model",
    "compare_latency",
    "conversion_report",
    "cost",
    "deployable",
    "describe_layers",
    "dynamic_conv2d",
    "dynamic_layers",
    "dynamic_linear",
    "get_aggregation",
    "intervene",
    "layer_kind",
    "load_checkpoint",
    "make_dynamic",
    "model_options",
    "placement_from_dict",
    "record_attention",
    "register_aggregation",
    "register_layer",
    "register_layout",
    "register_model",
    "set_forward_seed",
    "set_forward_step",
    "set_temperature",
]
