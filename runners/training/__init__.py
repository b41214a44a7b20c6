"""This package trains and measures one network: the loop, checkpoints, optimiser, evaluation, several devices.

It does not know plans or nodes; `runners.workers` calls it for a node.
"""
