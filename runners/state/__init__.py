"""This package reads and writes the runs folder: state of each node, attempts, launches, failures.

Its JSON files are read with a schema and written whole. The disk is the truth; `runners.tracking` writes MLflow.
"""
