"""This package contains the verb `results`, and the tables and verdicts of studies as a terminal and as JSON show them.

`runners.api.study_results` computes the numbers. A run ends with the same tables.
"""
