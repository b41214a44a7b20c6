"""This package turns results into findings: statistics, differences, summaries, verdicts, canaries and importances.

Pure: nothing here reads a store, builds a table or draws.
"""
