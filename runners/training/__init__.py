"""Training and measuring one network: the loop, checkpoints, optimiser, evaluation, and several devices.

What a node of a plan is, is known in `runners.workers`.
"""
