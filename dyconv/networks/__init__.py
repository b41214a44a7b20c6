"""Whole networks: backbones, the registry of models, descriptions of their layers, placements, and the conversion that
makes them dynamic. Layers themselves are in `dyconv.layers`, their computation is in `dyconv.kernels`.
"""
