"""The only reads of MLflow: opening a store, and its runs as tidy results, for reports, comparisons and searches.

What follows from results is in `reports.analysis`.
"""
