"""This package reads MLflow, and nothing else does: `store` reads runs and `tracked_runs` says which of several counts.

`runs`, `compared_runs`, `search` and `tuning` make of them what reports, comparisons, searches and checks need. What
follows from results is in `reports.analysis`.
"""
