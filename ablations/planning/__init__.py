"""From studies and what a user asks to a plan: rows, nodes, tuning and searches, and study lint.

Everything is computed from its arguments; nothing here runs a node, and only tuned values are read from files.
"""
