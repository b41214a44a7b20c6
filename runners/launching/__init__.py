"""Carries out a plan: the session around a launch, the launch, its queue, the choice of nodes to run again, and the
results of tuning and searches. Options and exit codes are in `runners.cli`, running one node is in `runners.workers`.
"""
