"""This package holds the dynamic layers, a file per kind.

`convolution` is the base of those that convolve. The convolution itself is computed in `dyconv.functional`, attention
in `dyconv.attention`, the strategy in `dyconv.aggregation`; which layers of a network are dynamic is decided in
`dyconv.networks`.
"""

from dyconv.layers.condconv import CondConv2d
from dyconv.layers.convolution import Convolution, ConvolutionLayer
from dyconv.layers.dcd import DCDConv2d
from dyconv.layers.dynamic import DynamicConv2d
from dyconv.layers.linear import DynamicLinear
from dyconv.layers.odconv import ODConv2d
from dyconv.layers.partly_dynamic import PartlyDynamicConv2d

__all__ = [
    "CondConv2d",
    "Convolution",
    "ConvolutionLayer",
    "DCDConv2d",
    "DynamicConv2d",
    "DynamicLinear",
    "ODConv2d",
    "PartlyDynamicConv2d",
]
