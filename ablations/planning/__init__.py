"""This package makes plans of studies and a user's request: rows, nodes, tuning and searches, and study lint.

Everything is computed from its arguments. Nothing here runs a node, and only tuned values and searches are read from
files.
"""
