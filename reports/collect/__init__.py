"""This package reads runs, from MLflow or from a bundle, and nothing else does.

`stores` opens what holds them, and `tracked_runs` says which of several runs of a node counts.

`runs`, `compared_runs`, `search` and `tuning` make of them what reports, comparisons, searches and checks need. What
follows from results is in `reports.analysis`.
"""
