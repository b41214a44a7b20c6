"""This package reads MLflow, and nothing else does: it opens a store and returns its runs as tidy results.

What follows from results is in `reports.analysis`.
"""
