"""The runs folder: state of each node, attempts, launches, failures, and JSON files that are read with a schema and
written whole. The disk is the truth; MLflow is written by `runners.tracking`.
"""
