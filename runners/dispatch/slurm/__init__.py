"""Tasks as jobs of a SLURM cluster: options, submission, what a job carries, and the queue.

Only this package knows submitit.
"""
