"""This package runs in worker processes: its task names one node, which it measures, with proposed settings if it must.

Checks before a launch (`preflight`) run there too, as they need torch. `runners.dispatch` starts the workers.
"""
