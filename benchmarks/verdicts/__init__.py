"""This package simulates results of known truth, to count how often reports are right about them.

`tables` is about one report: coverage, false stars, verdicts. `looks` is about a run until its claims are decided.
`python -m benchmarks.verdicts` prints the tables of docs/explanation/ and of docs/until-decided.md.
"""
