"""This package runs tasks as jobs of a SLURM cluster: its options, the dispatcher, the job and the queue.

Only this package knows submitit.
"""
