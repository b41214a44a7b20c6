"""This package builds whole networks, describes their layers, and makes the layers that a placement selects dynamic.

Backbones and the registry of models are here. Layers themselves are in `dyconv.layers`, their computation is in
`dyconv.kernels`.
"""
