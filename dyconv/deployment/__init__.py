"""This package makes a copy of a network whose weights are constant, for exporters, runtimes and quantisers.

`replacement` copies a network and replaces its dynamic layers, each by a module of torch's own operators that computes
the same. `kinds` says by which module. `quantisation` computes what such a copy does in int8. Training, interventions
and recordings need the network itself.
"""
