"""What runs in a worker process: the task it is given, one node measured, settings proposed by an optimiser, and
checks before a launch. How workers are started is in `runners.dispatch`.
"""
