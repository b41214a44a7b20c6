"""This package accounts for the computing behind a report: every run of its studies, counted in the report or not.

`account` classifies the tracked runs, `accounted` holds them with their sums. Words and tables are made in
`reports.document.computing`.
"""
