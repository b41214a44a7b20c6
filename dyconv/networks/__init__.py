"""This package builds whole networks, describes their layers, and makes the layers that a placement selects dynamic.

`models` holds the registry of names, `backbones` the networks behind them. `conversion` makes a network dynamic:
`obstacles` tells what it refuses, `initialisation` fills the new kernels. `adoption` takes over the dynamic layers of
timm's own networks. `description` and `roles` describe layers,
`placement` selects them. Layers themselves are in `dyconv.layers`, their computation is in `dyconv.kernels`.
"""
