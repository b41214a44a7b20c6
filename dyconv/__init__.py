"""Dynamic convolution: layers, the networks made of them, and what an experiment does to them.

This package imports nothing of the project's others. Its public names are those listed here.
"""

from dyconv.aggregation import AggregationContext, available_aggregations, get_aggregation, register_aggregation
from dyconv.attention import AttentionBranch
from dyconv.conversion import make_dynamic
from dyconv.description import LayerInfo, describe_layers
from dyconv.errors import (
    AggregationError,
    ArgumentError,
    ConversionError,
    DyconvError,
    ModelError,
    PlacementError,
    ShapeError,
)
from dyconv.functional import dynamic_conv2d
from dyconv.inspection import AttentionRecorder, record_attention
from dyconv.intervention import intervene
from dyconv.layers import DynamicConv2d, DynamicLayer, dynamic_layers, set_forward_step, set_temperature
from dyconv.models import BackboneSpec, available_models, build_model, register_model
from dyconv.placement import Depth, Name, Placement, Resolution, Role, placement_from_dict
from dyconv.schedules import ConstantTemperature, LinearAnnealing, TemperatureSchedule

__all__ = [
    "AggregationContext",
    "AggregationError",
    "ArgumentError",
    "AttentionBranch",
    "AttentionRecorder",
    "BackboneSpec",
    "ConstantTemperature",
    "ConversionError",
    "Depth",
    "DyconvError",
    "DynamicConv2d",
    "DynamicLayer",
    "LayerInfo",
    "LinearAnnealing",
    "ModelError",
    "Name",
    "Placement",
    "PlacementError",
    "Resolution",
    "Role",
    "ShapeError",
    "TemperatureSchedule",
    "available_aggregations",
    "available_models",
    "build_model",
    "describe_layers",
    "dynamic_conv2d",
    "dynamic_layers",
    "get_aggregation",
    "intervene",
    "make_dynamic",
    "placement_from_dict",
    "record_attention",
    "register_aggregation",
    "register_model",
    "set_forward_step",
    "set_temperature",
]
