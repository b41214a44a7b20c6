"""This package reads results that were measured elsewhere: from a CSV file, or from an MLflow experiment of anybody's.

`source` says which of both an address names and reads it; `cells` puts what was read into the cells of a study. What a
study of our own has tracked is read in `reports.collect.runs`.
"""
